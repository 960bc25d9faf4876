"""What discovery learned, beside an encoder: `parts/` in an export, read by
`ssl_parts.load_part_model`.

parts/part_model.json          scope, ids, background, image size and the configuration of discovery
parts/part_model.safetensors   centroids, foreground, bases: whatever discovery fitted
parts/encoder/                 a timm directory, only where parts were found with another encoder than the exported one
"""

import json
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ssl_parts.encoders import Encoder, encoder_hash, open_encoder
from ssl_parts.errors import WeightsError
from ssl_parts.export.timm_dir import write_timm_dir

VERSION = 1
NEEDS_ANNOTATION = ("box", "mask")


@dataclass(frozen=True)
class Discovered:
    """The part store of a run's last discovery: its meta.json, what it learned, and the encoder
    that it used.
    """

    meta: dict[str, Any]
    learned: dict[str, Any]
    encoder: Encoder | None


def discovered_parts(run: Path | None, encoder: Encoder) -> Discovered | None:
    """The parts of the newest round, with the encoder that found them; None where a run has none
    to export.

    Foreground taken from boxes or masks of the data set says nothing about new images: there is
    nothing to export.

    Raises:
        WeightsError: a part store whose encoder is not among the run's (it was deleted or
            replaced), or unreadable.
    """
    stores = [] if run is None else sorted(run.glob("round_*/parts/meta.json"), reverse=True)
    store = next((path.parent for path in stores if (path.parent / "fit.pt").is_file()), None)
    if store is None:
        return None
    try:
        meta = json.loads((store / "meta.json").read_text())
        learned = torch.load(store / "fit.pt", map_location="cpu", weights_only=True)
        config, made_with = meta["provenance"]["config"], meta["provenance"]["encoder"]
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:
        raise WeightsError(
            f"the part store {store} cannot be read ({type(error).__name__}: {error})"
        ) from error
    if config["foreground"]["method"] in NEEDS_ANNOTATION:
        return None
    wanted = made_with["hash"] if isinstance(made_with, Mapping) else made_with
    if wanted is None or wanted == encoder_hash(encoder):
        return Discovered(meta, learned, None)
    return Discovered(meta, learned, _finder(run, wanted, store))


def write_parts(found: Discovered, folder: Path) -> None:
    """Write `parts/` into an export."""
    out = folder / "parts"
    out.mkdir()
    meta, provenance = found.meta, found.meta["provenance"]
    about = {key: meta[key] for key in ("k", "size", "background", "scope")}
    about |= {
        "version": VERSION,
        "image_size": provenance["image_size"],
        "config": provenance["config"],
    }
    (out / "part_model.json").write_text(json.dumps(about, indent=1) + "\n")
    save_file(dict(_flat(found.learned)), out / "part_model.safetensors")
    if found.encoder is not None:
        (out / "encoder").mkdir()
        write_timm_dir(found.encoder, out / "encoder", provenance["image_size"])


def _finder(run: Path, wanted: str, store: Path) -> Encoder:
    names = ("encoder", "discovery")  # the other files of a round are no weights
    rounds = [file for name in names for file in run.glob(f"round_*/{name}.safetensors")]
    for file in [*sorted(rounds), run / "base" / "encoder.safetensors"]:
        if file.is_file():
            encoder = open_encoder(file).eval()
            if encoder_hash(encoder) == wanted:
                return encoder
    raise WeightsError(
        f"the parts in {store} were found with the encoder {wanted}, which is gone from {run}; export with parts=false"
    )


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested dictionaries and lists, named by where they are: "foreground/centroids/0"."""
    if isinstance(value, Tensor):
        yield path, value.contiguous().clone()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}/{key}".strip("/"))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _flat(item, f"{path}/{i}")
