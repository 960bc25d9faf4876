"""COCO files as tools write them: read rightly, or one sentence with the file and the row."""

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.data.sets.coco_masks import rasterise, read_outline
from ssl_parts.errors import ConfigError, DataError

SQUARE = [4, 4, 20, 4, 20, 12, 4, 12]  # 16 x 8 pixels
WING, TAIL = {"id": 1, "name": "wing"}, {"id": 2, "name": "tail"}


@pytest.fixture
def coco(tmp_path, write_image):
    """coco(annotations, images, categories, split, size, **save): images of 40 x 32, and their
    file."""

    def write(rows, images=None, categories=(WING, TAIL), split="train", size=(32, 40), **save):
        images = images or [{"id": 1, "file_name": "1.jpg", "width": 40, "height": 32}]
        write_image(tmp_path / "images" / split / "1.jpg", *size, **save)
        defaults = {"id": 7, "image_id": 1, "category_id": 1, "segmentation": [SQUARE]}
        rows = [defaults | row for row in rows]
        content = {"images": images, "annotations": rows, "categories": list(categories)}
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{split}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def mask_of(root, split="train"):
    return build_dataset("coco_parts", root, split)[0].part_mask.numpy()


def square(height=32, width=40, x=4, y=4, w=16, h=8):
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


@pytest.mark.parametrize(
    "segmentation",
    [
        [SQUARE],
        SQUARE,
        [[[4, 4], [20, 4], [20, 12], [4, 12]]],
        [[4, 4], [20, 4], [20, 12], [4, 12]],
        [SQUARE, [1, 1, 2, 2]],
        {"counts": [132, *([8, 24] * 15), 8, 1280 - 132 - 32 * 15 - 8], "size": [32, 40]},
        {"counts": [132, *([8, 24] * 15), 8, 1280 - 132 - 32 * 15 - 8]},
    ],
)
def test_ways_to_write_a_region(coco, segmentation):
    assert np.array_equal(mask_of(coco([{"segmentation": segmentation}])), square())


def test_rows_without_a_region_are_counted(coco):
    root = coco(
        [
            {},
            {"id": 8, "segmentation": None},
            {"id": 9, "segmentation": []},
            {"segmentation": [[1, 1, 2, 2]]},
        ]
    )
    data = build_dataset("coco_parts", root)
    said = "\n".join(data.remarks.sentences())
    assert (
        "2 annotations without a region are left out" in said
        and "1 polygon of less than three corners" in said
    )
    with pytest.raises(
        DataError, match=r"train\.json holds no region of a part; coco_parts needs segmentations"
    ):
        build_dataset("coco_parts", coco([{"segmentation": None}]))


def test_a_split_without_regions_is_left_out(coco):
    coco([{}])
    root = coco([], split="test")
    train = build_dataset("coco_parts", root)
    assert "test.json holds no region: split test is left out" in train.remarks.sentences()[0]
    with pytest.raises(ConfigError, match="no such split"):
        build_dataset("coco_parts", root, "test")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": [[1, 2, float("nan"), 4, 5, 6]]}, ["annotation 7", "no pixels"]),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, ["annotation 7", "no polygon of x, y pairs"]),
        ({"segmentation": [["1", "2", "3", "4", "5", "6"]]}, ["annotation 7", "no polygon"]),
        ({"segmentation": [[1, 2, 10**400, 4, 5, 6]]}, ["annotation 7", "no pixels"]),
        ({"segmentation": "polygon"}, ["annotation 7", "polygon"]),
        ({"segmentation": {"counts": [1, 2]}}, ["annotation 7", "3 pixels"]),
        (
            {"segmentation": {"counts": [-1, 1281], "size": [32, 40]}},
            ["annotation 7", "no list of whole"],
        ),
        (
            {"segmentation": {"counts": None, "size": [32, 40]}},
            ["annotation 7", "run lengths None"],
        ),
        ({"segmentation": {"counts": [10**12], "size": [10**6, 10**6]}}, ["does not fit"]),
        (
            {"segmentation": [[100, 100, 200, 100, 200, 200]]},
            ["annotation 7", "outside the image of 40 x 32"],
        ),
        ({"segmentation": [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]}, ["between 0 and 1"]),
        ({"image_id": None}, ["annotation 7", "image_id"]),
        ({"image_id": [1]}, ["annotation 7", "image_id"]),
        ({"category_id": "wing"}, ["annotation 7", "category_id"]),
        ({"category_id": 99}, ["annotation 7", "no category 99"]),
        ({"image_id": 5}, ["annotation 7", "no image 5"]),
    ],
)
def test_damaged_rows_are_named(coco, change, words):
    root = coco([change])
    with pytest.raises(DataError) as caught:
        mask_of(root)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "[]",
        "{}",
        "7",
        '{"images": 3}',
        '{"images": [], "annotations": [], "categories": []}',
        "{",
        "[" * 9999,
    ],
)
def test_files_that_are_no_coco(coco, content):
    root = coco([{}])
    (root / "annotations/train.json").write_text(content)
    with pytest.raises(DataError, match=r"train\.json"):
        build_dataset("coco_parts", root)


def test_repeated_rows(coco):
    image = {"id": 1, "file_name": "1.jpg", "width": 40, "height": 32}
    other = [[24, 4, 32, 4, 32, 12, 24, 12]]
    rows = [{}, {"id": 7, "image_id": 2, "segmentation": other}]
    data = build_dataset("coco_parts", coco(rows, [image, image, image | {"id": 2}]))
    assert len(data) == 1 and "2 images are listed twice" in data.remarks.sentences()[0]
    assert int((data[0].part_mask > 0).sum()) == 16 * 8 + 8 * 8  # regions of both ids
    with pytest.raises(DataError, match=r"id 1 is both image 1\.jpg and 2\.jpg"):
        build_dataset("coco_parts", coco([{}], [image, image | {"file_name": "2.jpg"}]))
    with pytest.raises(DataError, match="category 1 is both 'wing' and 'tail'"):
        build_dataset("coco_parts", coco([{}], categories=[WING, TAIL | {"id": 1}]))


def test_at_most_254_parts(coco):
    parts = [{"id": i, "name": str(i)} for i in range(1, 256)]
    with pytest.raises(DataError, match="255 categories; at most 254"):
        build_dataset("coco_parts", coco([{}], categories=parts))
    data = build_dataset("coco_parts", coco([{"category_id": 254}], categories=parts[:254]))
    assert data[0].part_mask.max() == 254 and len(data.part_names) == 254


def test_regions_are_scaled_to_the_image(coco):
    large = {"id": 1, "file_name": "1.jpg", "width": 400, "height": 320}
    root = coco([{"segmentation": [[10 * value for value in SQUARE]]}], [large])
    assert np.array_equal(mask_of(root), square())
    data = build_dataset("coco_parts", root)
    data[0]
    assert (
        "1 images have another size than their annotation file says" in data.remarks.sentences()[0]
    )
    runs = np.kron(square(), np.ones((10, 10), np.uint8)).T.ravel()
    changes = np.flatnonzero(np.diff(runs)) + 1
    counts = np.diff([0, *changes, len(runs)]).tolist()
    assert np.array_equal(mask_of(coco([{"segmentation": {"counts": counts}}], [large])), square())
    with pytest.raises(
        DataError, match=r"1\.jpg is 40 x 32 pixels, but its annotation file says 400 x 300"
    ):
        mask_of(coco([{}], [large | {"height": 300}]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_regions_turn_with_exif(coco, orientation):
    """PIL turns the mask as it turns the picture."""
    exif = Image.Exif()
    exif[274] = orientation
    root = coco([{}], exif=exif)
    stored = Image.fromarray(square())
    stored.getexif()[274] = orientation
    turned = np.asarray(ImageOps.exif_transpose(stored))
    data = build_dataset("coco_parts", root)
    mask, said = data[0].part_mask.numpy(), data.remarks.sentences()
    # 32 x 40 after turning: the file's 40 x 32 tells that it was drawn before
    if orientation >= 5:
        assert np.array_equal(mask, turned) and "regions are turned with them" in said[0]
    else:
        assert np.array_equal(mask, square()) and (orientation == 1 or "as it is shown" in said[0])


def test_names_as_windows_and_cameras_write_them(coco, write_image):
    for name in ("train\\1.jpg", ".\\1.jpg", "1.JPG", "train/1.jpg"):
        data = build_dataset("coco_parts", coco([{}], [{"id": 1, "file_name": name}]))
        assert data.paths == ["images/train/1.jpg"] and len(data) == 1
    data = build_dataset("coco_parts", coco([{}], [{"id": 1, "file_name": "1.JPG"}]))
    assert "Windows' backslashes" in data.remarks.sentences()[0]
    for name in ("/home/me/1.jpg", "C:\\me\\1.jpg", "..\\..\\1.jpg", "a\0b.jpg", "x" * 5000):
        with pytest.raises(DataError, match=r"not a path below|not there"):
            build_dataset("coco_parts", coco([{}], [{"id": 1, "file_name": name}]))


def test_other_places_of_files(tmp_path, coco, write_image):
    root = coco([{}])
    content = (root / "annotations/train.json").read_text()
    for split in ("train", "valid"):
        write_image(tmp_path / "robo" / split / "1.jpg", 32, 40, seed=len(split))
        (tmp_path / "robo" / split / "_annotations.coco.json").write_text(content)
        write_image(tmp_path / "year" / f"{split[:5]}2017" / "1.jpg", 32, 40)
        (tmp_path / "year/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"year/annotations/instances_{split[:5]}2017.json").write_text(content)
        (tmp_path / f"year/annotations/captions_{split[:5]}2017.json").write_text("{}")
    for name in ("robo", "year"):
        train, val = (
            build_dataset("coco_parts", tmp_path / name, split) for split in ("train", "val")
        )
        assert len(train) == len(val) == 1 and train.paths != val.paths


def test_all_splits_have_the_same_parts(coco):
    coco([{}], categories=[WING])
    root = coco([{"category_id": 2}], categories=[TAIL], split="test")
    train, test = (build_dataset("coco_parts", root, split) for split in ("train", "test"))
    assert train.part_names == test.part_names == ["wing", "tail"] and test[0].part_mask.max() == 2
    for categories, words in (
        ([TAIL | {"id": 1}], "'tail'.*'wing'"),
        ([WING | {"id": 3}], "category 3 is 'wing'.*1"),
    ):
        coco([{"category_id": categories[0]["id"]}], categories=categories, split="test")
        with pytest.raises(DataError, match=words):
            build_dataset("coco_parts", root)


def test_an_image_of_two_splits_is_refused(coco, write_image):
    coco([{}])
    root = coco([{}], split="test")
    for split in ("train", "test"):
        (root / "images" / split / "1.jpg").unlink()
        (root / "images" / split).rmdir()
    write_image(root / "images/1.jpg", 32, 40)
    with pytest.raises(DataError, match=r"images/1\.jpg, which is in split train too"):
        build_dataset("coco_parts", root)


def test_outlines_against_the_bank(coco):
    """The bank shows the region in the square of the image."""
    ids = ImageBank(build_dataset("coco_parts", coco([{}])), 32, "squash").sample(0).part_mask
    assert int((ids == 1).sum()) == pytest.approx(16 * 8 * 32 / 40, rel=0.1)
    assert rasterise(read_outline([SQUARE], "x"), 32, 40, "x").sum() == 128
