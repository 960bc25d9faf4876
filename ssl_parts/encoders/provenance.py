"""A short name for the exact weights of an encoder."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def encoder_hash(encoder: nn.Module) -> str:
    """16 hex digits of the SHA-256 over names, types, shapes and bytes of all parameters and
    buffers.

    Equal weights give equal hashes on every device; any changed bit, and any other mean or std,
    gives another one.
    """
    return tensors_hash(encoder.state_dict())[:16]


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """All 64 hex digits for any named tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
