"""Tiny archives in the original layouts; torchvision's own readers say what the same files mean."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import FGVCAircraft, StanfordCars

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.decode import decode_image
from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.errors import ConfigError, DataError

VARIANTS = {"707-320": "Boeing 707", "A330-200": "A330", "F-16A/B": "F-16"}


@pytest.fixture
def aircraft(tmp_path, write_image, write_text):
    """fgvc-aircraft-2013b/data: four images a split, boxes counted from 1."""
    data = tmp_path / "fgvc-aircraft-2013b" / "data"
    for level, names in (("variant", list(VARIANTS)), ("family", sorted(set(VARIANTS.values())))):
        plural = {"variant": "variants", "family": "families"}[level]
        write_text(data / f"{plural}.txt", "".join(f"{name}\n" for name in names))
        for s, split in enumerate(("train", "val", "test")):
            rows = [(f"{1000000 * s + i:07d}", list(VARIANTS)[(i + s) % 3]) for i in range(4)]
            rows = [(key, name if level == "variant" else VARIANTS[name]) for key, name in rows]
            write_text(
                data / f"images_{level}_{split}.txt",
                "".join(f"{key} {name}\n" for key, name in rows),
            )
            for key, _ in rows:
                write_image(data / "images" / f"{key}.jpg", 60, 80, seed=int(key) % 997)
    keys = sorted(path.stem for path in (data / "images").iterdir())
    write_text(data / "images_box.txt", "".join(f"{key} 11 6 70 55\n" for key in keys))
    return data


def test_aircraft_splits_and_labels_are_torchvisions(aircraft):
    root = aircraft.parents[1]
    for split in ("train", "val", "test"):
        for level in ("variant", "family"):
            ours = build_dataset("aircraft", root, split, level=level, allow_partial=True)
            theirs = FGVCAircraft(root, split=split, annotation_level=level)
            expected = {
                str(f).rsplit("/", 1)[1]: theirs.classes[c]
                for f, c in zip(theirs._image_files, theirs._labels)
            }
            assert {
                p.rsplit("/", 1)[1]: ours.classes[c] for p, c in zip(ours.paths, ours.labels)
            } == expected
    both = build_dataset("aircraft", aircraft, "trainval", allow_partial=True)
    parts = [
        build_dataset("aircraft", aircraft, split, allow_partial=True) for split in ("fit", "val")
    ]
    assert sorted(both.paths) == sorted(parts[0].paths + parts[1].paths) and len(both) == 8


def test_the_banner_is_cut_alike_for_every_reader(aircraft):
    data = build_dataset("aircraft", aircraft, "train", allow_partial=True)
    whole = decode_image(data.file(2))
    sample = data[2]
    assert sample.image.shape == (3, 40, 80) and torch.equal(sample.image, whole[:, :-20])
    assert sample.box == (10, 5, 70, 40)  # cut where the image is
    bank = ImageBank(data, 32, "squash")
    assert torch.equal(bank.images([2])[0], bank.sample(2).image)


def test_aircraft_errors(aircraft, write_text, write_image):
    with pytest.raises(DataError, match=r"12 of the 10,000"):
        build_dataset("aircraft", aircraft)
    with pytest.raises(ConfigError, match=r"level='model'.*variant, family, manufacturer"):
        build_dataset("aircraft", aircraft, level="model")
    with pytest.raises(DataError, match=r"manufacturers\.txt.* not found"):
        build_dataset("aircraft", aircraft, level="manufacturer")
    write_image(aircraft / "images" / "0000001.jpg", 15, 80)
    with pytest.raises(DataError, match=r"0000001\.jpg is 15 pixels high"):
        build_dataset("aircraft", aircraft, allow_partial=True).image(1)
    write_text(aircraft / "images_variant_val.txt", "1000000 Concorde\n")
    with pytest.raises(DataError, match="'Concorde'"):
        build_dataset("aircraft", aircraft, allow_partial=True)


@pytest.fixture
def oid(tmp_path, write_image, write_text):
    root = tmp_path / "oid-aircraft-beta-1"
    for i in range(5):
        write_image(root / f"data/images/aeroplane/{i}.jpg", 60, 50, seed=i)
        for p, part in enumerate(("nose", "VS", "wheel", "wing")):
            mask = np.zeros((60, 50), np.uint8)
            mask[10 : 20 + i, 10 * p : 10 * p + 15] = 255  # neighbours overlap
            path = root / f"data_oid/{i}/{i}_{part}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
    write_text(root / "train_oid.txt", "0.jpg\n1.jpg\n2.jpg\n")
    write_text(root / "val_oid.txt", "3.jpg\n4.jpg\n")
    return root


def test_oid_reads_four_overlapping_maps(oid):
    train, test = (build_dataset("oid_aircraft", oid, split) for split in ("train", "test"))
    assert train.paths == ["0.jpg", "1.jpg", "2.jpg"] and test.paths == ["3.jpg", "4.jpg"]
    assert (
        train.part_names == ["nose", "vertical stabiliser", "wheel", "wing"] and train.classes == []
    )
    sample = test[1]
    assert (
        sample.image.shape == (3, 39, 50)
        and sample.part_mask.shape == (4, 39, 50)
        and sample.label is None
    )
    assert sample.part_mask.flatten(1).sum(1).tolist() == [14 * 15] * 4
    assert sample.part_mask.sum(0).max() == 2
    assert ImageBank(test, 24, "squash").sample(1).part_mask.shape == (4, 24, 24)


def test_oid_partial_and_without_maps(oid):
    (oid / "data_oid/1/1_wheel.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 5 images have not all four part maps.*allow_partial"
    ):
        build_dataset("oid_aircraft", oid)
    assert build_dataset("oid_aircraft", oid, allow_partial=True).paths == ["0.jpg", "2.jpg"]
    (oid / "data_oid").rename(oid / "elsewhere")
    for name in ("train_oid.txt", "val_oid.txt"):
        (oid / name).unlink()
    data = build_dataset("oid_aircraft", oid.parent)
    assert len(data) == 5 and data.part_names == [] and data[0].part_mask is None
    with pytest.raises(ConfigError, match="no such split"):
        build_dataset("oid_aircraft", oid, "test")


CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "smart fortwo Convertible 2012"]
FIELDS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")


def annotations(rows, fields=FIELDS):
    """A MATLAB structure array as the devkit has it."""
    return {
        "annotations": np.array(
            [tuple(row) for row in rows], dtype=[(field, object) for field in fields]
        )[None]
    }


@pytest.fixture
def cars(tmp_path, write_image):
    root = tmp_path / "stanford_cars"
    (root / "devkit").mkdir(parents=True)
    for split in ("train", "test"):
        rows = []
        for i in range(6):
            write_image(root / f"cars_{split}/{i + 1:05d}.jpg", 40, 60, seed=i)
            rows.append(
                (1 + i, 5, 50, 30, (i * (2 if split == "test" else 1)) % 3 + 1, f"{i + 1:05d}.jpg")
            )
        file = root / (
            "devkit/cars_train_annos.mat" if split == "train" else "cars_test_annos_withlabels.mat"
        )
        savemat(file, annotations(rows))
    savemat(root / "devkit/cars_meta.mat", {"class_names": np.array(CARS, dtype=object)[None]})
    return root


def test_cars_devkit_is_torchvisions(cars):
    for split in ("train", "test"):
        ours = build_dataset("cars", cars.parent, split, allow_partial=True)
        theirs = StanfordCars(cars.parent, split)
        assert {p.rsplit("/", 1)[1]: c for p, c in zip(ours.paths, ours.labels)} == {
            p.rsplit("/", 1)[1]: c for p, c in theirs._samples
        }
        assert ours.classes == theirs.classes == CARS
    assert ours[3].box == (3, 4, 50, 30)
    with pytest.raises(DataError, match=r"12 of the 16,185"):
        build_dataset("cars", cars)


def test_cars_without_test_labels(cars):
    rows = [(1, 1, 9, 9, f"{i + 1:05d}.jpg") for i in range(6)]
    (cars / "cars_test_annos_withlabels.mat").unlink()
    savemat(cars / "devkit/cars_test_annos.mat", annotations(rows, (*FIELDS[:4], "fname")))
    data = build_dataset("cars", cars, "test", allow_partial=True)
    assert data.labels.tolist() == [-1] * 6
    assert "no labels: fetch cars_test_annos_withlabels.mat" in data.remarks.sentences()[0]


def test_cars_as_kaggle_has_them(cars):
    """Since the official page is gone: doubled folders, and often neither labels of the test
    images nor the devkit.
    """
    paths = {
        split: build_dataset("cars", cars, split, allow_partial=True).paths
        for split in ("train", "test")
    }
    for split in ("train", "test"):
        (cars / f"cars_{split}").rename(cars / "x")
        (cars / f"cars_{split}").mkdir()
        (cars / "x").rename(cars / f"cars_{split}/cars_{split}")
        data = build_dataset("cars", cars, split, allow_partial=True)
        assert data.paths == [f"cars_{split}/{path}" for path in paths[split]] and data[
            0
        ].image.shape == (3, 40, 60)
    (cars / "devkit").rename(cars / "else")
    with pytest.raises(
        DataError, match=r"cars_train and cars_test need devkit/ \(cars_devkit\.tgz\)"
    ):
        build_dataset("cars", cars, allow_partial=True)


def test_cars_in_class_folders(tmp_path, write_image, write_text):
    root = tmp_path / "car_data" / "car_data"
    for i in range(6):
        write_image(root / ("train" if i < 4 else "test") / CARS[i % 2] / f"{i:05d}.jpg", 40, 60)
    write_text(tmp_path / "anno_train.csv", "00001.jpg,2,3,40,30,1\n")
    train, test = (
        build_dataset("cars", tmp_path, s, allow_partial=True) for s in ("train", "test")
    )
    assert len(train) == 4 and len(test) == 2 and train.classes == CARS[:2]
    boxes = {path.rsplit("/", 1)[1]: train[i].box for i, path in enumerate(train.paths)}
    assert boxes.pop("00001.jpg") == (1, 2, 40, 30) and set(boxes.values()) == {None}


def test_cars_in_one_list(tmp_path, write_image):
    rows = []
    for i in range(4):
        write_image(tmp_path / f"car_ims/{i:06d}.jpg")
        rows.append((f"car_ims/{i:06d}.jpg", 1, 1, 20, 20, i % 2 + 1, int(i == 3)))
    fields = ("relative_im_path", *FIELDS[:5], "test")
    savemat(
        tmp_path / "cars_annos.mat",
        annotations(rows, fields) | {"class_names": np.array(CARS, dtype=object)},
    )
    train = build_dataset("cars", tmp_path, allow_partial=True)
    assert (
        train.labels.tolist() == [0, 1, 0]
        and len(build_dataset("cars", tmp_path, "test", allow_partial=True)) == 1
    )


def test_cars_errors(tmp_path, cars):
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"none of the layouts.*cars_train_annos"):
        build_dataset("cars", tmp_path / "other")
    with pytest.raises(ConfigError, match=r"data\.root"):
        build_dataset("cars")
    savemat(cars / "devkit/cars_train_annos.mat", annotations([(1, 1, 2, 2, 9, "../../x.jpg")]))
    with pytest.raises(DataError, match="class 9"):
        build_dataset("cars", cars, allow_partial=True)
    savemat(cars / "devkit/cars_train_annos.mat", annotations([(1, 1, 2, 2, 1, "../../../x.jpg")]))
    with pytest.raises(DataError, match="not a path below"):
        build_dataset("cars", cars, allow_partial=True)
    savemat(cars / "devkit/cars_train_annos.mat", {"annotations": np.arange(3)})
    with pytest.raises(DataError, match="no field"):
        build_dataset("cars", cars, allow_partial=True)
