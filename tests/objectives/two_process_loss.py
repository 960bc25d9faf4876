"""Run under torchrun by test_two_processes: each rank takes its half of a batch, rank 0 writes loss and gradients."""

import sys

import torch
import torch.distributed as dist

from ssl_parts.objectives.part_contrast import PartContrast

dist.init_process_group("gloo")
case = torch.load(sys.argv[1], weights_only=True)
half = slice(0, 3) if dist.get_rank() == 0 else slice(3, 6)
layer = torch.nn.Linear(8, 8, bias=False)
layer.load_state_dict({"weight": case["weight"]})
model = torch.nn.parallel.DistributedDataParallel(layer)
q = tuple(model(torch.stack(case["x"])[:, half]))
t = q if case["own_targets"] else tuple(pair[half] for pair in case["t"])
loss = PartContrast()(q, t, *(tuple(pair[half] for pair in case[key]) for key in ("ids", "valid")))
loss.backward()
mean_loss = loss.detach().clone()
dist.all_reduce(mean_loss)
if dist.get_rank() == 0:
    torch.save({"loss": mean_loss / dist.get_world_size(), "gradient": layer.weight.grad}, sys.argv[2])
dist.destroy_process_group()
