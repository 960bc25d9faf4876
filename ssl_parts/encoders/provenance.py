"""A short name for the exact weights of an encoder."""

import hashlib

import torch
from torch import nn


def encoder_hash(encoder: nn.Module) -> str:
    """16 hex digits of the SHA-256 over names, types, shapes and bytes of all parameters and
    buffers.

    Equal weights give equal hashes on every device; any changed bit, and any other mean or std,
    gives another one.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
