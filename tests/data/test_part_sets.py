import json

import numpy as np
import pytest
import torch
from matplotlib.path import Path as MplPath
from PIL import Image

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.data.sets.coco_masks import rasterise, read_outline
from ssl_parts.errors import ConfigError, DataError


def drawn(segmentation, height, width):
    return rasterise(read_outline(segmentation, "x"), height, width, "x")


def write_mask(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(path)


@pytest.fixture
def parts(tmp_path, write_image, write_text):
    """images/ and masks/ of six images, in two class folders, ids 1..3."""
    for i in range(6):
        write_image(tmp_path / f"images/{'ab'[i % 2]}/{i}.jpg", 30, 40, seed=i)
        mask = np.zeros((30, 40))
        mask[5:15, 5:20], mask[15:25, 5:20] = 1 + i % 3, 3
        write_mask(tmp_path / f"masks/{'ab'[i % 2]}/{i}.png", mask)
    write_text(tmp_path / "parts.txt", "head\nleft wing\nright wing\n")
    return tmp_path


def test_part_folder(parts):
    data = build_dataset("part_folder", parts)
    assert data.part_names == ["head", "left wing", "right wing"] and data.part_pairs == [(2, 3)]
    assert data.classes == ["a", "b"] and data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    sample = data[1]  # a/2.jpg
    assert sample.part_mask[10, 10] == 3 and sample.part_mask.unique().tolist() == [0, 3]
    assert len(build_dataset("part_folder", parts, "val")) == 2
    with pytest.raises(ConfigError, match="no such split"):
        build_dataset("part_folder", parts, "test")


def test_part_folder_names_and_labels(parts, write_text):
    write_text(
        parts / "labels.csv", "".join(f"{'ab'[i % 2]}/{i}.jpg,kind {i // 3}\n" for i in range(6))
    )
    assert build_dataset("part_folder", parts).classes == ["kind 0", "kind 1"]
    write_text(parts / "labels.csv", "a/0.jpg,x\n")
    with pytest.raises(DataError, match=r"no row for images/a/2\.jpg"):
        build_dataset("part_folder", parts)
    (parts / "labels.csv").unlink()
    (parts / "parts.txt").unlink()
    # counted
    assert build_dataset("part_folder", parts).part_names == ["part 1", "part 2", "part 3"]
    write_text(parts / "classes.json", json.dumps({"0": "background", "1": "head"}))
    with pytest.raises(DataError, match=r"a/2\.png holds id 3, but only ids 1\.\.1 have names"):
        build_dataset("part_folder", parts)[1]
    write_text(parts / "classes.json", json.dumps({"0": "background", "2": "head"}))
    with pytest.raises(DataError, match="without a gap"):
        build_dataset("part_folder", parts)
    write_text(parts / "classes.json", "[1]")
    with pytest.raises(DataError, match="expected"):
        build_dataset("part_folder", parts)


def test_part_folder_missing(parts):
    (parts / "masks/a/2.png").unlink()
    with pytest.raises(
        DataError, match=r"1 of 6 images.* no mask \(first: masks/a/2\.png\).*allow_partial"
    ):
        build_dataset("part_folder", parts)
    assert len(build_dataset("part_folder", parts, allow_partial=True)) == 5
    write_mask(parts / "masks/a/2.png", np.zeros((40, 30)))
    data = build_dataset("part_folder", parts)
    with pytest.raises(DataError, match=r"a/2\.jpg: the image is 40 x 30, its part mask 30 x 40"):
        ImageBank(data, 16).sample(1)
    (parts / "masks").rename(parts / "else")
    with pytest.raises(DataError, match=r"no folder .*masks"):
        build_dataset("part_folder", parts)


def test_real_car_parts(real_data):
    train, test = (
        build_dataset("carparts", real_data / "data/carparts", split) for split in ("train", "test")
    )
    assert (len(train), len(test), len(train.part_names)) == (400, 100, 18)
    assert (5 - 2, 7 - 2) in train.part_pairs and train.part_names[2] == "back_left_door"
    bank, seen = ImageBank(test, 64, "squash"), set()
    for i in range(0, 100, 10):
        sample = bank.sample(i)
        seen |= set(sample.part_mask.unique().tolist())
        assert sample.part_mask.any() and sample.image.shape == (3, 64, 64)
    assert len(seen) > 12


@pytest.fixture
def pascub(tmp_path, write_image):
    for source in ("CUB_Parts", "PASCAL_Parts"):
        for split in ("train", "test"):
            for i in range(3):
                write_image(
                    tmp_path / f"PASCUB_Birds/{source}/images_{split}/{source[0]}{i}.jpg",
                    100,
                    120,
                    seed=i,
                )
                mask = np.zeros((100, 120))
                mask[30:50, 40:70], mask[50:60, 40:55] = 4, 10
                write_mask(
                    tmp_path / f"PASCUB_Birds/{source}/parts_{split}/{source[0]}{i}.png", mask
                )
    return tmp_path / "PASCUB_Birds"


def test_pascub_is_cut_to_its_parts(pascub):
    train, test = (build_dataset("pascub", pascub.parent, split) for split in ("train", "test"))
    assert len(train) == 6 and test.paths == [f"CUB_Parts/images_test/C{i}.jpg" for i in range(3)]
    assert train.part_pairs == [(4, 5), (6, 7), (8, 9)] and len(train.part_names) == 10
    sample, whole = train[0], build_dataset("pascub", pascub, crop=False)[0]
    assert torch.equal(sample.image, whole.image[:, 10:80, 20:90])
    assert torch.equal(sample.part_mask, whole.part_mask[10:80, 20:90])
    assert torch.equal(train.image(0), sample.image)
    write_mask(pascub / "CUB_Parts/parts_train/C0.png", np.zeros((50, 50)))
    with pytest.raises(DataError, match=r"C0\.jpg: the image is 120 x 100, its part map 50 x 50"):
        train[0]
    (pascub / "CUB_Parts/parts_train/C0.png").unlink()
    with pytest.raises(
        DataError, match=r"1 images have no part map \(first: CUB_Parts/parts_train/C0\.png"
    ):
        build_dataset("pascub", pascub)
    assert len(build_dataset("pascub", pascub, allow_partial=True)) == 5


def coco(categories, images, annotations):
    return json.dumps({"categories": categories, "images": images, "annotations": annotations})


@pytest.fixture
def part_imagenet(tmp_path, write_image, write_text):
    categories = [
        {"id": 0, "name": "Bird Head", "supercategory": "Bird"},
        {"id": 7, "name": "Bird Wing"},
    ]
    square = [10, 5, 30, 5, 30, 25, 10, 25]
    for s, split in enumerate(("train", "val")):
        files = [f"n0144076{c}_{i}.JPEG" for i in range(2) for c in (4, 7 + s)]
        for file in files:
            write_image(tmp_path / "PartImageNet/images" / split / file, 40, 60, format="JPEG")
        images = [
            {"id": i, "file_name": file, "height": 40, "width": 60} for i, file in enumerate(files)
        ]
        notes = [
            {"id": i, "image_id": i, "category_id": 7, "segmentation": [square]} for i in range(3)
        ]
        notes.append(
            {
                "id": 9,
                "image_id": 0,
                "category_id": 0,
                "segmentation": [[12, 7, 18, 7, 18, 13, 12, 13]],
            }
        )
        write_text(
            tmp_path / f"PartImageNet/annotations/{split}/{split}.json",
            coco(categories, images, notes),
        )
    return tmp_path / "PartImageNet"


def test_part_imagenet(part_imagenet):
    train = build_dataset("part_imagenet", part_imagenet.parent, allow_partial=True)
    val = build_dataset("part_imagenet", part_imagenet, "val", allow_partial=True)
    assert train.part_names == ["Bird Head", "Bird Wing"] and len(train) == 4 == len(val)
    assert train.classes == val.classes == ["n01440764", "n01440767", "n01440768"]
    assert train.labels.tolist() == [0, 1, 0, 1] and val.labels.tolist() == [0, 2, 0, 2]
    mask = train[0].part_mask  # the head is smaller, so it lies on the wing whatever their order
    assert mask[20, 20] == 2 and mask[10, 15] == 1 and mask[35, 50] == 0
    assert (
        int((mask > 0).sum()) == 400
        and int((mask == 1).sum()) == 36
        and not train[3].part_mask.any()
    )
    with pytest.raises(DataError, match=r"8 of the 24,095"):
        build_dataset("part_imagenet", part_imagenet)


def test_coco_damage(part_imagenet, write_text):
    file = part_imagenet / "annotations/train/train.json"
    content = json.loads(file.read_text())
    for change, message in (
        (lambda c: c.pop("images"), "no COCO annotation file"),
        (lambda c: c["annotations"][0].pop("image_id"), "annotation 0 lacks image_id"),
        (lambda c: c["annotations"][0].update(image_id=99), "belongs to no image"),
        (lambda c: c["images"][0].update(file_name="../../x.JPEG"), "not a path below"),
        (lambda c: c["categories"].pop(), "belongs to no image or part"),
    ):
        damaged = json.loads(json.dumps(content))
        change(damaged)
        write_text(file, json.dumps(damaged))
        with pytest.raises(DataError, match=message):
            build_dataset("coco_parts", part_imagenet, allow_partial=True)
    write_text(file, "[" * 100_000)
    with pytest.raises(DataError, match=r"train\.json"):
        build_dataset("coco_parts", part_imagenet)
    file.unlink()
    with pytest.raises(DataError, match="no part annotations for train"):
        build_dataset("coco_parts", part_imagenet)


def test_run_lengths():
    """COCO's example of its own documentation: runs go down the columns and begin with zeros."""
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 1], mask[0, 2] = True, True
    assert np.array_equal(drawn({"size": [4, 5], "counts": [5, 2, 1, 1, 11]}, 4, 5), mask)
    with pytest.raises(DataError, match="7 pixels do not make a mask"):
        drawn({"size": [4, 5], "counts": [5, 2]}, 4, 5)
    with pytest.raises(DataError, match="does not fit"):
        drawn({"size": [5, 4], "counts": [20]}, 4, 5)
    assert not drawn([[1, 2, 3, 4]], 4, 5).any() and read_outline([[1, 2, 3, 4]], "x").flat == 1


def test_polygons_against_matplotlib():
    """A pixel is in where its centre is: matplotlib's point-in-polygon, on random polygons, also
    beyond the frame.
    """
    rng = np.random.default_rng(0)
    centres = np.stack(np.meshgrid(np.arange(40) + 0.5, np.arange(30) + 0.5), -1).reshape(-1, 2)
    for trial in range(30):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radii = rng.uniform(3, 25 if trial % 2 else 14, 9)
        corners = np.stack([20 + radii * np.cos(angles), 15 + radii * np.sin(angles)], 1)
        expected = MplPath(corners).contains_points(centres).reshape(30, 40)
        assert np.array_equal(drawn([corners.flatten().tolist()], 30, 40), expected)
    two = drawn([[0, 0, 5, 0, 5, 5, 0, 5], [3, 3, 9, 3, 9, 9, 3, 9]], 30, 40)
    assert two.sum() == 25 + 36 - 4  # a union


def test_compressed_run_lengths_against_pycocotools():
    masks = pytest.importorskip("pycocotools.mask")
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (7, 5), (40, 63), (300, 200)):
        for share in (0.02, 0.5, 0.98):
            mask = np.asfortranarray(rng.random(shape) < share).astype(np.uint8)
            packed = masks.encode(mask)
            segmentation = {"size": packed["size"], "counts": packed["counts"].decode()}
            assert np.array_equal(drawn(segmentation, *shape), mask.astype(bool))


def test_compressed_run_lengths_by_hand():
    """Counts 5 2 1 1 11 as COCO packs them: 5, 2, 1, then differences to the run two before: -1,
    10.
    """
    text = "".join(chr(48 + v) for v in (5, 2, 1, (-1) & 0x1F, 10))
    assert np.array_equal(
        drawn({"size": [4, 5], "counts": text}, 4, 5),
        drawn({"size": [4, 5], "counts": [5, 2, 1, 1, 11]}, 4, 5),
    )
    # two digits with a sign
    large = "".join(chr(48 + v) for v in (((-40) & 0x1F) | 0x20, (-40 >> 5) & 0x1F))
    packed = (
        chr(48 + ((100 & 0x1F) | 0x20))
        + chr(48 + (100 >> 5))
        + "1"
        + chr(48 + ((100 & 0x1F) | 0x20))
        + chr(48 + 3)
    )
    assert drawn({"size": [1, 201], "counts": packed}, 1, 201).sum() == 1
    assert len(large) == 2


def test_celeba_mask(tmp_path, write_image, write_text):
    root = tmp_path / "CelebAMask-HQ"
    originals = {0: 119613, 1: 162770, 2: 162771, 3: 182637, 2001: 182638}
    rows = "".join(f"{k}      {v}      {v + 1:06d}.jpg\n" for k, v in originals.items())
    write_text(root / "CelebA-HQ-to-CelebA-mapping.txt", "idx orig_idx orig_file\n" + rows)
    for key in originals:
        write_image(root / f"CelebA-HQ-img/{key}.jpg", 64, 64)
        skin, hair = np.zeros((32, 32, 3)), np.zeros((32, 32, 3))
        skin[8:28, 8:24], hair[4:12, 8:24] = 255, 255
        folder = root / "CelebAMask-HQ-mask-anno" / str(key // 2000)
        write_mask(folder / f"{key:05d}_skin.png", skin)
        write_mask(folder / f"{key:05d}_hair.png", hair)
    lengths = {
        s: len(build_dataset("celeba_mask", tmp_path, s, allow_partial=True))
        for s in ("train", "val", "test")
    }
    assert lengths == {"train": 2, "val": 2, "test": 1}
    test = build_dataset("celeba_mask", root, "test", allow_partial=True)
    mask = test[0].part_mask
    assert mask.shape == (64, 64) and mask[40, 30] == 1 and mask[18, 30] == 17 and mask[2, 2] == 0
    assert (2, 3) in test.part_pairs and (4, 5) in test.part_pairs and len(test.part_pairs) == 3
    with pytest.raises(DataError, match=r"5 of the 30,000"):
        build_dataset("celeba_mask", root)
