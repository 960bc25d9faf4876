"""Put what a run's discovery learned beside an exported encoder: `parts/`, in the format of
`part_model`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_parts.encoders import Encoder, encoder_hash, open_encoder
from ssl_parts.encoders.documents import read_json
from ssl_parts.encoders.read import read_checkpoint
from ssl_parts.errors import WeightsError
from ssl_parts.export.timm_dir import write_timm_dir
from ssl_parts.parts.model import write_part_model

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
        meta, learned = read_json(store / "meta.json"), read_checkpoint(store / "fit.pt")
        method, made_with = (
            meta["provenance"]["config"]["foreground"]["method"],
            meta["provenance"]["encoder"],
        )
    except (KeyError, TypeError) as error:
        raise WeightsError(
            f"the part store {store} cannot be read: its meta.json lacks {error}"
        ) from error
    if method in NEEDS_ANNOTATION:
        return None
    wanted = made_with["hash"] if isinstance(made_with, Mapping) else made_with
    if run is None or wanted is None or wanted == encoder_hash(encoder):
        return Discovered(meta, learned, None)
    return Discovered(meta, learned, _finder(run, wanted, store))


def write_parts(found: Discovered, folder: Path) -> None:
    """Write `parts/` into an export."""
    about = write_part_model(found.meta, found.learned, folder / "parts")
    if found.encoder is not None:
        (folder / "parts" / "encoder").mkdir()
        write_timm_dir(found.encoder, folder / "parts" / "encoder", about["image_size"])


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
