import numpy as np
import pytest
from PIL import Image

from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.errors import ConfigError, DataError


@pytest.fixture
def archive(tmp_path, write_image, write_text):
    """CUB_200_2011/ with six images of two species, as the published lists write them."""
    root = tmp_path / "CUB_200_2011"
    names = [
        f"{c}/Bird_{i:04d}.jpg"
        for i, c in enumerate(["001.Black_footed_Albatross", "002.Laysan_Albatross"] * 3)
    ]
    for i, name in enumerate(names):
        write_image(root / "images" / name, 40, 60, seed=i)
        mask = np.zeros((40, 60), np.uint8)
        mask[10:30, 20:50], mask[5:10] = 255, 102
        path = tmp_path / "segmentations" / name.replace(".jpg", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    ids = range(1, 7)
    write_text(root / "images.txt", "".join(f"{i} {names[i - 1]}\n" for i in ids))
    write_text(root / "image_class_labels.txt", "".join(f"{i} {2 - i % 2}\n" for i in ids))
    write_text(root / "train_test_split.txt", "".join(f"{i} {int(i > 2)}\n" for i in ids))
    write_text(root / "classes.txt", "1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n")
    write_text(root / "bounding_boxes.txt", "".join(f"{i} {i}.0 2.0 30.0 20.0\n" for i in ids))
    write_text(root / "parts/parts.txt", "1 back\n2 left eye\n")
    write_text(
        root / "parts/part_locs.txt", "".join(f"{i} 1 {i}.5 7.0 1\n{i} 2 0.0 0.0 0\n" for i in ids)
    )
    return root


def test_reads_the_archive(archive):
    train = build_dataset("cub", archive, "train", allow_partial=True)
    # the folder around it works too
    test = build_dataset("cub", archive.parent, "test", allow_partial=True)
    assert len(train) == 4 and len(test) == 2
    assert (
        train.labels.tolist() == [0, 1, 0, 1]
        and test.paths[1] == "002.Laysan_Albatross/Bird_0001.jpg"
    )
    assert train.classes == ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    assert train.keypoint_names == ["back", "left eye"] and train.part_names == ["bird"]
    sample = train[1]  # image id 4
    assert sample.box == (4.0, 2.0, 34.0, 22.0) and sample.label == 1
    assert sample.keypoints.tolist() == [[4.5, 7.0, 1.0], [0.0, 0.0, 0.0]]
    assert (
        sample.image.shape == (3, 40, 60)
        and sample.part_mask.sum() == 20 * 30
        and sample.part_mask[15, 30] == 1
    )


def test_a_partial_copy_is_reported_with_counts(archive):
    with pytest.raises(DataError, match=r"partial copy.*6 of the 11,788.*allow_partial=true"):
        build_dataset("cub", archive)
    (archive / "images/001.Black_footed_Albatross/Bird_0002.jpg").unlink()
    with pytest.raises(
        DataError,
        match=r"1 listed files are not there \(001\.Black_footed_Albatross/Bird_0002\.jpg\)",
    ):
        build_dataset("cub", archive)
    train = build_dataset("cub", archive, allow_partial=True)
    assert len(train) == 3 and train.census.missing == ["001.Black_footed_Albatross/Bird_0002.jpg"]
    assert train[0].box[0] == 4.0  # rows still belong to their images


def test_without_masks_boxes_and_parts(archive):
    (archive.parent / "segmentations").rename(archive.parent / "elsewhere")
    (archive / "bounding_boxes.txt").unlink()
    (archive / "parts").rename(archive.parent / "parts_elsewhere")
    sample = build_dataset("cub", archive, allow_partial=True)[0]
    assert sample.box is None and sample.keypoints is None and sample.part_mask is None


def test_damaged_lists(archive, write_text):
    write_text(archive / "image_class_labels.txt", "1 1\n2\n")
    with pytest.raises(
        DataError, match=r"image_class_labels\.txt, line 2: '2' has 1 fields, not 2"
    ):
        build_dataset("cub", archive, allow_partial=True)
    write_text(archive / "image_class_labels.txt", "1 1\n2 2\n3 1\n4 2\n5 9\n6 2\n")
    with pytest.raises(DataError, match=r"names class 9"):
        build_dataset("cub", archive, allow_partial=True)
    write_text(archive / "image_class_labels.txt", "1 1\n2 2\n")
    with pytest.raises(DataError, match=r"no row for 4 images"):
        build_dataset("cub", archive, allow_partial=True)


@pytest.mark.parametrize(
    "path", ["../../secret.jpg", "/etc/passwd", "a/../../b.jpg", "C:\\b.jpg", "..\\b.jpg"]
)
def test_listed_paths_cannot_leave_the_root(archive, write_text, path):
    lines = (archive / "images.txt").read_text().splitlines()
    lines[3] = f"4 {path}"
    write_text(archive / "images.txt", "\n".join(lines))
    with pytest.raises(DataError, match="not a path below"):
        build_dataset("cub", archive, allow_partial=True)


def test_wrong_folders(tmp_path, archive):
    with pytest.raises(DataError, match=r"none does not exist"):
        build_dataset("cub", tmp_path / "none")
    with pytest.raises(
        DataError, match=r"images\.txt.* not found in .* nor in .*data\.root holds nothing"
    ):
        (tmp_path / "empty").mkdir()
        build_dataset("cub", tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        build_dataset("cub")
    with pytest.raises(DataError, match="is a file"):
        build_dataset("cub", archive / "images.txt")


def test_real_birds(real_data):
    root = real_data / "data/cub10"
    with pytest.raises(DataError, match="543 of the 11,788"):
        build_dataset("cub", root)
    train, test = (
        build_dataset("cub", root, split, allow_partial=True) for split in ("train", "test")
    )
    assert (len(train), len(test), len(train.classes), len(train.keypoint_names)) == (
        300,
        243,
        10,
        15,
    )
    for i in range(0, 300, 60):
        sample = train[i]
        height, width = sample.image.shape[1:]
        visible = sample.keypoints[sample.keypoints[:, 2] > 0]
        x0, y0, x1, y1 = sample.box
        assert -1 <= x0 < x1 <= width + 1 and -1 <= y0 < y1 <= height + 1
        # annotators' keypoints lie on the bird, that is in its box
        assert (
            (visible[:, 0] > x0 - 8).all()
            and (visible[:, 0] < x1 + 8).all()
            and (visible[:, 1] < y1 + 8).all()
        )
