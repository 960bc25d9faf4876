import pytest
import torch

from ssl_parts.data import DataConfig, Sample, open_dataset
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
    path = image_folder / open_dataset(config, "test").paths[0]
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
