import os

import numpy as np
import pytest
from omegaconf import StringNode
from PIL import Image

from ssl_parts.configuration.compose import parse_value
from ssl_parts.data.index_cache import cache_home
from ssl_parts.data.sets import tree
from ssl_parts.data.sets.catalogue import build_dataset
from ssl_parts.errors import ConfigError, DataError


def test_class_folders_of_any_depth(image_folder):
    data = build_dataset("folder", image_folder)
    assert data.classes == ["ant", "bee", "cat"] and len(data) == 12
    assert data.paths == sorted(data.paths) and data.paths[4] == "bee/deep/01.jpg"
    assert np.bincount(data.labels).tolist() == [4, 4, 4] and data[4].label == 1
    assert build_dataset("folder", image_folder, labelled=False)[4].label is None


def test_unlabelled(tmp_path, write_image, image_folder):
    for i in range(3):
        write_image(tmp_path / "flat" / f"{i}.png")
        write_image(tmp_path / "one" / "photos" / f"{i}.PNG")
    for root in ("flat", "one"):
        data = build_dataset("folder", tmp_path / root)
        assert data.classes == [] and data.labels.tolist() == [-1] * 3 and data[0].label is None


def test_hidden_and_other_files_are_passed_over(image_folder, write_text, write_image):
    write_text(image_folder / "notes.txt", "x")
    write_image(image_folder / ".thumbs" / "a.jpg")
    write_image(image_folder / "__MACOSX" / "a.jpg")
    (image_folder / "ant" / "._00.jpg").write_bytes(b"x")
    (image_folder / "cat" / "loop").symlink_to(image_folder)
    assert len(build_dataset("folder", image_folder)) == 12


def test_split_folders(tmp_path, write_image):
    for i, split in enumerate(["train"] * 8 + ["test"] * 4):
        write_image(tmp_path / split / "ab"[i % 2] / f"{i}.jpg")
    train, test = (build_dataset("folder", tmp_path, split) for split in ("train", "test"))
    assert len(train) == 8 and len(test) == 4 and train.classes == ["a", "b"]
    fit, val = (build_dataset("folder", tmp_path, split) for split in ("fit", "val"))
    assert sorted(fit.paths + val.paths) == train.paths and np.bincount(val.labels).tolist() == [
        1,
        1,
    ]


def test_a_share_of_each_class_for_testing(image_folder):
    with pytest.raises(ConfigError, match=r"no folder test/.*data\.test_share"):
        build_dataset("folder", image_folder, "test")
    train, test = (
        build_dataset("folder", image_folder, s, test_share=0.5, seed=3) for s in ("train", "test")
    )
    assert np.bincount(train.labels).tolist() == np.bincount(test.labels).tolist() == [2, 2, 2]
    assert not set(train.paths) & set(test.paths)
    assert test.paths != build_dataset("folder", image_folder, "test", test_share=0.5, seed=4).paths
    with pytest.raises(ConfigError, match=r"test_share=1\.0"):
        build_dataset("folder", image_folder, test_share=1.0)


def test_all_kinds_of_images_give_rgb(tmp_path):
    for i, mode in enumerate(("L", "CMYK", "P", "RGBA", "1", "I;16", "LA")):
        path = tmp_path / f"{i}.{'jpg' if mode in ('L', 'CMYK') else 'png'}"
        image = Image.new("RGB", (20, 12), (200, 30, 90))
        (
            Image.fromarray(np.full((12, 20), 9999, np.uint16))
            if mode == "I;16"
            else image.convert(mode)
        ).save(path)
    data = build_dataset("folder", tmp_path)
    assert all(data[i].image.shape == (3, 12, 20) for i in range(7)) and len(data) == 7


def test_empty_and_missing(tmp_path, write_text):
    with pytest.raises(DataError, match=r"holds no image \(looked for \.jpg"):
        build_dataset("folder", tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        build_dataset("folder", tmp_path / "x")
    with pytest.raises(ConfigError, match=r"data\.root is not set"):
        build_dataset("folder")


def test_the_list_of_a_large_folder_is_kept(image_folder, tmp_path, monkeypatch, write_image):
    monkeypatch.setenv("SSL_PARTS_CACHE", str(tmp_path / "indices"))
    monkeypatch.setattr(tree, "LARGE", 10)
    first = build_dataset("folder", image_folder).paths
    # just written: its times may not tell the next change
    assert not (tmp_path / "indices").exists()
    monkeypatch.setattr(tree, "SETTLED", -1)
    build_dataset("folder", image_folder)
    with monkeypatch.context() as patch:
        patch.setattr(tree, "walk", lambda root: pytest.fail("walked again"))
        assert build_dataset("folder", image_folder).paths == first
    # so that the new image surely changes the folder's time
    os.utime(image_folder / "bee/deep", ns=(1, 1))
    write_image(image_folder / "bee/deep/new.jpg")
    assert len(build_dataset("folder", image_folder)) == 13
    (image_folder / "bee/deep/new.jpg").unlink()
    assert build_dataset("folder", image_folder).paths == first


def test_what_is_left_out_is_counted_and_said(image_folder, caplog):
    for name in ("ant/IMG_1.HEIC", "dog/IMG_2.HEIC", "dog/notes.txt", "bee/movie.mp4", "bee/none"):
        (image_folder / name).parent.mkdir(exist_ok=True)
        (image_folder / name).write_bytes(b"x")
    (image_folder / "cat/@eaDir/1.jpg").mkdir(parents=True)
    (image_folder / "cat/@eaDir/1.jpg/thumb.jpg").write_bytes(b"x")
    data = build_dataset("folder", image_folder)
    said = "\n".join(data.remarks.sentences())
    assert len(data) == 12 and data.classes == ["ant", "bee", "cat"]
    assert (
        "4 files are left out, by suffix: 2 .heic, 1 .mp4, 1 without suffix" in said
        and ".txt" not in said
    )
    assert "no image in dog/" in said and "system folders are not entered: cat/@eaDir" in said
    assert all(sentence in caplog.text for sentence in data.remarks.sentences())
    caplog.clear()
    build_dataset("folder", image_folder)
    assert not caplog.text  # once is enough


def test_jfif_is_read_and_archives_are_named(tmp_path, write_image):
    write_image(tmp_path / "a" / "1.jpg").rename(tmp_path / "a" / "1.JFIF")
    assert build_dataset("folder", tmp_path)[0].image.shape == (3, 40, 60)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "images.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no image, but 1 \.zip; unpack them first"):
        build_dataset("folder", tmp_path / "packed")


def test_a_folder_that_cannot_be_read_is_named(image_folder, monkeypatch):
    walk = os.walk

    def walk_without_bee(root, onerror, **options):
        onerror(PermissionError(13, "Permission denied", f"{root}/bee"))
        return walk(root, **options)

    monkeypatch.setattr(os, "walk", walk_without_bee)
    with pytest.raises(DataError, match=r"cannot read the folder .*/bee \(Permission denied\)"):
        build_dataset("folder", image_folder)


@pytest.mark.parametrize("root", ["", "  ", "~nobody-of-this-name/x", "a\0b", "x" * 5000])
def test_roots_that_are_no_folders(root, tmp_path, monkeypatch, write_image):
    write_image(tmp_path / "screenshot.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ConfigError, DataError), match=r"data\.root"):
        build_dataset("folder", root)


def test_a_share_is_cut_where_there_is_only_val(tmp_path, write_image):
    for i, split in enumerate(["train"] * 8 + ["val"] * 2):
        write_image(tmp_path / split / "ab"[i % 2] / f"{i}.jpg")
    with pytest.raises(
        ConfigError,
        match=r"data\.test_share=0\.5, or report on validation images with data\.test_split=val",
    ):
        build_dataset("folder", tmp_path, "test")
    train, test = (build_dataset("folder", tmp_path, s, test_share=0.5) for s in ("train", "test"))
    assert len(train) == len(test) == 4 and not any(
        "val" in path for path in train.paths + test.paths
    )


def test_real_flowers(real_data):
    train, test = (
        build_dataset("folder", real_data / "data/flowers17", s, test_share=0.5)
        for s in ("train", "test")
    )
    assert np.bincount(train.labels).tolist() == np.bincount(test.labels).tolist() == [40] * 17
    assert train[100].image.dtype.is_floating_point is False


def test_a_user_without_a_home_can_read_folders(tmp_path, monkeypatch):
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "SSL_PARTS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert cache_home().name == "ssl_parts" and cache_home().parent.is_dir()
    monkeypatch.setenv("SSL_PARTS_CACHE", str(tmp_path / "kept"))
    assert cache_home() == tmp_path / "kept"
    with pytest.raises(ConfigError, match="no home folder"):
        parse_value("~/photos", StringNode("x"))


def test_labels_csv_gives_classes_to_images_without_class_folders(tmp_path, write_image):
    for name in "abcd":
        write_image(tmp_path / "images" / f"{name}.jpg")
    rows = "Image;Class\r\na.jpg;wren\r\nb.jpg;J\u00e4ger\r\nc.jpg;wren\r\nd.jpg;wren\r\n"
    (tmp_path / "labels.csv").write_bytes(rows.encode("utf-16"))
    data = build_dataset("folder", tmp_path)
    assert data.classes == ["J\u00e4ger", "wren"] and data.labels.tolist() == [1, 0, 1, 1]
    assert any("classes are read from labels.csv" in remark for remark in data.remarks.sentences())
    assert build_dataset("folder", tmp_path, labelled=False).classes == []
    (tmp_path / "labels.csv").write_text("a.jpg,wren\n")
    with pytest.raises(DataError, match=r"labels\.csv has no row for images/b\.jpg"):
        build_dataset("folder", tmp_path)
