"""Plain state dicts: timm's names in model.pth, and torchvision's networks in model.safetensors."""

import io
import json
from pathlib import Path

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from ssl_parts.encoders import Encoder, save_sealed
from ssl_parts.encoders.families import RESNET_LAYERS, layout_of
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export.timm_dir import rebuild, timm_config

# Networks that torchvision and timm both have, tensor for tensor. No option may change their
# shape.
IN_TORCHVISION = (
    *(
        "resnet18",
        "resnet34",
        "resnet50",
        "resnet101",
        "resnet152",
        "wide_resnet50_2",
        "wide_resnet101_2",
    ),
    *("resnext50_32x4d", "resnext101_32x8d"),
)
HARMLESS = ("drop_rate", "drop_path_rate", "drop_block_rate")


def write_state_dict(encoder: Encoder, folder: Path, image_size: int) -> None:
    """model.pth, tensors only, and config.json that says which network they belong to."""
    buffer = io.BytesIO()  # torch's own writer tells a full disk only by an assertion
    torch.save(
        {name: value.detach().clone() for name, value in encoder.model.state_dict().items()}, buffer
    )
    (folder / "model.pth").write_bytes(buffer.getbuffer())
    _write_config(encoder, folder, image_size)


def check_state_dict(encoder: Encoder, folder: Path, images_BCHW: Tensor) -> None:
    """Raises WeightsError unless a network built from config.json and model.pth gives every map
    bit for bit.
    """
    model = rebuild(encoder)
    model.load_state_dict(torch.load(folder / "model.pth", weights_only=True))
    with torch.no_grad():
        ours = encoder(images_BCHW, encoder.stages)
        maps, _, _ = layout_of(model).extract(model, encoder.normalise(images_BCHW), encoder.stages)
    if not all(torch.equal(ours.maps[stage], maps[stage]) for stage in encoder.stages):
        raise WeightsError(f"the state dict of {encoder.name}, loaded again, gives other features")


def write_torchvision(encoder: Encoder, folder: Path, image_size: int) -> None:
    """model.safetensors for torchvision's network of the same name with `fc` replaced by an
    identity.

    Raises:
        ConfigError: torchvision has no such network, or this one was narrowed, cut short or given
            another stem.
    """
    name = encoder.name.split(".")[0]
    changed = {key: value for key, value in encoder.model_args.items() if key not in HARMLESS}
    if name not in IN_TORCHVISION or changed:
        options = (
            f" with {', '.join(f'{key}={value}' for key, value in changed.items())}"
            if changed
            else ""
        )
        raise ConfigError(
            f"torchvision has no network like {encoder.name}{options}; export it with to=timm or to=state_dict. "
            f"torchvision takes {', '.join(IN_TORCHVISION)}"
        )
    state = {
        key: value.detach().contiguous().clone()
        for key, value in encoder.model.state_dict().items()
    }
    save_sealed(folder / "model.safetensors", state)
    _write_config(encoder, folder, image_size)


def check_torchvision(encoder: Encoder, folder: Path, images_BCHW: Tensor) -> None:
    """Raises WeightsError unless torchvision's network gives the four stages' maps bit for bit."""
    model = getattr(torchvision.models, encoder.name.split(".")[0])()
    model.fc = nn.Identity()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
    with torch.no_grad():
        ours, x = encoder(images_BCHW, encoder.stages), encoder.normalise(images_BCHW)
        x = model.maxpool(model.relu(model.bn1(model.conv1(x))))
        for stage in RESNET_LAYERS:
            x = getattr(model, stage)(x)
            if not torch.equal(x, ours.maps[stage]):
                raise WeightsError(
                    f"torchvision's {encoder.name} gives other features at {stage} than the encoder"
                )


def _write_config(encoder: Encoder, folder: Path, image_size: int) -> None:
    (folder / "config.json").write_text(
        json.dumps(timm_config(encoder, image_size), indent=2) + "\n"
    )
