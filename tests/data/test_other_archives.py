"""NABirds, dogs, pets, flowers, iNaturalist: tiny archives in the original layouts; torchvision is
the oracle.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import Flowers102, INaturalist, OxfordIIITPet

from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.errors import ConfigError, DataError


def names(paths, labels):
    return {Path(p).name: int(c) for p, c in zip(paths, labels)}


def test_nabirds(tmp_path, write_image, write_text):
    root = tmp_path / "nabirds"
    keys = [f"0000139e-21dc-4d0c-bfe1-4cae3c85{i:04x}" for i in range(4)]
    paths = [f"08{17 - i % 2}/{key.replace('-', '')}.jpg" for i, key in enumerate(keys)]
    for path in paths:
        write_image(root / "images" / path)
    write_text(root / "images.txt", "".join(f"{k} {p}\n" for k, p in zip(keys, paths)))
    write_text(
        root / "image_class_labels.txt", "".join(f"{k} {817 - i % 2}\n" for i, k in enumerate(keys))
    )
    write_text(
        root / "train_test_split.txt", "".join(f"{k} {int(i < 2)}\n" for i, k in enumerate(keys))
    )
    write_text(
        root / "classes.txt",
        "0 Birds\n1 Ducks, Geese, and Swans\n817 Oak Titmouse\n816 Juniper Titmouse (Adult)\n",
    )
    write_text(root / "bounding_boxes.txt", "".join(f"{k} 5 6 20 10\n" for k in keys))
    write_text(root / "parts/parts.txt", "0 bill\n1 left eye\n")
    write_text(root / "parts/part_locs.txt", "".join(f"{k} 0 7 8 1\n{k} 1 -1 -1 0\n" for k in keys))
    data = build_dataset("nabirds", tmp_path, allow_partial=True)
    assert data.classes == [
        "Juniper Titmouse (Adult)",
        "Oak Titmouse",
    ] and data.labels.tolist() == [1, 0]
    assert data[0].box == (5, 6, 25, 16) and data[0].keypoints[0].tolist() == [7, 8, 1]
    with pytest.raises(DataError, match=r"4 of the 48,562"):
        build_dataset("nabirds", tmp_path)


def test_dogs(tmp_path, write_image, write_text):
    folders = ["n02085620-Chihuahua", "n02085782-Japanese_spaniel"]
    lists = {"train": [], "test": []}
    for i in range(6):
        name = f"{folders[i % 2]}/{folders[i % 2].split('-')[0]}_{i}.jpg"
        write_image(tmp_path / "Images" / name, 50, 70)
        lists["train" if i < 4 else "test"].append(name)
        box = "<bndbox><xmin>{}</xmin><ymin>3</ymin><xmax>{}</xmax><ymax>40</ymax></bndbox>"
        note = f"<annotation><object>{box.format(1, 9)}</object>\n<object>{box.format(5, 60)}</object></annotation>"
        write_text(tmp_path / "Annotation" / name[:-4], note)
    for split, files in lists.items():
        values = {
            "file_list": np.array(files, dtype=object)[:, None],
            "labels": np.ones((len(files), 1)),
        }
        savemat(tmp_path / f"{split}_list.mat", values)
    train, test = (
        build_dataset("dogs", tmp_path, split, allow_partial=True) for split in ("train", "test")
    )
    assert (
        train.classes == folders
        and train.paths == lists["train"]
        and test.labels.tolist() == [0, 1]
    )
    assert train[0].box == (4, 2, 60, 40)  # the larger of two
    (tmp_path / "train_list.mat").unlink()
    with pytest.raises(DataError, match=r"train_list\.mat.*lists\.tar"):
        build_dataset("dogs", tmp_path)


def test_pets_are_torchvisions(tmp_path, write_image, write_text):
    root = tmp_path / "oxford-iiit-pet"
    breeds, rows = ["Abyssinian", "american_bulldog", "Sphynx"], {"trainval": "", "test": ""}
    for i in range(9):
        key = f"{breeds[i % 3]}_{i}"
        write_image(root / "images" / f"{key}.jpg", 30, 40)
        rows["trainval" if i < 6 else "test"] += f"{key} {i % 3 + 1} 1 1\n"
        trimap = np.full((30, 40), 2, np.uint8)
        trimap[5:20, 5:20], trimap[6:19, 6:19] = 3, 1
        (root / "annotations/trimaps").mkdir(parents=True, exist_ok=True)
        Image.fromarray(trimap).save(root / "annotations/trimaps" / f"{key}.png")
    for split, text in rows.items():
        write_text(root / "annotations" / f"{split}.txt", text)
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        data, reader = (
            build_dataset("pets", tmp_path, ours, allow_partial=True),
            OxfordIIITPet(tmp_path, theirs),
        )
        assert names(data.paths, data.labels) == names(reader._images, reader._labels)
        assert [name.replace("_", " ").title() for name in data.classes] == reader.classes
    assert data[0].part_mask.sum() == 13 * 13 and data.part_names == ["pet"]


def test_flowers_are_torchvisions(tmp_path, write_image, monkeypatch):
    root = tmp_path / "flowers-102"
    for i in range(1, 13):
        write_image(root / f"jpg/image_{i:05d}.jpg", 30, 40)
    savemat(
        root / "imagelabels.mat",
        {"labels": np.array([[77, 77, 1, 2, 3, 102, 5, 6, 7, 8, 9, 10]], dtype=np.uint8)},
    )
    ids = {"trnid": [[3, 1, 5]], "valid": [[2, 4]], "tstid": [[6, 7, 8, 9, 10, 11, 12]]}
    savemat(root / "setid.mat", {key: np.array(rows, dtype=np.uint16) for key, rows in ids.items()})
    monkeypatch.setattr(Flowers102, "_check_integrity", lambda self: True)
    for split in ("train", "val", "test"):
        data, reader = (
            build_dataset("flowers102", tmp_path, split, allow_partial=True),
            Flowers102(tmp_path, split),
        )
        assert names(data.paths, data.labels) == names(reader._image_files, reader._labels)
        assert data.classes == reader.classes
    assert len(build_dataset("flowers102", root, "trainval", allow_partial=True)) == 5
    savemat(root / "imagelabels.mat", {"labels": np.array([[1, 2, 3]])})
    with pytest.raises(DataError, match=r"image 12, but imagelabels\.mat has 3 labels"):
        build_dataset("flowers102", root, allow_partial=True)


def test_inat_2021_is_torchvisions(tmp_path, write_image):
    species = ["00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris",
               "00001_Animalia_Annelida_Polychaeta_Sabellida_Sabellidae_Sabella_spallanzanii"]  # fmt: skip
    for i in range(6):
        write_image(
            tmp_path / ("2021_train_mini" if i < 4 else "2021_valid") / species[i % 2] / f"{i}.jpg",
            30,
            40,
        )
    for split, version in (("train", "2021_train_mini"), ("test", "2021_valid")):
        data, reader = (
            build_dataset("inat", tmp_path, split, version="2021_mini"),
            INaturalist(tmp_path, version),
        )
        assert (
            names(data.paths, data.labels) == {f: c for c, f in reader.index}
            and data.classes == reader.all_categories
        )
    with pytest.raises(DataError, match="2021_train nor train found"):
        build_dataset("inat", tmp_path)
    with pytest.raises(ConfigError, match="version='2020'"):
        build_dataset("inat", tmp_path, version="2020")


def test_inat_lists(tmp_path, write_image):
    for split, numbers in (("train", (1, 2, 3)), ("val", (4,))):
        files = {i: f"train_val2019/Birds/{i % 2 + 300}/{i}.jpg" for i in numbers}
        content = {
            "images": [{"id": i, "file_name": file} for i, file in files.items()],
            "annotations": [{"image_id": i, "category_id": i % 2 + 300} for i in files],
            "categories": [{"id": 300, "name": "300"}, {"id": 301, "name": "301"}],
        }
        (tmp_path / f"{split}2019.json").write_text(json.dumps(content))
        for file in files.values():
            write_image(tmp_path / file)
    data = build_dataset("inat", tmp_path, version="2019")
    assert data.labels.tolist() == [1, 0, 1] and data.classes == ["300", "301"]
    assert len(build_dataset("inat", tmp_path, "test", version="2019")) == 1
    (tmp_path / "val2019.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot read .*val2019\.json"):
        build_dataset("inat", tmp_path, version="2019")
