"""One process with 2B pairs equals two with B: loss, gradient and state, also when one rank has no
valid part.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from objectives.tiny_network import CASES, build, run_step

from ssl_parts.objectives import PartContrast

SCRIPT = Path(__file__).with_name("two_process_loss.py")


def contrast_case(second_rank_empty, own_targets, logits_at_once=2**22):
    """own_targets: the student's own vectors are the targets, so gradients cross the ranks."""
    g = torch.Generator().manual_seed(0)
    valid = [torch.rand(6, 4, generator=g) > 0.3 for _ in range(2)]
    if second_rank_empty:
        valid = [v.clone().index_fill_(0, torch.arange(3, 6), False) for v in valid]
    return {
        "own_targets": own_targets,
        "logits_at_once": logits_at_once,  # of the two ranks; one process takes all at once
        "weight": torch.randn(8, 8, generator=g),
        "x": [torch.randn(6, 4, 8, generator=g) for _ in range(2)],
        "t": [torch.randn(6, 4, 8, generator=g) for _ in range(2)],
        "ids": [torch.randint(5, (6, 4), generator=g) for _ in range(2)],
        "valid": valid,
    }


CONTRASTS = [
    contrast_case(False, True),
    contrast_case(True, False),
    contrast_case(False, True, 4 * 48),
]


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two gloo processes found, all cases in one launch."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(CONTRASTS, folder / "cases.pt")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        str(SCRIPT),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run(
        [*command, folder / "cases.pt", folder / "out.pt"],
        check=True, capture_output=True, timeout=400, env=environment,
    )  # fmt: skip
    return torch.load(folder / "out.pt", weights_only=True)


@pytest.mark.parametrize("number", range(len(CONTRASTS)))
def test_part_contrast_on_two_ranks_equals_one(two_ranks, number):
    case, two = CONTRASTS[number], two_ranks["contrast"][number]
    weight = case["weight"].clone().requires_grad_()
    q = tuple(x @ weight.T for x in case["x"])
    t = q if case["own_targets"] else tuple(case["t"])
    one = PartContrast()(q, t, tuple(case["ids"]), tuple(case["valid"]))
    one.backward()
    torch.testing.assert_close(two["loss"], one.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two["gradient"], weight.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_objective_on_two_ranks_equals_one(two_ranks, name):
    objective, student, teacher = build(name)
    for step in range(2):
        student.zero_grad()
        terms = run_step(objective, student, teacher, step)
    two = two_ranks[name]
    torch.testing.assert_close(two["terms"], terms, rtol=1e-5, atol=1e-5)
    gradients = {
        key: value.grad for key, value in student.named_parameters() if value.grad is not None
    }
    torch.testing.assert_close(two["gradients"], gradients, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(two["state"], dict(objective.state_dict()), rtol=1e-5, atol=1e-5)
