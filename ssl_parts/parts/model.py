"""Part masks for a new image: an export's `parts/` at work, with nothing of the run that made it.

Shape legend: B images, H x W their size, s the size discovery worked at, S x S the grid of ids.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ssl_parts.data.records import Sample
from ssl_parts.encoders import Encoder, open_encoder
from ssl_parts.errors import DataError, WeightsError
from ssl_parts.parts.config import restore_config
from ssl_parts.parts.discover import discover_parts
from ssl_parts.parts.store import PartStore, StoreInfo

VERSION = 1


class PartModel:
    """Calls discovery, as it was configured and fitted, on images of any size.

    Attributes:
        k: number of ids, the background's included. background: its id, or None.
        scope: "dataset" (an id is the same part in every image) or "image" (it is not).
        image_size: images are resized to this square before they are encoded.
    """

    def __init__(self, encoder: Encoder, about: dict[str, Any], learned: dict[str, Any]) -> None:
        self.config = restore_config(about["config"])
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
        banks = [_Given(image_1Css) for image_1Css in images_BCss.cpu().split(1)]
        stores = [discover_parts(self.encoder, bank, self.config, **options) for bank in banks]
        return torch.cat([store.batch([0]) for store in stores])


@dataclass(frozen=True)
class _Given:
    """Images in hand, as discovery wants to see a data set."""

    tensor: Tensor

    @property
    def size(self) -> int:
        return self.tensor.shape[-1]

    @property
    def paths(self) -> list[str]:
        return ["the image given"] * len(self.tensor)

    def __len__(self) -> int:
        return len(self.tensor)

    def images(self, indices: np.ndarray) -> Tensor:
        return self.tensor[torch.from_numpy(indices)]

    def sample(self, i: int) -> Sample:
        return Sample(self.tensor[i], None, self.paths[i])


def load_part_model(folder: str | Path) -> PartModel:
    """The part model of an export (`to=timm` or `to=hf` from a run).

    Raises:
        WeightsError: an export without parts, of another version, or a damaged one.
    """
    parts = Path(folder) / "parts"
    if not (parts / "part_model.json").is_file():
        raise WeightsError(
            f"{folder} has no parts/part_model.json; export a run (to=timm or to=hf) to get one"
        )
    try:
        about = json.loads((parts / "part_model.json").read_text())
        version = about["version"]
        if version != VERSION:
            raise WeightsError(
                f"{parts} is of version {version}, this program reads {VERSION}: export it again"
            )
        learned = _nested(load_file(parts / "part_model.safetensors"))
        own = parts / "encoder"
        return PartModel(open_encoder(own if own.is_dir() else folder), about, learned)
    except WeightsError:
        raise
    except Exception as error:  # a damaged folder can fail anywhere; it means the same to the user
        raise WeightsError(
            f"{parts} cannot be read ({type(error).__name__}: {error}); export it again"
        ) from error


def _nested(flat: dict[str, Tensor]) -> dict[str, Any]:
    """{"foreground/centroids/0": t} as {"foreground": {"centroids": [t]}}."""
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
