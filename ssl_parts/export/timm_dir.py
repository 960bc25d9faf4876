"""The timm directory: model.safetensors and config.json.

`timm.create_model("local-dir:DIR", pretrained=True)` opens it. The same
layout is what timm reads from the Hugging Face hub, and transformers through its TimmWrapper.
"""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_model_data_config
from torch import Tensor, nn

from ssl_parts.encoders import Encoder, save_sealed
from ssl_parts.encoders.families import as_timm, is_vit, layout_of
from ssl_parts.errors import WeightsError

# What config.json keeps of timm's own description of the architecture.
KEPT = ("classifier", "interpolation", "crop_mode", "fixed_input_size")


def write_timm_dir(encoder: Encoder, folder: Path, image_size: int) -> None:
    """Write model.safetensors and config.json for an encoder on the CPU."""
    tensors = {
        name: value.detach().contiguous().clone()
        for name, value in encoder.model.state_dict().items()
    }
    save_sealed(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(
        json.dumps(timm_config(encoder, image_size), indent=2) + "\n"
    )


def timm_config(encoder: Encoder, image_size: int) -> dict[str, Any]:
    """config.json: the architecture, the arguments that rebuild it, and the input statistics."""
    source = as_timm(encoder.model).pretrained_cfg
    args = dict(encoder.model_args)
    if is_vit(encoder.model):
        # The stored positional embedding has this grid, whatever the name's default says.
        embed: Any = encoder.model.patch_embed
        args["img_size"] = list(embed.img_size)
    about = {key: source[key] for key in KEPT if source.get(key) is not None}
    about |= {
        "first_conv": first_convolution(encoder.model),
        "input_size": [3, image_size, image_size],
        "mean": _shortest(encoder.mean),
        "std": _shortest(encoder.std),
        "crop_pct": 1.0,
        "num_classes": 0,
    }
    return {
        "architecture": encoder.name.split(".")[0],
        "num_classes": 0,
        "num_features": encoder.feature_dim,
        "model_args": args,
        "pretrained_cfg": about,
    }


def first_convolution(model: nn.Module) -> str | None:
    """Name of the convolution that sees the image: timm adapts it where a user asks for other than
    three channels.
    """
    convolutions = (
        (name, module) for name, module in model.named_modules() if isinstance(module, nn.Conv2d)
    )
    return next((name for name, module in convolutions if module.in_channels == 3), None)


def rebuild(encoder: Encoder) -> nn.Module:
    """A new network of this architecture, without weights, as config.json describes it."""
    config = timm_config(encoder, as_timm(encoder.model).pretrained_cfg["input_size"][-1])
    return timm.create_model(config["architecture"], num_classes=0, **config["model_args"]).eval()


def check_timm_dir(encoder: Encoder, folder: Path, images_BCHW: Tensor) -> None:
    """Open the directory as anybody would and compare every map, bit for bit.

    Raises:
        WeightsError: timm cannot open it, or a map, a token, the pooled vector or the input
            statistics differ.
    """
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except Exception as error:  # whatever timm raises, the export is not usable
        raise WeightsError(f"timm cannot open the export of {encoder.name}: {error}") from error
    config = resolve_model_data_config(model)
    if tuple(config["mean"]) != tuple(_shortest(encoder.mean)) or tuple(config["std"]) != tuple(
        _shortest(encoder.std)
    ):
        raise WeightsError(
            f"the export of {encoder.name} lost its input statistics: {config['mean']}, {config['std']}"
        )
    with torch.no_grad():
        ours = encoder(images_BCHW, encoder.stages)
        maps, pooled_BD, _ = layout_of(model).extract(
            model, encoder.normalise(images_BCHW), encoder.stages
        )
    different = [
        stage for stage in encoder.stages if not torch.equal(ours.maps[stage], maps[stage])
    ]
    if not torch.equal(ours.pooled, pooled_BD):
        different.append("pooled")
    if different:
        raise WeightsError(
            f"the export of {encoder.name}, opened again, gives other features at {', '.join(different)}"
        )


def _shortest(values: Tensor) -> list[float]:
    """float32 values as the shortest decimals that give them back: 0.485, not 0.48500001430511475."""
    return [float(str(value)) for value in values.cpu().numpy()]
