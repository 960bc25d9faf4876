"""Part masks as people have them: ids that are not judged, black and white, other sizes, turned
pictures, capitals."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ssl_parts.data.bank import ImageBank
from ssl_parts.data.catalogue import build_dataset
from ssl_parts.data.decode import decode_mask, turn
from ssl_parts.data.orientation import Header
from ssl_parts.errors import ConfigError, DataError

IDS = np.kron(np.array([[0, 1], [2, 1]], np.uint8), np.ones((20, 30), np.uint8))  # 40 x 60


def save(path, ids, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(ids), mode).save(path, **options)


@pytest.fixture
def parts(tmp_path, write_image):
    """parts(ids, split, names, **save): one image of 40 x 60 pixels and its mask."""

    def write(
        ids=IDS, split="", names=None, number=0, image="images", mask="masks/{}.png", **options
    ):
        write_image(tmp_path / split / image / f"{number}.jpg", **options)
        save(tmp_path / split / mask.format(number), np.asarray(ids, np.uint8))
        if names:
            (tmp_path / "parts.txt").write_text("\n".join(names))
        return tmp_path

    return write


def test_id_255_is_not_judged_and_is_no_part(parts):
    ids = np.where(IDS == 1, 255, IDS)
    parts(number=1)
    data = build_dataset("part_folder", parts(ids))
    assert data.part_names == ["part 1", "part 2"]
    assert data[0].part_mask.unique().tolist() == [0, 2, 255]
    assert "1 masks hold id 255, which is not judged (masks/0.png)" in data.remarks.sentences()
    named = build_dataset("part_folder", parts(ids, names=["wing", "tail"]))
    assert named[0].part_mask.max() == 255 and named.part_names == ["wing", "tail"]


def test_black_and_white_masks_have_one_part(parts):
    white = np.where(IDS == 2, 255, 0)
    data = build_dataset("part_folder", parts(white))
    assert data.part_names == ["part 1"] and np.array_equal(data[0].part_mask, IDS == 2)
    assert "255 is part 1" in data.remarks.sentences()[0]
    assert build_dataset("part_folder", parts(white, names=["object"])).part_names == ["object"]
    parts(np.where(IDS == 2, 255, IDS % 2), number=1)  # id 1 is there: then 255 is not judged
    assert build_dataset("part_folder", parts(white))[0].part_mask.max() == 255


def test_all_splits_have_the_same_part_names(parts):
    parts(split="train")
    root = parts(np.where(IDS == 2, 3, IDS), split="test")
    names = [build_dataset("part_folder", root, split).part_names for split in ("train", "test")]
    assert names[0] == names[1] == ["part 1", "part 2", "part 3"]


def test_ids_far_apart_are_refused_without_names(parts):
    with pytest.raises(
        DataError, match=r"masks hold ids 128, 38, and ids between are not there.*parts\.txt"
    ):
        build_dataset("part_folder", parts(np.where(IDS == 1, 38, IDS * 64)))


def test_a_mask_of_another_size_is_resized_where_its_shape_is_that_of_the_image(parts):
    data = build_dataset("part_folder", parts(np.kron(IDS, np.ones((2, 2), np.uint8))))
    assert np.array_equal(data[0].part_mask, IDS) and "another size" in data.remarks.sentences()[-1]
    data = build_dataset("part_folder", parts(IDS[:, :40]))
    with pytest.raises(DataError, match=r"0\.jpg: the image is 60 x 40, its part mask 40 x 40"):
        ImageBank(data, 16).sample(0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_turns_with_its_picture(parts, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    data = build_dataset("part_folder", parts(exif=exif))
    mask, said = data[0].part_mask.numpy(), data.remarks.sentences()
    stored = Image.fromarray(IDS)
    stored.getexif()[274] = orientation
    turned = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(turn(torch.from_numpy(IDS), orientation), turned)
    assert np.array_equal(mask, turned if orientation >= 5 else IDS)
    assert (
        orientation == 1 or ("turned with it" if orientation >= 5 else "as it is shown") in said[-1]
    )
    upright = build_dataset("part_folder", parts(turned, exif=exif))
    assert np.array_equal(upright[0].part_mask, turned)  # drawn on the picture as it is shown


def test_headers():
    assert Header(60, 40, 6).upright == (60, 40) and Header(60, 40, 3).upright == (40, 60)
    assert Header(40, 40, 6).fits_both_ways and not Header(60, 40, 6).fits_both_ways


def test_capitals_and_other_suffixes(parts):
    parts(image="Images", mask="MASKS/{}.PNG")
    root = parts(number=1, image="Images", mask="MASKS/{}.bmp")
    data = build_dataset("part_folder", root)
    assert len(data) == 2 and all(np.array_equal(data[i].part_mask, IDS) for i in range(2))


def test_one_folder_around_all_of_it_and_splits_in_any_spelling(parts):
    parts(split="archive/Training")
    root = parts(split="archive/TEST", number=1)
    train, test = (build_dataset("part_folder", root, split) for split in ("train", "test"))
    assert train.paths == ["Training/images/0.jpg"] and test.paths == ["TEST/images/1.jpg"]
    assert train.account == ["split train: 1 image with masks", "split test: 1 image with masks"]


def test_a_test_split_without_masks_is_left_out(parts, write_image):
    root = parts(split="train")
    write_image(root / "test/images/1.jpg")
    train = build_dataset("part_folder", root)
    assert "test/ has no masks/ and is left out" in train.remarks.sentences()[0]
    with pytest.raises(ConfigError, match="no such split"):
        build_dataset("part_folder", root, "test")


def test_what_does_not_fit_is_named(parts, write_image, tmp_path):
    root = parts()
    write_image(root / "images/0.png")
    with pytest.raises(DataError, match=r"several images 0\.\*, which share one mask"):
        build_dataset("part_folder", root)
    (root / "images/0.png").unlink()
    save(root / "masks/9.png", IDS)
    (root / "images/1.heic").write_bytes(b"x")
    said = "\n".join(build_dataset("part_folder", root).remarks.sentences())
    assert "1 mask without an image: 9.png" in said and "1 .heic" in said
    (root / "masks/9.png").unlink()
    (root / "masks/0.png").rename(root / "masks/0.jpg")
    with pytest.raises(DataError, match=r"masks are \.jpg files, which do not keep ids"):
        build_dataset("part_folder", root)


def test_lists_of_names(parts):
    root = parts()
    (root / "classes.json").write_bytes(
        '\ufeff{"0": "sky", "1": "wing", "2": "tail", "255": "ignore"}'.encode()
    )
    assert build_dataset("part_folder", root).part_names == ["wing", "tail"]
    (root / "classes.json").write_text("[" * 9999)
    with pytest.raises(DataError, match=r"classes\.json: expected"):
        build_dataset("part_folder", root)
    (root / "parts.txt").write_text("\n".join(map(str, range(255))))
    with pytest.raises(DataError, match="names 255 parts; at most 254"):
        build_dataset("part_folder", root)


def test_masks_with_alpha_and_of_other_kinds(tmp_path):
    ids = np.array([[0, 1], [2, 3]], np.uint8)
    opaque = np.full((2, 2), 255, np.uint8)
    file = tmp_path / "m.png"
    for channels in ([ids, opaque], [ids, ids, ids], [ids, ids, ids, opaque], [ids, opaque - 9]):
        save(file, np.stack(channels, -1))
        assert decode_mask(file).tolist() == ids.tolist()
    save(file, np.stack([ids, ids, opaque], -1))
    with pytest.raises(DataError, match="has colours"):
        decode_mask(file)
    Image.fromarray(ids).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match=r"m\.jpg: a mask as JPEG"):
        decode_mask(tmp_path / "m.jpg")
    for values, words in (
        ([[0.0, 1.5]], "whole numbers, but 1.5"),
        ([[0.0, np.nan]], "0..255"),
        ([[0.0, 300.0]], "0..255"),
    ):
        save(tmp_path / "m.tif", np.array(values, np.float32))
        with pytest.raises(DataError, match=words):
            decode_mask(tmp_path / "m.tif")
    save(tmp_path / "m.tif", np.array([[0.0, 2.0]], np.float32))
    assert decode_mask(tmp_path / "m.tif").tolist() == [[0, 2]]
