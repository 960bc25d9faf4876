"""The real images beside the project, read as they are; birds and shards have tests of their own
too.
"""

import pytest
import torch

from ssl_parts.data import DataConfig, ImageBank, build_dataset, open_dataset


def test_car_parts(real_data):
    train, test = (
        build_dataset("carparts", real_data / "data/carparts", split) for split in ("train", "test")
    )
    assert (len(train), len(test), len(train.part_names)) == (400, 100, 18)
    for i in (0, 199, 399):
        sample = train[i]
        assert sample.part_mask.shape == sample.image.shape[1:]
        ids = sample.part_mask.unique()
        assert len(ids) > 3  # a car in pieces
        assert int(ids.max()) <= 18


def test_flowers_are_halved_by_class_and_no_image_is_on_both_sides(real_data):
    config = DataConfig(
        name="folder", root=str(real_data / "data/flowers17"), test_share=0.5, size=32
    )
    train, test = open_dataset(config, "train"), open_dataset(config, "test")
    assert (len(train), len(test), len(train.classes)) == (680, 680, 17)
    assert torch.bincount(torch.as_tensor(test.labels)).tolist() == [40] * 17
    assert not set(train.paths) & set(test.paths)


@pytest.mark.parametrize(
    ("name", "folder"), [("cub", "cub10"), ("carparts", "carparts"), ("folder", "flowers17")]
)
def test_every_photograph_decodes_into_the_square(real_data, name, folder):
    options = {"allow_partial": True} if name == "cub" else {}
    bank = ImageBank(build_dataset(name, real_data / "data" / folder, **options), 32)
    bank = bank.subset(range(0, len(bank), 7))
    images = bank.fill().images(range(len(bank)))
    assert images.float().std((1, 2, 3)).min() > 3  # no empty picture
