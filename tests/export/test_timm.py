"""The timm directory: opened in a process without this project, compared bit for bit; whole or not
there.
"""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_parts.encoders import build_encoder, encoder_hash, open_encoder
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export import export_encoder

CASES = {
    "resnet18_small": dict(name="resnet18", small=True, width=0.5, last_stage="layer3"),
    "mobilenetv2": dict(name="mobilenetv2_035", pad_type="same", mean=[0.5] * 3, std=[0.5] * 3),
    "vit_registers": dict(name="vit_small_patch14_reg4_dinov2", img_size=56, last_stage="block1"),
}
SIZE = 56

# Run by a bare interpreter: -I leaves the working directory and PYTHONPATH out, and the project is
# made unimportable.
STRANGER = """
import sys
sys.modules["ssl_parts"] = None
import timm, torch
from safetensors.torch import load_file, save_file
from timm.data import resolve_model_data_config
for folder in sys.argv[1:]:
    model = timm.create_model("local-dir:" + folder, pretrained=True).eval()
    config = resolve_model_data_config(model)
    images = load_file(folder + "/../images.safetensors")["images"]
    mean, std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        save_file({"pooled": model((images - mean) / std).contiguous()}, folder + "/../pooled.safetensors")
"""


def encoder_of(case):
    torch.manual_seed(3)
    encoder = build_encoder(**CASES[case])
    for module in encoder.modules():  # running statistics as after training
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked += 7
    return encoder.eval()


def test_a_stranger_gets_the_same_features(tmp_path):
    images = torch.rand(2, 3, SIZE, SIZE)
    folders, encoders = [], {}
    for case in CASES:
        encoders[case] = encoder_of(case)
        folders.append(export_encoder(encoders[case], tmp_path / case / "export", image_size=SIZE))
        save_file({"images": images}, tmp_path / case / "images.safetensors")
    subprocess.run(
        [sys.executable, "-I", "-c", STRANGER, *map(str, folders)], check=True, timeout=300
    )
    for case, encoder in encoders.items():
        with torch.no_grad():
            assert torch.equal(
                load_file(tmp_path / case / "pooled.safetensors")["pooled"], encoder(images).pooled
            ), case


@pytest.mark.parametrize("case", list(CASES))
def test_an_export_opens_as_the_same_encoder(case, tmp_path):
    encoder = encoder_of(case)
    out = export_encoder(encoder, tmp_path / "out", image_size=SIZE)
    again = open_encoder(out).eval()
    assert encoder_hash(again) == encoder_hash(encoder)
    images = torch.rand(1, 3, SIZE, SIZE)
    ours, theirs = encoder(images, encoder.stages), again(images, encoder.stages)
    assert all(torch.equal(ours.maps[stage], theirs.maps[stage]) for stage in encoder.stages)
    assert build_encoder(**{**CASES[case], "weights": out}).report.missing == []


def test_training_mode_and_device_of_the_source_are_left_alone(tmp_path):
    encoder = encoder_of("mobilenetv2").train()
    before = encoder_hash(encoder)
    export_encoder(encoder, tmp_path / "out", image_size=SIZE)
    assert encoder.training and encoder_hash(encoder) == before


def test_an_export_is_replaced_and_other_folders_are_not(tmp_path):
    out = tmp_path / "out"
    first, second = encoder_of("mobilenetv2"), build_encoder(**CASES["mobilenetv2"])
    export_encoder(first, out, image_size=SIZE)
    export_encoder(second, out, image_size=SIZE)
    assert encoder_hash(open_encoder(out)) == encoder_hash(second)
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("...")
    with pytest.raises(ConfigError, match="not an export"):
        export_encoder(first, precious)
    assert (precious / "chapter1.tex").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "thesis"]


def test_a_copy_with_other_features_is_not_called_done(tmp_path, monkeypatch):
    import ssl_parts.export.timm_dir as timm_dir

    def damaged(path, tensors):
        save_file(
            {
                name: value + 1e-3 if "conv_head" in name else value
                for name, value in tensors.items()
            },
            path,
        )

    monkeypatch.setattr(timm_dir, "save_sealed", damaged)
    with pytest.raises(WeightsError, match="other features at head, pooled"):
        export_encoder(encoder_of("mobilenetv2"), tmp_path / "out", image_size=SIZE)
    assert list(tmp_path.iterdir()) == []


def test_non_finite_weights_are_not_exported(tmp_path):
    encoder = encoder_of("mobilenetv2")
    encoder.model.conv_stem.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"non-finite weights \(model.conv_stem.weight\)"):
        export_encoder(encoder, tmp_path / "out")


def test_unknown_format(tmp_path):
    with pytest.raises(ConfigError, match=r"to='tim'.*choose timm"):
        export_encoder(encoder_of("mobilenetv2"), tmp_path / "out", to="tim")


def make_run(folder, encoder_settings, encoders):
    """A run directory as the trainer leaves it: base, one finished round, a second one in the
    middle.
    """
    import yaml

    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"encoder": encoder_settings, "data": {"name": "cub"}})
    )
    (folder / "results.json").write_text(
        json.dumps({"commit": "abc123", "rows": {"base": {"linear": 0.5}}})
    )
    for place in ("base", "round_000"):
        (folder / place).mkdir()
        save_file(encoders[place].state_dict(), folder / place / "encoder.safetensors")
    for step, copy in ((500, "old"), (1000, "new")):
        checkpoint = folder / "round_001" / "checkpoints" / f"step_{step:06d}"
        checkpoint.mkdir(parents=True)
        for which in ("student", "teacher"):
            state = encoders[f"{copy} {which}"].state_dict()
            state = {f"encoder.{name}": value for name, value in state.items()} | {
                "head.0.weight": torch.rand(2, 2)
            }
            save_file(state, checkpoint / f"{which}.safetensors")
    (folder / "round_001" / "checkpoints" / "last").write_text("step_001000\n")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = ("base", "round_000", "old student", "old teacher", "new student", "new teacher")
    encoders = {}
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        encoders[name] = build_encoder(
            "resnet18", small=True, width=0.25, last_stage="layer2", mean=[0.4] * 3, std=[0.3] * 3
        )
    settings = dict(
        name="resnet18",
        small=True,
        width=0.25,
        last_stage="layer2",
        weights="/was/here.pth",
        mean=None,
        std=None,
    )
    return make_run(tmp_path_factory.mktemp("runs") / "mine", settings, encoders), encoders


@pytest.mark.parametrize(
    ("place", "which", "expected"),
    [
        (".", "best", "round_000"),
        (".", "student", "new student"),
        (".", "teacher", "new teacher"),
        ("round_000", "best", "round_000"),
        ("base", "best", "base"),
        ("base/encoder.safetensors", "best", "base"),
        ("round_001", "best", "new student"),
        ("round_001/checkpoints/step_000500", "best", "old student"),
        ("round_001/checkpoints/step_000500", "teacher", "old teacher"),
    ],
)
def test_encoders_of_a_run(run, place, which, expected):
    folder, encoders = run
    assert encoder_hash(open_encoder(folder / place, which)) == encoder_hash(encoders[expected])


def test_a_run_is_exported_with_what_it_says_about_itself(run, tmp_path):
    folder, encoders = run
    out = export_encoder(folder, tmp_path / "out", image_size=64, facts={"licence": "apache-2.0"})
    assert encoder_hash(open_encoder(out)) == encoder_hash(encoders["round_000"])
    card = (out / "README.md").read_text()
    for said in (
        "license: apache-2.0",
        "abc123",
        "| base | 50.0 |",
        "| images | cub |",
        "| started from | here.pth |",
        "# mine",
        encoder_hash(encoders["round_000"]),
    ):
        assert said in card, said


def test_weights_of_a_run_go_into_an_encoder(run):
    folder, encoders = run
    encoder = build_encoder("resnet18", small=True, width=0.25, last_stage="layer2", weights=folder)
    assert encoder_hash(encoder) == encoder_hash(encoders["round_000"])


def test_folders_without_weights_say_what_was_looked_for(tmp_path):
    with pytest.raises(WeightsError, match=r"holds no weights: looked for model.safetensors"):
        open_encoder(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(WeightsError, match="does not say which network"):
        open_encoder(tmp_path / "bare.safetensors")


def test_the_newest_of_several_finished_rounds_is_the_result(run, tmp_path):
    folder, encoders = run
    copy = tmp_path / "two"
    for place, encoder in (("round_000", "base"), ("round_001", "round_000")):
        (copy / place).mkdir(parents=True)
        save_file(encoders[encoder].state_dict(), copy / place / "encoder.safetensors")
    (copy / "config.yaml").write_text((folder / "config.yaml").read_text())
    assert encoder_hash(open_encoder(copy)) == encoder_hash(encoders["round_000"])
