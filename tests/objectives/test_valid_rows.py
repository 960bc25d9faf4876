"""On a CPU the heads see valid parts alone; losses and gradients are those of all rows through the
head.
"""

import pytest
import torch

from ssl_parts.objectives.network import apply_to_valid_rows, build_mlp


def outputs_and_gradients(head, vectors, valid, through):
    vectors = vectors.clone().requires_grad_()
    head.zero_grad()
    out = through(vectors)
    (out * valid.unsqueeze(-1)).square().sum().backward()
    return [
        out * valid.unsqueeze(-1),
        vectors.grad * valid.unsqueeze(-1),
        *(p.grad.clone() for p in head.parameters()),
    ]


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_valid_rows_alone_give_the_same_as_all_rows(share):
    g = torch.Generator().manual_seed(0)
    head, vectors = build_mlp(6, 16, 5), torch.randn(4, 7, 6, generator=g)
    valid = torch.rand(4, 7, generator=g) < share
    seen = []
    head.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[:-1]))
    some = outputs_and_gradients(
        head, vectors, valid, lambda x: apply_to_valid_rows(head, x, valid)
    )
    every = outputs_and_gradients(head, vectors, valid, head)
    torch.testing.assert_close(some, every)
    assert seen == [(int(valid.sum()),), (4, 7)]


def test_rows_that_are_not_valid_are_zero_and_autocast_decides_the_precision():
    head, vectors, valid = (
        build_mlp(6, 16, 5),
        torch.randn(1, 3, 6),
        torch.tensor([[True, False, True]]),
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = apply_to_valid_rows(head, vectors, valid)
    assert out.dtype == torch.bfloat16 and not out[0, 1].any() and out[0, 2].all()
