"""For torch.hub: `torch.hub.load("OWNER/ssl-parts", "encoder", "runs/mine")`.

Needs what `pip install -e .` installs; timm alone opens an export (`timm.create_model("local-dir:DIR")`).
"""

from pathlib import Path

from torch import nn

dependencies = ["torch", "torchvision", "timm", "safetensors", "omegaconf", "lazy_loader"]


def encoder(source: str | Path) -> nn.Module:
    """The encoder of a run, an export or a checkpoint of this project, in evaluation mode.

    Args:
        source: a folder, or a file inside a run or an export.

    Raises:
        WeightsError: nothing there, or weights that do not fit.
    """
    from ssl_parts import open_encoder

    return open_encoder(source).eval()


def part_model(source: str | Path) -> nn.Module:
    """The part model of an export: a uint8 image (3, H, W) to part ids (H, W); raises as `encoder`."""
    from ssl_parts import load_part_model

    return load_part_model(source)
