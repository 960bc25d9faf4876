"""Part masks for a new image: an export's `parts/` at work, with nothing of the run that made it.

parts/part_model.json          version, scope, ids, background, image size and the configuration of discovery
parts/part_model.safetensors   centroids, foreground, bases: whatever discovery fitted
parts/encoder/                 a timm directory, only where parts were found with another encoder than the exported one

Shape legend: B images, H x W their size, s the size discovery worked at, S x S the grid of ids.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ssl_parts.encoders import Encoder, open_encoder, save_sealed
from ssl_parts.encoders.digests import verify_export
from ssl_parts.encoders.documents import has_interpolation, read_json
from ssl_parts.encoders.read import read_tensors
from ssl_parts.errors import DataError, PartDiscoveryError, SslPartsError, WeightsError
from ssl_parts.parts.config import PartsConfig, restore_config
from ssl_parts.parts.dense.features import TensorImages
from ssl_parts.parts.discover import discover_parts
from ssl_parts.parts.store import PartStore, StoreInfo

VERSION = 1  # of the files in parts/: written and read here
ABOUT, LEARNED, ENCODER = "part_model.json", "part_model.safetensors", "encoder"
WRITTEN = (ABOUT, LEARNED, f"{ENCODER}/config.json", f"{ENCODER}/model.safetensors")
LARGEST_SIDE, MOST_IDS = 4096, 256  # pixels; ids are bytes


class PartModel:
    """Calls discovery, as it was configured and fitted, on images of any size.

    Attributes:
        k: number of ids, the background's included. background: its id, or None.
        scope: "dataset" (an id is the same part in every image) or "image" (it is not).
        image_size: images are resized to this square before they are encoded.
    """

    def __init__(self, encoder: Encoder, about: dict[str, Any], learned: dict[str, Any]) -> None:
        self.config = _config_of(about["config"])
        self.encoder = encoder.eval()
        self.k, self.background, self.scope = about["k"], about["background"], about["scope"]
        self.image_size = about["image_size"]
        self._fitted = PartStore(StoreInfo(1, about["size"], self.k, self.background, self.scope))
        self._fitted.fit = {"foreground": {}, "method": {}} | learned

    def to(self, device: str | torch.device) -> "PartModel":
        """Move the encoder; images follow it."""
        self.encoder.to(device)
        return self

    def __call__(self, image: Tensor) -> Tensor:
        """Part ids of one image or several.

        Args:
            image: uint8 RGB, (3, H, W) or (B, 3, H, W).

        Returns:
            uint8 ids on the CPU, (H, W) or (B, H, W): nearest neighbours of the S x S grid.

        Raises:
            DataError: an image of another type or shape. PartDiscoveryError: too few foreground
                points for k parts.
        """
        if image.dtype != torch.uint8 or image.ndim not in (3, 4) or image.shape[-3] != 3:
            raise DataError(
                f"a part model takes uint8 RGB (3, H, W) or (B, 3, H, W), got {image.dtype} {tuple(image.shape)}"
            )
        images_BCHW = image if image.ndim == 4 else image[None]
        size = [self.image_size, self.image_size]
        ids_BSS = self.ids(
            resize(images_BCHW, size, antialias=True)
            if list(image.shape[-2:]) != size
            else images_BCHW
        )
        ids_BHW = F.interpolate(ids_BSS[:, None].float(), image.shape[-2:], mode="nearest-exact")[
            :, 0
        ].to(torch.uint8)
        return ids_BHW if image.ndim == 4 else ids_BHW[0]

    def ids(self, images_BCss: Tensor) -> Tensor:
        """Ids (B, S, S) uint8 of uint8 images that have the size of discovery already."""
        # Every image is number 0 of a data set of its own, so that its ids do not depend on its
        # neighbours.
        options = {"device": self.encoder.mean.device, "fitted": self._fitted}
        images = [TensorImages(one, ["the image given"]) for one in images_BCss.cpu().split(1)]
        stores = [discover_parts(self.encoder, bank, self.config, **options) for bank in images]
        return torch.cat([store.batch([0]) for store in stores])


def write_part_model(
    meta: Mapping[str, Any], learned: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write a new folder `parts/`, the encoder apart; returns what part_model.json says.

    Args:
        meta: meta.json of the part store, with its provenance. learned: what discovery fitted
            there.
    """
    folder.mkdir()
    about = {key: meta[key] for key in ("k", "size", "background", "scope")}
    about |= {
        "version": VERSION,
        "image_size": meta["provenance"]["image_size"],
        "config": meta["provenance"]["config"],
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    tensors = dict(_flat(learned))
    save_sealed(folder / LEARNED, tensors)
    return about


def load_part_model(folder: str | Path) -> PartModel:
    """The part model of an export (`to=timm` or `to=hf` from a run).

    Raises:
        WeightsError: an export without parts, of another version, or a damaged one.
    """
    folder = Path(folder).expanduser()
    parts = folder / "parts"
    if not (parts / ABOUT).is_file():
        raise WeightsError(
            f"{folder} has no parts/{ABOUT}; export a run (to=timm or to=hf) to get one"
        )
    about = _read_about(parts)
    verify_export(folder, *(f"parts/{name}" for name in WRITTEN))
    try:
        own = parts / ENCODER
        model = PartModel(
            open_encoder(own if own.is_dir() else folder),
            about,
            _nested(read_tensors(parts / LEARNED)),
        )
        _try_out(model)
    except WeightsError:
        raise
    except SslPartsError as error:
        raise WeightsError(f"{parts} does not work: {error}; export it again") from error
    except Exception as error:  # a damaged folder can fail anywhere; it means the same to the user
        said = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{parts} cannot be read ({type(error).__name__}: {said}); export it again"
        ) from error
    return model


def _read_about(parts: Path) -> dict[str, Any]:
    """What part_model.json says, in range; WeightsError for another version or what cannot be."""
    try:
        about = read_json(parts / ABOUT)
    except WeightsError as error:
        raise WeightsError(f"{error}; export it again") from error
    return _checked(about, parts)


def _checked(about: dict[str, Any], parts: Path) -> dict[str, Any]:
    """What part_model.json says, in range."""
    if about.get("version") != VERSION:
        raise WeightsError(
            f"{parts} is of version {about.get('version')}, this program reads {VERSION}: export it again"
        )
    limits = {"k": MOST_IDS, "size": LARGEST_SIDE, "image_size": LARGEST_SIDE}
    wrong = [
        key
        for key, most in limits.items()
        if type(about.get(key)) is not int or not 1 <= about[key] <= most
    ]
    background, scope = about.get("background"), about.get("scope")
    if background is not None and (type(background) is not int or not 0 <= background < MOST_IDS):
        wrong.append("background")
    wrong += ["scope"] if scope not in ("image", "dataset") else []
    if wrong:
        raise WeightsError(
            f"{parts / ABOUT}: {wrong[0]}={about.get(wrong[0])!r} cannot be; export it again"
        )
    return about


def _try_out(model: PartModel) -> None:
    """One image through the model, so that parts which do not fit are found now; a drawn one may
    have no parts.
    """
    side = model.image_size
    image_1Css = torch.randint(
        0, 256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    try:
        model.ids(image_1Css)
    except PartDiscoveryError:
        return


# ---------------------------------------------------------------- nested tensors in a flat file


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


def _nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_flat`: {"foreground/centroids/0": t} as {"foreground": {"centroids": [t]}}."""
    root: dict[str, Any] = {}
    for name, tensor in flat.items():
        *owners, leaf = name.split("/")
        place = root
        for owner in owners:
            place = place.setdefault(owner, {})
        place[leaf] = tensor
    return _listed(root)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_listed(value[str(i)]) for i in range(len(value))]
    return {key: _listed(item) for key, item in value.items()}


def _config_of(values: dict[str, Any]) -> PartsConfig:
    """The configuration of discovery; an unknown name or a wrong type is an error."""
    if has_interpolation(values):
        raise ValueError("its configuration holds '${...}', which is not looked up")
    config = restore_config(values)
    config.check()
    return config
