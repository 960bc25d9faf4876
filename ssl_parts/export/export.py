"""`export_encoder`: one encoder, one format, one folder, compared with the original before it is
called done.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_parts.encoders import Encoder, encoder_hash, locate, open_encoder
from ssl_parts.encoders.families import as_timm
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export.card import facts_of_run, model_card, size_of_run
from ssl_parts.export.folder import new_folder
from ssl_parts.export.onnx_file import check_onnx, write_onnx
from ssl_parts.export.part_files import discovered_parts, write_parts
from ssl_parts.export.timm_dir import check_timm_dir, write_timm_dir
from ssl_parts.export.torch_files import (
    check_state_dict,
    check_torchvision,
    write_state_dict,
    write_torchvision,
)

Step = Callable[..., None]


@dataclass(frozen=True)
class Format:
    """How to write a format into a folder, how to compare it with the encoder, and how a user
    opens it.
    """

    write: Step  # (encoder, folder, image_size)
    check: Step  # (encoder, folder, images_BCHW)
    # Python for the model card; DIR and NAME stand for the folder and the architecture
    opening: str
    parts: bool = False  # a run's part model goes along


_TIMM = 'import timm\n\nmodel = timm.create_model("local-dir:DIR", pretrained=True)'
_HF = f"""{_TIMM}

# or, with transformers
from transformers import AutoModel

model = AutoModel.from_pretrained("DIR")  # pooler_output, last_hidden_state"""
_TORCHVISION = """import torch, torchvision
from safetensors.torch import load_file

model = torchvision.models.NAME()
model.fc = torch.nn.Identity()
model.load_state_dict(load_file("DIR/model.safetensors"))"""
_STATE_DICT = """import json, timm, torch

config = json.load(open("DIR/config.json"))
model = timm.create_model(config["architecture"], num_classes=0, **config["model_args"])
model.load_state_dict(torch.load("DIR/model.pth", weights_only=True))"""
_ONNX = """import numpy, onnxruntime

session = onnxruntime.InferenceSession("DIR/model.onnx")
images = numpy.random.rand(4, 3, SIZE, SIZE).astype("float32")  # RGB in [0, 1]: normalised inside
pooled, last_map = session.run(None, {"images": images})"""

FORMATS: dict[str, Format] = {
    "timm": Format(write_timm_dir, check_timm_dir, _TIMM, parts=True),
    "hf": Format(write_timm_dir, check_timm_dir, _HF, parts=True),
    "torchvision": Format(write_torchvision, check_torchvision, _TORCHVISION),
    "state_dict": Format(write_state_dict, check_state_dict, _STATE_DICT),
    "onnx": Format(write_onnx, check_onnx, _ONNX),
}


def export_encoder(
    source: Encoder | str | Path,
    out: str | Path,
    to: str = "timm",
    *,
    image_size: int | None = None,
    which: str = "best",
    facts: Mapping[str, Any] | None = None,
    parts: bool = True,
) -> Path:
    """Write an encoder so that others can open it, and prove that it gives the same features.

    Args:
        source: an encoder, a run directory, a round, a checkpoint or an earlier export.
        out: the folder to make, `~` is the home folder. Of an earlier export there, what it wrote
            is replaced and what others put beside it stays; any other folder is left alone.
        to: one of `FORMATS`.
        image_size: side of the images the encoder was trained on; default: what the run used, or
            the network's own. timm and ONNX keep it as the input size.
        which: "best", "student" or "teacher", where the source is a run.
        facts: what the model card says beside what the run says itself; see `model_card`.
        parts: where the source is a run and the format takes it, put its part model into `parts/`.

    Returns:
        `out`, which appears only after the written copy was opened again and compared.

    Raises:
        ConfigError: an unknown format, or a folder that is not ours to replace.
        WeightsError: a source without weights, non-finite weights, or an export whose features
            differ.
    """
    if to not in FORMATS:
        raise ConfigError(f"to={to!r} is not a format of export: choose {', '.join(FORMATS)}")
    out, form = Path(out).expanduser(), FORMATS[to]
    encoder = _prepared(source, which)
    run = None if isinstance(source, Encoder) else locate(Path(source), which).run
    found = discovered_parts(run, encoder) if parts and form.parts else None
    size = _image_size(encoder, image_size or size_of_run(run))
    images_BCHW = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    about = {"format": to, "name": encoder.name, "hash": encoder_hash(encoder)}
    with new_folder(out, about) as work:
        form.write(encoder, work, size)
        form.check(encoder, work, images_BCHW)
        if found is not None:
            write_parts(found, work)
        opening = _opening(form, encoder, size, found is not None)
        card = model_card(encoder, facts_of_run(run) | dict(facts or {}), opening)
        (work / "README.md").write_text(card, encoding="utf-8")
    return out


def _opening(form: Format, encoder: Encoder, size: int, parts: bool) -> str:
    text = form.opening.replace("NAME", encoder.name.split(".")[0]).replace("SIZE", str(size))
    if parts:
        text += "\n\n# part masks of a new image (uint8, 3 x H x W)\nfrom ssl_parts import load_part_model\n\n"
        text += 'ids = load_part_model("DIR")(image)'
    return text


def _prepared(source: Encoder | str | Path, which: str) -> Encoder:
    """A copy on the CPU, in evaluation mode and fp32; the caller's encoder keeps its mode and its
    device.
    """
    encoder = copy.deepcopy(source) if isinstance(source, Encoder) else open_encoder(source, which)
    encoder = encoder.cpu().float().eval()
    broken = [
        name for name, value in encoder.state_dict().items() if not torch.isfinite(value).all()
    ]
    if broken:
        raise WeightsError(
            f"{encoder.name} has non-finite weights ({', '.join(broken[:3])}): nothing was exported"
        )
    return encoder


def _image_size(encoder: Encoder, image_size: int | None) -> int:
    size = image_size or as_timm(encoder.model).pretrained_cfg["input_size"][-1]
    if encoder.stages[0] != "block0":
        return size
    patch = encoder.strides["block0"]  # a ViT takes multiples of its patch
    return math.ceil(size / patch) * patch
