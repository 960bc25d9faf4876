"""One process with 2B pairs equals two with B: loss and gradient, also when one rank has no valid part."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_parts.objectives import PartContrast

SCRIPT = Path(__file__).with_name("two_process_loss.py")


@pytest.mark.parametrize(("second_rank_empty", "own_targets"), [(False, True), (True, False)])
def test_two_ranks_equal_one(tmp_path, second_rank_empty, own_targets):
    """own_targets: the student's own vectors are the targets, so gradients cross the ranks."""
    g = torch.Generator().manual_seed(0)
    valid = [torch.rand(6, 4, generator=g) > 0.3 for _ in range(2)]
    if second_rank_empty:
        valid = [v.clone().index_fill_(0, torch.arange(3, 6), False) for v in valid]
    case = {
        "own_targets": own_targets,
        "weight": torch.randn(8, 8, generator=g),
        "x": [torch.randn(6, 4, 8, generator=g) for _ in range(2)],
        "t": [torch.randn(6, 4, 8, generator=g) for _ in range(2)],
        "ids": [torch.randint(5, (6, 4), generator=g) for _ in range(2)],
        "valid": valid,
    }
    torch.save(case, tmp_path / "case.pt")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(SCRIPT)]
    subprocess.run([*command, tmp_path / "case.pt", tmp_path / "out.pt"], check=True, capture_output=True, timeout=400)
    two = torch.load(tmp_path / "out.pt", weights_only=True)
    weight = case["weight"].clone().requires_grad_()
    q = tuple(x @ weight.T for x in case["x"])
    one = PartContrast()(q, q if own_targets else tuple(case["t"]), tuple(case["ids"]), tuple(case["valid"]))
    one.backward()
    torch.testing.assert_close(two["loss"], one.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two["gradient"], weight.grad, rtol=1e-5, atol=1e-5)
