"""The moving average and the interpolation, by hand."""

import torch
from torch import nn

from ssl_parts.engine.teacher import interpolate, make_teacher, update_teacher


def test_teacher_is_the_exponential_moving_average_of_the_parameters():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    teacher = make_teacher(student)
    expected = [p.detach().clone() for p in student.parameters()]
    for _ in range(3):
        with torch.no_grad():
            for p in student.parameters():
                p += torch.randn_like(p)
        expected = [0.9 * e + 0.1 * p.detach() for e, p in zip(expected, student.parameters())]
        update_teacher(teacher, student, 0.9)
    for got, wanted in zip(teacher.parameters(), expected):
        torch.testing.assert_close(got, wanted)
        assert not got.requires_grad


def test_interpolation_is_linear_and_leaves_counters_alone():
    initial = {"w": torch.tensor([0.0, 2.0]), "n": torch.tensor(3)}
    trained = {"w": torch.tensor([4.0, 4.0]), "n": torch.tensor(9)}
    assert interpolate(initial, trained, 0.25)["w"].tolist() == [1.0, 2.5]
    assert interpolate(initial, trained, 0.25)["n"] == 9
    assert torch.equal(interpolate(initial, trained, 1.0)["w"], trained["w"])
