"""Options that make encoders faster or smaller and leave losses the same within rounding."""

from collections.abc import Sequence

from timm.layers.norm_act import convert_sync_batchnorm

from ssl_parts.encoders import Encoder


def speed_up(
    encoders: Sequence[Encoder | None],
    *,
    grad_checkpointing: bool = False,
    sync_batchnorm: bool = False,
    compiled: bool = False,
    processes: int = 1,
) -> None:
    """Change encoders in place; names and shapes of their weights stay the same.

    Args:
        encoders: None stands for one that does not exist.
        grad_checkpointing: recompute activations in the backward pass.
        sync_batchnorm: share batch-norm statistics over the processes, where there are several.
        compiled: run through torch.compile.
    """
    for encoder in encoders:
        if encoder is None:
            continue
        if grad_checkpointing:
            encoder.set_grad_checkpointing()
        if sync_batchnorm and processes > 1:
            convert_sync_batchnorm(encoder)
        if compiled:
            encoder.compile()
