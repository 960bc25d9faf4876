"""Part masks for a new image from an export alone: the same ids as discovery gave."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ssl_parts.encoders import build_encoder, encoder_hash
from ssl_parts.encoders.digests import MARK
from ssl_parts.errors import DataError, WeightsError
from ssl_parts.export import export_encoder
from ssl_parts.parts import (
    DatasetConfig,
    NoForegroundConfig,
    PerImageConfig,
    VotesConfig,
    discover_parts,
)
from ssl_parts.parts.model import _flat, _nested, load_part_model

SETTINGS = dict(name="resnet18", small=True, width=0.25, last_stage="layer3")
SIZE, IMAGES = 48, 10


class Bank:
    size = SIZE

    def __init__(self):
        generator = torch.Generator().manual_seed(2)
        coarse = torch.randint(0, 256, (IMAGES, 3, 6, 6), generator=generator).float()
        self.tensor = (
            F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 255).to(torch.uint8)
        )
        self.paths = [f"{i}.png" for i in range(IMAGES)]

    def __len__(self):
        return IMAGES

    def images(self, indices):
        return self.tensor[torch.from_numpy(np.asarray(indices))]


def encoder_of(seed):
    torch.manual_seed(seed)
    encoder = build_encoder(**SETTINGS)
    encoder.train()
    with torch.no_grad():
        for _ in range(20):
            encoder(Bank().tensor.float() / 255)  # statistics that suit the images
    return encoder.eval()


VOTES = VotesConfig(size=8, clusters=[4, 8])


def parts_config(kind=DatasetConfig, foreground=None, **changes):
    return kind(size=12, k=4, foreground=foreground or NoForegroundConfig(), **changes)


@pytest.fixture(scope="module")
def finder():
    return encoder_of(0)


def make_run(folder, config, finder, last):
    """Round 0's parts were found with the base encoder; the round ended with another one, which is
    exported.
    """
    for place, encoder in (("base", finder), ("round_000", last)):
        (folder / place).mkdir(parents=True)
        save_file(encoder.state_dict(), folder / place / "encoder.safetensors")
    (folder / "config.yaml").write_text(
        yaml.safe_dump({"encoder": SETTINGS, "data": {"name": "drawn", "size": SIZE}})
    )
    provenance = {"round": 0, "encoder": encoder_hash(finder)}
    return discover_parts(
        finder, Bank(), config, folder / "round_000" / "parts", provenance=provenance
    )


@pytest.mark.parametrize("foreground", [None, VOTES], ids=["none", "votes"])
def test_ids_of_discovery_come_back(foreground, finder, tmp_path):
    store = make_run(tmp_path / "run", parts_config(foreground=foreground), finder, encoder_of(1))
    out = export_encoder(tmp_path / "run", tmp_path / "out", image_size=SIZE)
    model = load_part_model(out)
    assert encoder_hash(model.encoder) == encoder_hash(finder) != encoder_hash(encoder_of(1))
    assert (model.k, model.background, model.scope) == (store.k, store.background, "dataset")
    assert torch.equal(model.ids(Bank().tensor), store.batch(range(IMAGES)))
    mask = model(Bank().tensor[3])
    assert mask.dtype == torch.uint8 and mask.shape == (SIZE, SIZE)
    # 48 px over a 12 x 12 grid: the middle of each cell
    assert torch.equal(mask[2::4, 2::4], store[3])


def test_clustering_of_each_image_by_itself(finder, tmp_path):
    store = make_run(tmp_path / "run", parts_config(PerImageConfig), finder, finder)
    model = load_part_model(export_encoder(tmp_path / "run", tmp_path / "out"))
    assert model.scope == "image"
    # number 0 has the seed of a new image
    assert torch.equal(model.ids(Bank().tensor[:1])[0], store[0])
    both = model.ids(Bank().tensor[[5, 0]])
    assert torch.equal(both[1], store[0])  # and its neighbours in the batch do not matter


def test_pca_is_kept(finder, tmp_path):
    config = parts_config(PerImageConfig, pca_dims=8)
    store = make_run(tmp_path / "run", config, finder, finder)
    model = load_part_model(export_encoder(tmp_path / "run", tmp_path / "out"))
    assert torch.equal(model.ids(Bank().tensor[:1])[0], store[0])


def test_the_encoder_is_kept_once_where_it_is_the_same(finder, tmp_path):
    make_run(tmp_path / "run", parts_config(), finder, finder)
    out = export_encoder(tmp_path / "run", tmp_path / "out")
    assert not (out / "parts" / "encoder").exists()
    assert load_part_model(out).ids(Bank().tensor[:1]).shape == (1, 12, 12)
    assert json.loads((out / "config.json").read_text())["pretrained_cfg"]["input_size"] == [
        3,
        SIZE,
        SIZE,
    ]


def test_images_of_other_sizes_and_kinds(finder, tmp_path):
    make_run(tmp_path / "run", parts_config(), finder, finder)
    model = load_part_model(export_encoder(tmp_path / "run", tmp_path / "out"))
    assert model(torch.randint(0, 256, (3, 70, 101), dtype=torch.uint8)).shape == (70, 101)
    assert model(torch.randint(0, 256, (2, 3, 30, 30), dtype=torch.uint8)).shape == (2, 30, 30)
    assert torch.equal(model(Bank().tensor[:2])[1], model(Bank().tensor[1]))
    with pytest.raises(DataError, match=r"uint8 RGB .* got torch.float32"):
        model(torch.rand(3, 8, 8))


def test_a_new_image_gets_the_nearest_centroid(finder, tmp_path):
    """Brute force: hypercolumn, mean off, unit length, nearest centroid."""
    stages = ["layer1", "layer2"]
    make_run(tmp_path / "run", parts_config(stages=stages), finder, finder)
    out = export_encoder(tmp_path / "run", tmp_path / "out")
    learned = load_file(out / "parts" / "part_model.safetensors")
    image = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        maps = finder(image.repeat(8, 1, 1, 1) / 255, stages).maps
    rows = [
        F.interpolate(m[:1], (12, 12), mode="bilinear", align_corners=False) for m in maps.values()
    ]
    points = (
        torch.cat([F.normalize(m, dim=1) for m in rows], 1)[0].flatten(1).T
        - learned["method/mean_D"]
    )
    distances = torch.cdist(
        F.normalize(points, dim=1).double(), learned["method/centroids_KD"].double()
    )
    ids = load_part_model(out).ids(image).flatten().long()
    chosen = distances.gather(1, ids[:, None])[:, 0]
    assert torch.all(chosen <= distances.min(1).values + 1e-5)
    assert len(ids.unique()) > 1


def test_exports_without_parts(finder, tmp_path):
    out = export_encoder(finder, tmp_path / "bare", image_size=SIZE)
    with pytest.raises(WeightsError, match=r"no parts/part_model\.json"):
        load_part_model(out)
    run = tmp_path / "run"
    make_run(run, parts_config(), finder, encoder_of(1))
    assert not (export_encoder(run, tmp_path / "without", parts=False) / "parts").exists()
    (run / "base" / "encoder.safetensors").unlink()
    with pytest.raises(
        WeightsError, match=r"found with the encoder \w+, which is gone.*parts=false"
    ):
        export_encoder(run, tmp_path / "lost")


def test_damaged_part_model(finder, tmp_path):
    make_run(tmp_path / "run", parts_config(), finder, finder)
    out = export_encoder(tmp_path / "run", tmp_path / "out")
    about = out / "parts" / "part_model.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps(told | {"version": 99}))
    with pytest.raises(WeightsError, match="version 99"):
        load_part_model(out)
    about.write_text("{")
    with pytest.raises(WeightsError, match="export it again"):
        load_part_model(out)
    about.write_text(json.dumps(told, indent=1) + "\n")
    assert load_part_model(out).k == 4
    learned = out / "parts" / "part_model.safetensors"
    data = bytearray(learned.read_bytes())
    data[-1] ^= 1
    learned.write_bytes(data)
    with pytest.raises(WeightsError, match=r"part_model\.safetensors is not what was exported"):
        load_part_model(out)


CHANGES = (
    *(
        {"k": 10**9},
        {"k": 0},
        {"k": "4"},
        {"size": 10**8},
        {"image_size": -1},
        {"image_size": 10**6},
        {"scope": "world"},
    ),
    *(
        {"background": 300},
        {"config": None},
        {"config": {"k": 4, "what": 1}},
        {"config": {"method": "no"}},
        {"k": 5},
    ),
    *({"config": {"stages": ["layer9"]}}, {"config": {"size": "${oc.env:HOME}"}}, {"size": None}),
)


def test_part_models_of_other_people(finder, tmp_path):
    """What cannot be is said when it is opened, not when it is used; nothing large is taken."""
    make_run(tmp_path / "run", parts_config(), finder, finder)
    out = export_encoder(tmp_path / "run", tmp_path / "out")
    about, learned = out / "parts" / "part_model.json", out / "parts" / "part_model.safetensors"
    (out / MARK).unlink()
    told, tensors = json.loads(about.read_text()), load_file(learned)
    for change in CHANGES:
        about.write_text(json.dumps(told | change))
        with pytest.raises(WeightsError, match="parts"):
            if load_part_model(out).ids(Bank().tensor[:1]).max() < told["k"]:
                raise WeightsError("parts that work all the same")
    about.write_text(json.dumps(told))
    for name in tensors:
        save_file({**tensors, name: torch.rand(3, 3)}, learned)
        with pytest.raises(WeightsError, match="parts"):
            load_part_model(out)
    save_file(tensors, learned)
    assert load_part_model(out).k == told["k"]


@settings(
    max_examples=15,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(
    key=st.sampled_from(("k", "size", "background", "scope", "image_size", "config", "version")),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
def test_any_settings_of_a_part_model(exported, key, value):
    out, told = exported
    (out / "parts" / "part_model.json").write_text(json.dumps(told | {key: value}))
    try:
        load_part_model(out)
    except WeightsError as error:
        assert "\n" not in str(error) and len(str(error)) < 1500


@pytest.fixture(scope="module")
def exported(finder, tmp_path_factory):
    place = tmp_path_factory.mktemp("parts")
    make_run(place / "run", parts_config(), finder, finder)
    out = export_encoder(place / "run", place / "out")
    (out / MARK).unlink()
    return out, json.loads((out / "parts" / "part_model.json").read_text())


def test_nested_tensors_come_back_as_they_were():
    learned = {
        "foreground": {"centroids": [torch.rand(2), torch.rand(3)], "empty": {}},
        "method": {"mean_D": torch.rand(4)},
    }
    again = _nested(dict(_flat(learned)))
    assert torch.equal(again["foreground"]["centroids"][1], learned["foreground"]["centroids"][1])
    assert torch.equal(again["method"]["mean_D"], learned["method"]["mean_D"])
