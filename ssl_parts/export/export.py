"""`export_encoder`: one encoder, one format, one folder, compared with the original before it is called done."""

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_parts.encoders import Encoder, encoder_hash, locate, open_encoder
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export.card import facts_of_run, model_card
from ssl_parts.export.folder import MARK, new_folder
from ssl_parts.export.timm_dir import check_timm_dir, write_timm_dir

Step = Callable[..., None]


@dataclass(frozen=True)
class Format:
    """How to write a format into a folder, how to compare it with the encoder, and how a user opens it."""

    write: Step  # (encoder, folder, image_size)
    check: Step  # (encoder, folder, images_BCHW)
    opening: str


FORMATS: dict[str, Format] = {
    "timm": Format(
        write_timm_dir,
        check_timm_dir,
        'import timm\nmodel = timm.create_model("local-dir:DIR", pretrained=True)',
    ),
}


def export_encoder(
    source: Encoder | str | Path,
    out: str | Path,
    to: str = "timm",
    *,
    image_size: int | None = None,
    which: str = "best",
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write an encoder so that others can open it, and prove that it gives the same features.

    Args:
        source: an encoder, a run directory, a round, a checkpoint or an earlier export.
        out: the folder to make; an earlier export there is replaced, anything else is left alone.
        to: one of `FORMATS`.
        image_size: side of the images the encoder was trained on, for the card; default: the network's own.
        which: "best", "student" or "teacher", where the source is a run.
        facts: what the model card says beside what the run says itself; see `model_card`.

    Returns:
        `out`, which appears only after the written copy was opened again and compared.

    Raises:
        ConfigError: an unknown format, or a folder that is not ours to replace.
        WeightsError: a source without weights, non-finite weights, or an export whose features differ.
    """
    if to not in FORMATS:
        raise ConfigError(f"to={to!r} is not a format of export: choose {', '.join(FORMATS)}")
    out, form = Path(out), FORMATS[to]
    encoder = _prepared(source, which)
    size = _image_size(encoder, image_size)
    told = dict(_facts(source)) | dict(facts or {})
    images_BCHW = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with new_folder(out) as work:
        form.write(encoder, work, size)
        form.check(encoder, work, images_BCHW)
        (work / "README.md").write_text(model_card(encoder, told, form.opening))
        mark = {"format": to, "name": encoder.name, "hash": encoder_hash(encoder)}
        (work / MARK).write_text(json.dumps(mark, indent=1) + "\n")
    return out


def _prepared(source: Encoder | str | Path, which: str) -> Encoder:
    """A copy on the CPU, in evaluation mode and fp32; the caller's encoder keeps its mode and its device."""
    encoder = copy.deepcopy(source) if isinstance(source, Encoder) else open_encoder(source, which)
    encoder = encoder.cpu().float().eval()
    broken = [name for name, value in encoder.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise WeightsError(f"{encoder.name} has non-finite weights ({', '.join(broken[:3])}): nothing was exported")
    return encoder


def _facts(source: Encoder | str | Path) -> dict[str, Any]:
    return {} if isinstance(source, Encoder) else facts_of_run(locate(Path(source)).run)


def _image_size(encoder: Encoder, image_size: int | None) -> int:
    size = image_size or encoder.model.pretrained_cfg["input_size"][-1]
    if encoder.stages[0] != "block0":
        return size
    patch = encoder.strides["block0"]  # a ViT takes multiples of its patch
    return math.ceil(size / patch) * patch
