"""torch's optimisers run fused: the same updates as a plain loop, and a resume goes on bit for
bit.
"""

import copy

import pytest
import torch

from ssl_parts.engine.optim import create_optimizer

PLAIN = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1, foreach=False, fused=False),
    "sgd": lambda groups: torch.optim.SGD(
        groups, lr=0.1, momentum=0.9, nesterov=True, foreach=False, fused=False
    ),
}


def groups_of(weights):
    return [
        {"params": weights[:2], "weight_decay": 0.3},
        {"params": weights[2:], "weight_decay": 0.0},
    ]


def random_weights():
    g = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=g).requires_grad_()
        for shape in ((7, 5), (33,), (4, 3, 3, 3), (1,))
    ]


def steps(optimizer, weights, numbers):
    for number in numbers:
        g = torch.Generator().manual_seed(number)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=g)
        optimizer.step()


@pytest.mark.parametrize("name", PLAIN)
def test_fused_updates_are_those_of_a_loop_over_parameters(name):
    ours, theirs = random_weights(), random_weights()
    fused, plain = create_optimizer(groups_of(ours), name, 0.1), PLAIN[name](groups_of(theirs))
    assert all(group["fused"] for group in fused.param_groups)
    steps(fused, ours, range(5))
    steps(plain, theirs, range(5))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "lookahead_adamw"])
def test_a_resumed_optimizer_goes_on_bit_for_bit(name, tmp_path):
    whole = random_weights()
    steps(create_optimizer(groups_of(whole), name, 0.1), whole, range(6))
    first = random_weights()
    stopped = create_optimizer(groups_of(first), name, 0.1)
    steps(stopped, first, range(4))
    torch.save(stopped.state_dict(), tmp_path / "state.pt")
    second = [copy.deepcopy(weight.detach()).requires_grad_() for weight in first]
    resumed = create_optimizer(groups_of(second), name, 0.1)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    steps(resumed, second, range(4, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, second, strict=True))
