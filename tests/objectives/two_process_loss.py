"""Run under torchrun by test_two_processes: each rank takes its half of a batch, rank 0 writes
what came out.
"""

import sys

import torch
import torch.distributed as dist
from tiny_network import CASES, build, run_step
from torch.nn.parallel import DistributedDataParallel

from ssl_parts.objectives.part_contrast import PartContrast

dist.init_process_group("gloo")


def mean(values):
    values = values.detach().clone()
    dist.all_reduce(values)
    return values / dist.get_world_size()


def contrast(case):
    """PartContrast alone, on one linear layer."""
    half = slice(0, 3) if dist.get_rank() == 0 else slice(3, 6)
    layer = torch.nn.Linear(8, 8, bias=False)
    layer.load_state_dict({"weight": case["weight"]})
    model = DistributedDataParallel(layer)
    q = tuple(model(torch.stack(case["x"])[:, half]))
    t = q if case["own_targets"] else tuple(pair[half] for pair in case["t"])
    loss = PartContrast(logits_at_once=case["logits_at_once"])(
        q, t, *(tuple(pair[half] for pair in case[key]) for key in ("ids", "valid"))
    )
    loss.backward()
    return {"loss": mean(loss), "gradient": layer.weight.grad}


def method(name):
    """Two steps of a whole objective: the second one sees the queue or centre that the first one
    left.
    """
    half = slice(0, 2) if dist.get_rank() == 0 else slice(2, 4)
    objective, student, teacher = build(name)
    model = DistributedDataParallel(student)
    for step in range(2):
        student.zero_grad()
        terms = run_step(objective, model, teacher, step, half)
    gradients = {
        key: value.grad for key, value in student.named_parameters() if value.grad is not None
    }
    return {
        "terms": {k: mean(v) for k, v in terms.items()},
        "gradients": gradients,
        "state": objective.state_dict(),
    }


found = {"contrast": [contrast(case) for case in torch.load(sys.argv[1], weights_only=True)]}
found |= {name: method(name) for name in CASES}
if dist.get_rank() == 0:
    torch.save(found, sys.argv[2])
dist.destroy_process_group()
