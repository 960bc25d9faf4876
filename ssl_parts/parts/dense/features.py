"""What discovery reads of the images: maps of an encoder, in batches whose shape never changes, and
the points that they make.

Shapes: B images (always MICRO of them), n of which are asked for, D channels, S size of a grid, N
= S*S points, d projected channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.records import Sample
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.finite import first_not_finite
from ssl_parts.errors import ConfigError, PartDiscoveryError
from ssl_parts.parts.dense.config import DenseConfig
from ssl_parts.parts.dense.facets import vit_facet
from ssl_parts.parts.dense.hypercolumn import hypercolumn, projected_hypercolumn
from ssl_parts.parts.dense.points import Points, append_place, hypercolumn_points
from ssl_parts.parts.dense.stages import ATTENTION, COLOUR, FACET

# Images that go through the encoder and the clustering together. Fixed for a device, and short
# batches are filled up: convolutions and matrix products round differently for other batch sizes,
# and ids must not depend on those.
MICRO = {"cpu": 8, "cuda": 64}


class Images(Protocol):
    """What discovery needs of an `ImageBank`."""

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        ...

    @property
    def paths(self) -> list[str]:
        """One name per image, for messages and fingerprints."""
        ...

    def __len__(self) -> int: ...

    def images(self, indices: np.ndarray) -> Tensor:
        """uint8 (n, 3, size, size)."""
        ...


class AnnotatedImages(Images, Protocol):
    """Images with what is known about them: boxes and masks."""

    def sample(self, i: int) -> Sample:
        """The record of one image, its annotations at `size`."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images in memory as `AnnotatedImages`; nothing is known about them.

    tensor_NCSS: uint8 (N, 3, S, S). paths: (N,) one name per image.
    """

    tensor_NCSS: Tensor
    paths: list[str]

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.tensor_NCSS.shape[-1]

    def __len__(self) -> int:
        return len(self.tensor_NCSS)

    def images(self, indices: np.ndarray) -> Tensor:
        """uint8 (n, 3, S, S)."""
        return self.tensor_NCSS[torch.from_numpy(np.asarray(indices))]

    def sample(self, i: int) -> Sample:
        """The record of one image, without annotations."""
        return Sample(self.tensor_NCSS[i], None, self.paths[i])


@dataclass(frozen=True)
class Batch:
    """MICRO images and their maps; only the first `count` were asked for, the others fill up.

    indices: (B,) positions in the data set. names: (B,) paths. images: uint8 (B,3,H,W), on the
    device. maps: float (B,D,h,w) each.
    """

    indices: np.ndarray
    count: int
    names: list[str]
    images: Tensor
    maps: dict[str, Tensor]


class FeatureSource:
    """Images in, maps out. The encoder is used as it is, in float32, without gradients.

    Args:
        encoder: None where no map of one is read.
        stages: maps of every batch; COLOUR, FACET and ATTENTION besides the encoder's own.
        dense: which descriptors FACET stands for.
        seed: of `sample_rows` and `seeds`.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        images: Images,
        stages: Sequence[str],
        dense: DenseConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.encoder, self.images, self.dense = encoder, images, dense
        self.stages, self.seed, self.device = list(dict.fromkeys(stages)), seed, device
        self.micro = MICRO.get(device.type, MICRO["cuda"])
        # batches that a group of images goes over several times; None keeps none
        self.kept: dict[tuple[int, ...], Batch] | None = None

    def batches(self, indices: np.ndarray) -> Iterator[Batch]:
        """The maps of these images, MICRO at a time, in this order."""
        for at in range(0, len(indices), self.micro):
            yield self.batch(indices[at : at + self.micro])

    def batch(self, indices: np.ndarray, images: Tensor | None = None) -> Batch:
        """At most MICRO images; `images` (n,3,H,W) spares reading them again.

        Raises:
            PartDiscoveryError: non-finite features, with the path of the first such image.
        """
        key = tuple(int(i) for i in indices)
        if self.kept is not None and key in self.kept:
            return self.kept[key]
        images = self.images.images(indices) if images is None else images
        filled = np.arange(self.micro).clip(max=len(indices) - 1)
        images_BCHW = images[torch.from_numpy(filled)].to(self.device, non_blocking=True)
        rows = np.asarray(indices)[filled]
        names = [self.images.paths[i] for i in rows]
        maps = self._maps(images_BCHW)
        check_finite(maps, names)
        batch = Batch(rows, len(indices), names, images_BCHW, maps)
        if self.kept is not None:
            self.kept[key] = batch
        return batch

    def _maps(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        pixels_BCHW = images_BCHW.float() / 255
        maps = {COLOUR: pixels_BCHW} if COLOUR in self.stages else {}
        from_encoder = [s for s in self.stages if s not in (COLOUR, FACET, ATTENTION)]
        with torch.autocast(self.device.type, enabled=False):
            if from_encoder:
                maps |= self._given_encoder()(pixels_BCHW, stages=from_encoder).maps
            if FACET in self.stages or ATTENTION in self.stages:
                maps |= self._facet_maps(pixels_BCHW)
        return maps

    def _facet_maps(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        dense = self.dense
        stride = dense.stride or None
        found = vit_facet(self._given_encoder(), pixels_BCHW, dense.facet, dense.block, stride)
        maps = {FACET: found.descriptors_BDhw}
        if found.attention_BAhw is not None:
            maps[ATTENTION] = found.attention_BAhw
        return maps

    def _given_encoder(self) -> Encoder:
        if self.encoder is None:
            raise ConfigError(f"the maps {', '.join(self.stages)} need an encoder; give one")
        return self.encoder

    def sample_rows(self, count: int, salt: int) -> np.ndarray:
        """A seeded choice of at most `count` images, ascending int64; the same on every rank."""
        order = np.random.default_rng([self.seed, salt]).permutation(len(self.images))
        return np.sort(order[:count])

    def seeds(self, indices: np.ndarray) -> Tensor:
        """One seed per image from the configured seed and its place in the data set, long (n,)."""
        return torch.from_numpy(np.asarray(indices, np.int64)) + (self.seed << 32)


@dataclass(frozen=True)
class PixelGrid:
    """The points of a batch on a grid: which maps, how fine, and how much the place counts.

    place: (x, y) in 0..1 times this is appended; 0 leaves it out.
    """

    stages: tuple[str, ...]
    size: int
    normalize: bool = True
    place: float = 0.0

    def vectors(self, batch: Batch, basis_Dd: Tensor | None = None) -> Tensor:
        """Hypercolumn (B, N, D) without the place, or its projection (B, N, d) onto directions."""
        if basis_Dd is None:
            return hypercolumn(self._maps(batch), self.size, self.normalize)
        return projected_hypercolumn(self._maps(batch), self.size, basis_Dd, self.normalize)

    def points(self, batch: Batch) -> Points:
        """The same with the place beside it, as `Points`: far less to compute, and no wide point
        is made.
        """
        place_BN2 = None
        if self.place:
            maps = self._maps(batch)
            nothing = next(iter(maps.values())).new_empty(len(batch.indices), self.size**2, 0)
            place_BN2 = append_place(nothing, self.place)
        return hypercolumn_points(self._maps(batch), self.size, self.normalize, place_BN2)

    def _maps(self, batch: Batch) -> dict[str, Tensor]:
        return {stage: batch.maps[stage] for stage in self.stages}


def check_finite(maps: dict[str, Tensor], names: Sequence[str]) -> None:
    """Raise PartDiscoveryError that names the first image with NaN or infinity in a map."""
    for stage, map_BDHW in maps.items():
        first = first_not_finite(map_BDHW)
        if first is not None:
            raise PartDiscoveryError(
                f"non-finite features in {names[first]}: the encoder's map {stage!r} has NaN or "
                "infinity there; check the encoder's weights (discovery runs in float32)"
            )
