import shutil

import pytest
import torch
from PIL import Image

from evaluation.suite import EvaluationConfig
from ssl_parts.data import DataConfig, Sample
from ssl_parts.doctor.data import draw_sample, examine
from ssl_parts.errors import DataError


def test_counts_missing_and_damaged(image_folder, tmp_path):
    config = DataConfig(name="folder", root=str(image_folder), size=32, test_share=0.25)
    report = examine(config, decode=True)
    assert report.sound and [(s.split, s.images, s.classes) for s in report.splits] == [
        ("train", 9, 3),
        ("test", 3, 3),
    ]
    assert "every image decodes" in str(report)
    path = image_folder / config.build("test").paths[0]
    path.write_bytes(path.read_bytes()[:100])
    assert examine(config).sound  # listed, not decoded
    report = examine(config, decode=True, sheet=tmp_path / "sheet.png")
    assert not report.sound and report.splits[1].bad and not report.splits[0].bad
    assert path.name in str(report) and (tmp_path / "sheet.png").stat().st_size > 1000


def test_a_partial_copy_is_examined_and_said(real_data):
    report = examine(DataConfig(name="cub", root=str(real_data / "data/cub10"), size=224))
    assert not report.sound and "543 of the 11,788" in report.notes[0]
    assert [(s.split, s.images, s.published) for s in report.splits] == [
        ("train", 300, 5994),
        ("test", 243, 5794),
    ]
    assert "300 images of 5,994 published, 10 classes of 30 to 30" in str(report)
    whole = examine(
        DataConfig(name="carparts", root=str(real_data / "data/carparts"), size=64), decode=True
    )
    assert whole.sound and len(whole.part_names) == 18


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"images\.txt"):
        examine(DataConfig(name="cub", root=str(tmp_path)))


def test_says_what_was_taken_for_what_and_what_a_run_would_leave_out(tmp_path, write_image):
    for split, name, number in (
        ("train", "a", 6),
        ("train", "b", 2),
        ("test", "a", 2),
        ("test", "z", 2),
    ):
        for i in range(number):
            write_image(tmp_path / split / name / f"{i}.jpg", seed=i)
    write_image(tmp_path / "more" / "x.jpg")
    config = DataConfig(name="folder", root=str(tmp_path), size=32)
    report = examine(config, evaluation=EvaluationConfig(shots=5))
    assert report.sound and report.account[0] == "split train: 8 images in train/, 2 classes (a, b)"
    for words in (
        "more/ (1 image) is no split",
        "without a training image: z",
        "1 class has fewer",
        "b (2)",
    ):
        assert words in str(report)
    shutil.rmtree(tmp_path / "test")
    shutil.rmtree(tmp_path / "more")
    report = examine(config, evaluation=EvaluationConfig())
    assert (
        not report.sound and "refused" in str(report) and "data.test_share=0.5" in report.refused[0]
    )
    assert examine(config).sound  # run.evaluate=false needs no test


def test_masks_without_parts_are_refused(tmp_path, write_image):
    for split in ("train", "test"):
        write_image(tmp_path / split / "images/0.jpg")
        (tmp_path / split / "masks").mkdir()
        mask = torch.full((40, 60), 255 * (split == "test"), dtype=torch.uint8).numpy()
        mask[:9] = split == "train"
        Image.fromarray(mask).save(tmp_path / split / "masks/0.png")
    config = DataConfig(name="part_folder", root=str(tmp_path), size=32)
    report = examine(config, decode=True, evaluation=EvaluationConfig(part_shots=1))
    assert report.refused == [
        "none of 1 mask of part_folder (test) holds a part; leave part segmentation out with evaluation.part_shots=0"
    ]
    assert examine(config, decode=True, evaluation=EvaluationConfig(part_shots=0)).sound


def test_annotations_are_drawn_where_they_are():
    image, mask = torch.zeros(3, 40, 40, dtype=torch.uint8), torch.zeros(40, 40, dtype=torch.uint8)
    mask[20:30, 5:15] = 2
    points = torch.tensor([[30.0, 10.0, 1.0], [10.0, 10.0, 0.0]])
    drawn = draw_sample(Sample(image, None, "x", (2.0, 2.0, 38.0, 38.0), mask, points), 2)
    lit = drawn.amax(0) > 60
    assert (drawn[:, 2, 2:38] == 255).all() and (drawn[:, 37, 2:38] == 255).all()
    assert lit[21:29, 6:14].all() and lit[10, 30] and not lit[10, 10] and not lit[15, 20]
    maps = torch.stack([mask > 0, mask > 5]).to(torch.uint8)
    overlapping = draw_sample(Sample(image, None, "x", part_mask=maps), 2)
    assert overlapping[:, 25, 10].amax() > 60 and not overlapping[:, 5, 5].any()
