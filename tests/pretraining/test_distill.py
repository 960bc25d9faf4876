"""Part-crop self-distillation: the teacher by hand, the loss by numpy, and a run killed anywhere."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image
from tiny_run import contents, overrides

from ssl_parts.data import build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.errors import ConfigError
from ssl_parts.jobs import pretrain as pretrain_module
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.objectives import LossInputs, MethodName, Outputs, build_method
from ssl_parts.objectives.config import DistillConfig, ObjectiveConfig
from ssl_parts.parts import PartStore, StoreInfo
from ssl_parts.pretraining import phase
from ssl_parts.pretraining.phase_images import PhaseImages
from ssl_parts.recipes.load import load_recipe
from ssl_parts.views import ViewsConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = load_recipe("quickstart", overrides(tmp_path_factory.mktemp("run")))
    bank = build_bank(config.data, cache_dir=tmp_path_factory.mktemp("cache"))
    store = PartStore(StoreInfo(len(bank), 8, 4, background=0))
    ids_Rhw = torch.zeros(len(bank), 8, 8, dtype=torch.uint8)
    ids_Rhw[:, 2:6, 2:4], ids_Rhw[:, 2:6, 4:6] = 1, 2  # two parts of an object of half the side
    store.write(range(len(bank)), ids_Rhw)
    torch.manual_seed(0)
    return make_encoder(config.encoder), bank, store


# what stands for object and parts in the passes of the controls
WAYS = {
    "object": ["object"],
    "parts": ["object", "parts"],
    "random": ["random"],
    "corners": ["corners"],
    "none": [],
    "large": ["large", "large_flip"],
}


def prepared(data, folder, way, parts=True):
    encoder, bank, store = data
    images = PhaseImages(bank, store if parts else None, folder, Accelerator(cpu=True))
    distill = DistillConfig(passes=["image", "flip", *WAYS[way]], margin=1.0, detail=2.0)
    method = build_method(ObjectiveConfig(method=MethodName.distill, distill=distill))
    method.prepare(method.build_network(encoder), images)
    return method


def embed(encoder, pictures):
    pixels = np.stack([np.asarray(p, dtype=np.float32) for p in pictures]).transpose(0, 3, 1, 2)
    with torch.no_grad():
        return encoder.eval()(torch.from_numpy(pixels / 255)).pooled


def test_the_teacher_is_the_mean_of_embedded_crops_cut_by_pillow(data, tmp_path):
    encoder, bank, _ = data
    size, row = bank.size, 5
    detailed = bank.resized(2 * size).images([row])[0].permute(1, 2, 0).numpy()
    stored = Image.fromarray(bank.images([row])[0].permute(1, 2, 0).numpy())
    whole = [stored, stored.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    # the object covers cells 2..5 of 8; its parts have squares of a quarter of the image's side
    shares = {"object": [(2, 2, 6, 6)], "parts": [(2, 2, 6, 6), (2, 3, 4, 5), (4, 3, 6, 5)]}
    for name, boxes in shares.items():
        cut = [
            Image.fromarray(detailed)
            .crop(tuple(int(value * 2 * size / 8) for value in box))
            .resize((size, size), Image.Resampling.BICUBIC)
            for box in boxes
        ]
        method = prepared(data, tmp_path / name, name)
        expected = embed(encoder, whole + cut).mean(0)
        torch.testing.assert_close(method.teacher_RD[row], expected, atol=2e-3, rtol=1e-2)
    flipped = prepared(data, tmp_path / "none", "none", parts=False)
    torch.testing.assert_close(flipped.teacher_RD[row], embed(encoder, whole).mean(0))
    large = [Image.fromarray(detailed), Image.fromarray(detailed[:, ::-1])]
    expected = torch.cat([embed(encoder, whole), embed(encoder, large)]).mean(0)
    both = prepared(data, tmp_path / "large", "large", parts=False)
    torch.testing.assert_close(both.teacher_RD[row], expected, atol=1e-5, rtol=1e-4)


def test_controls_are_other_vectors_and_the_same_every_time(data, tmp_path):
    made = {way: prepared(data, tmp_path / way, way).teacher_RD for way in WAYS}
    for one in WAYS:
        again = prepared(data, tmp_path / f"{one} again", one).teacher_RD
        assert torch.equal(made[one], again)
        assert all(not torch.allclose(made[one], made[two]) for two in WAYS if two is not one)


def test_the_loss_is_the_cosine_of_standardised_vectors(data, tmp_path):
    method = prepared(data, tmp_path, "object")
    teacher = method.teacher_RD.numpy()
    rows = np.array([3, 3, 8])
    student = np.random.default_rng(0).normal(size=(3, teacher.shape[1])).astype(np.float32)
    mean, deviation = teacher.mean(0), np.maximum(teacher.std(0), 1e-3)
    s, t = (student - mean) / deviation, (teacher[rows] - mean) / deviation
    cosine = (s * t).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(t, axis=1)
    outputs = Outputs(pooled_ND=torch.from_numpy(student), map_NDHW=torch.zeros(3, 1, 1, 1))
    terms = method(LossInputs(student=outputs, teacher=outputs, rows_B=torch.from_numpy(rows)))
    assert float(terms["loss"]) == pytest.approx((1 - cosine).mean(), rel=1e-4)


def test_one_view_per_image(data, tmp_path):
    method, config = prepared(data, tmp_path, "none"), ViewsConfig(size=32, ids_size=8)
    plan = method.plan_views(6, config, 0, 0).select_rows(slice(2, 4))
    views = method.make_views(data[1].images([2, 3]), None, plan, config, 0, None)
    assert views.images_NCHW.shape == (2, 3, 32, 32)


def test_vectors_on_disk_are_taken_and_damaged_or_missing_parts_are_said(data, tmp_path):
    first = prepared(data, tmp_path, "object").teacher_RD
    assert torch.equal(prepared(data, tmp_path, "none").teacher_RD, first)
    with pytest.raises(
        ConfigError, match=r"objective\.distill\.passes=\[image,flip,object\] needs"
    ):
        prepared(data, tmp_path, "object", parts=False)


class Killed(BaseException):
    """Stands for SIGKILL."""


def run(folder):
    AcceleratorState._reset_state(True)
    more = [
        "objective.method=distill", "train.rounds=1", "train.interpolate=0.5", "train.freeze_stages=-2",
        "run.control=true", "run.arms=[distill_random,distill_corners]", "run.evaluate=false",
        "views.detail=1.5",
    ]  # fmt: skip
    pretrain(load_recipe("quickstart", overrides(folder, *more)))
    return contents(folder / "tiny")


def test_a_killed_run_ends_bit_equal_and_the_arms_train(tmp_path, monkeypatch):
    for name in ("write_report", "export_encoder"):  # they have tests of their own
        monkeypatch.setattr(pretrain_module, name, lambda *arguments, **options: None)
    expected = run(tmp_path / "unbroken")
    assert {"control_distill_random/encoder.safetensors"} < expected.keys()
    update, seen = phase.Trainer.update, []

    def killed(self, step):
        seen.append(step)
        if self.phase.name != "base" and len(seen) in (5, 8):
            raise Killed
        update(self, step)

    monkeypatch.setattr(phase.Trainer, "update", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            run(tmp_path / "killed")
    assert run(tmp_path / "killed") == expected
