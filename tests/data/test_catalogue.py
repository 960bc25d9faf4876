import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

from ssl_parts.data import SETS, DataConfig, PartsDataset, build_bank, build_dataset, open_dataset
from ssl_parts.data.sets.catalogue import HOMES, find_class
from ssl_parts.errors import ConfigError, DataError

REPO = Path(__file__).resolve().parents[2]


def config(**changes) -> DataConfig:
    """As hydra makes it: names of enums become members."""
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DataConfig), changes))


def test_unknown_names_have_a_way_out(tmp_path):
    with pytest.raises(ConfigError, match=r"name='cbu' is unknown, did you mean 'cub'"):
        build_dataset("cbu", tmp_path)
    with pytest.raises(
        ConfigError, match=r"no option 'allow_partail', did you mean 'allow_partial'"
    ):
        build_dataset("cub", tmp_path, allow_partail=True)


def test_every_row_opens_a_class_and_every_set_has_a_config_file():
    assert set(SETS) == set(HOMES)
    for name, options in SETS.items():
        taken = set(inspect.signature(find_class(name)).parameters) - {"root", "split"}
        assert taken == set(options), name
    files = {
        path.stem: yaml.safe_load(path.read_text())
        for path in (REPO / "configs/data").glob("*.yaml")
    }
    assert set(SETS) <= {content["name"] for content in files.values()}
    for stem, content in files.items():
        made = config(**(content | ({"root": "/somewhere"} if "root" in content else {})))
        made.check()
        assert made.name in SETS, stem


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"name": "cubs"}, "did you mean 'cub'"),
        ({"name": "cub"}, "set data.root"),
        ({"size": 32}, r"size=32 must lie in 48\.\.512"),
        ({"name": "folder", "root": "/x", "size": 4}, "size=4"),
        ({"split": "training"}, "split='training'"),
        ({"images": 0}, "images=0"),
        (
            {"name": "folder", "root": "/x", "species": 8},
            r"species=8: data=folder has no such option",
        ),
    ],
)
def test_check(changes, message):
    with pytest.raises(ConfigError, match=message):
        config(**changes).check()


def test_build_and_bank(image_folder):
    made = config(
        name="folder",
        root=str(image_folder),
        size=24,
        fit="pad",
        test_share=0.25,
        on_bad_image="skip",
    )
    assert len(open_dataset(made)) == 9 and len(open_dataset(made, "test")) == 3
    bank = build_bank(made, "test")
    assert bank.images([0, 1, 2]).shape == (3, 3, 24, 24) and bank.dataset.split == "test"
    path = image_folder / open_dataset(made).paths[0]
    path.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(build_bank(made)) == 8
    assert "1 of 9" in str(caught[0].message)
    made.on_bad_image = type(made.on_bad_image).error
    with pytest.raises(DataError, match=path.name):
        build_bank(made)


def test_synthetic_birds_options():
    made = config(images=20, test_images=8, species=4, size=48)
    made.check()
    sizes = {split: len(open_dataset(made, split)) for split in ("train", "fit", "val", "test")}
    assert sizes == {"train": 20, "fit": 20, "val": 8, "test": 8}
    data = open_dataset(made)
    assert isinstance(data, PartsDataset) and len(data.classes) == 4
    bank = build_bank(made, "test")
    sample = bank.sample(2)
    assert np.array_equal(
        bank.images([2])[0].numpy(), sample.image.numpy()
    ) and sample.part_mask.shape == (48, 48)


def test_what_tables_call_a_data_set():
    assert DataConfig(name="cub", root="x/CUB_200").display_name == "cub"
    assert DataConfig(name="folder", root="x/leaves/").display_name == "leaves"
    assert DataConfig(name="folder", root="x/y", title="flowers17").display_name == "flowers17"
    assert DataConfig().display_name == "synthetic_birds"
    with pytest.raises(ConfigError, match=r"data\.title='a/b'"):
        DataConfig(title="a/b").check()
