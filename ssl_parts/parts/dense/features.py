"""What discovery sees of the images: the maps of an encoder, in batches whose shape never changes.

Shapes: B images (always MICRO of them), n of which are asked for, D channels, S size of a grid, N
= S*S points.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.records import Sample
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.finite import first_not_finite
from ssl_parts.errors import ConfigError, PartDiscoveryError
from ssl_parts.parts.clustering.kmeans import uniforms
from ssl_parts.parts.clustering.points import Points, hypercolumn_points
from ssl_parts.parts.config import SUPERPIXELS, PartsConfig
from ssl_parts.parts.dense.facets import has_facets, vit_facet
from ssl_parts.parts.dense.hypercolumn import hypercolumn, projected_hypercolumn, resize

# Images that go through the encoder and the clustering together. Fixed for a device, and short
# batches are filled up: convolutions and matrix products round differently for other batch sizes,
# and ids must not depend on those.
MICRO = {"cpu": 8, "cuda": 64}
# Names of maps that are no stages: pixels (features=colour), a ViT's facet, and what its CLS token
# looks at.
COLOUR, FACET, ATTENTION = "colour", "facet", "attention"


class Images(Protocol):
    """What discovery needs of an `ImageBank`."""

    size: int
    paths: list[str]

    def __len__(self) -> int: ...
    def images(self, indices: np.ndarray) -> Tensor: ...
    def sample(self, i: int) -> Sample: ...


@dataclass(frozen=True)
class Batch:
    """MICRO images and their maps; only the first `count` were asked for, the others fill up."""

    indices: np.ndarray  # (B,) positions in the bank
    count: int
    names: list[str]
    images: Tensor  # uint8 (B,3,H,W), on the device
    maps: dict[str, Tensor]


class FeatureSource:
    """Images in, maps and points out. The encoder is used in evaluation mode, in float32, without
    gradients.
    """

    def __init__(
        self, encoder: Encoder | None, images: Images, config: PartsConfig, device: torch.device
    ) -> None:
        self.encoder, self.images, self.config, self.device = encoder, images, config, device
        self.micro = MICRO.get(device.type, MICRO["cuda"])
        self.stages = point_stages(encoder, config)
        self.foreground_stages = foreground_stages(encoder, config)
        # batches that a group of images goes over several times
        self.kept: dict[tuple[int, ...], Batch] | None = None

    def batches(self, indices: np.ndarray) -> Iterator[Batch]:
        """The maps of these images, MICRO at a time, in this order."""
        for at in range(0, len(indices), self.micro):
            yield self.batch(indices[at : at + self.micro])

    def batch(self, indices: np.ndarray, images: Tensor | None = None) -> Batch:
        """At most MICRO images; `images` (n,3,H,W) spares reading them again."""
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
        wanted = list(dict.fromkeys([*self.stages, *self.foreground_stages]))
        maps = {COLOUR: pixels_BCHW} if COLOUR in wanted else {}
        from_encoder = [stage for stage in wanted if stage not in (COLOUR, FACET, ATTENTION)]
        with torch.autocast(self.device.type, enabled=False):
            if from_encoder:
                maps |= self.encoder(pixels_BCHW, stages=from_encoder).maps
            if FACET in wanted or ATTENTION in wanted:
                maps |= self._facet_maps(pixels_BCHW)
        return maps

    def _facet_maps(self, pixels_BCHW: Tensor) -> dict[str, Tensor]:
        config = self.config
        facet = vit_facet(
            self.encoder, pixels_BCHW, config.facet, config.block, config.stride or None
        )
        maps = {FACET: facet.descriptors_BDhw}
        if facet.attention_BAhw is not None:
            heads = config.foreground.heads or list(range(facet.attention_BAhw.shape[1]))
            if max(heads) >= facet.attention_BAhw.shape[1]:
                count = facet.attention_BAhw.shape[1]
                raise ConfigError(
                    f"parts.foreground.heads={heads}: this encoder has heads 0..{count - 1}"
                )
            maps[ATTENTION] = facet.attention_BAhw[:, heads].mean(1, keepdim=True)
        elif config.foreground.method == "attention":
            raise ConfigError(
                "parts.foreground.method=attention needs a CLS token, which this ViT has not; use auto"
            )
        return maps

    def appearance(self, batch: Batch, basis_Dd: Tensor | None = None) -> Tensor:
        """Hypercolumn (B, N, D) of the configured stages at parts.size, or its projection onto
        these directions.
        """
        maps = {stage: batch.maps[stage] for stage in self.stages}
        if basis_Dd is not None:
            return projected_hypercolumn(maps, self.config.size, basis_Dd, self.normalize)
        return hypercolumn(maps, self.config.size, self.normalize)

    def points(self, batch: Batch) -> Points:
        """The same with the place beside it, as `Points`: far less to compute, and no wide point
        is made.
        """
        maps = {stage: batch.maps[stage] for stage in self.stages}
        place_BN2 = None
        if self.place_weight:
            nothing_BN0 = next(iter(maps.values())).new_empty(
                len(batch.indices), self.config.size**2, 0
            )
            place_BN2 = append_place(nothing_BN0, self.place_weight)
        return hypercolumn_points(maps, self.config.size, self.normalize, place_BN2)

    @property
    def normalize(self) -> bool:
        return self.config.normalize and self.config.features == "encoder"

    @property
    def place_weight(self) -> float:
        """How much (x, y) counts beside the appearance."""
        return self.config.position or float(self.config.features == "colour_xy")

    def foreground_points(self, batch: Batch, basis_Dd: Tensor | None = None) -> Tensor:
        """Points (B, S*S, D) on the grid on which foreground is decided, or their projection onto
        these directions.
        """
        maps = {stage: batch.maps[stage] for stage in self.foreground_stages if stage != ATTENTION}
        size = self.config.foreground.size
        return (
            hypercolumn(maps, size)
            if basis_Dd is None
            else projected_hypercolumn(maps, size, basis_Dd)
        )

    def saliency(self, batch: Batch) -> Tensor:
        """How much stands out (B, S*S), 0..1 in each image, on the grid on which foreground is
        decided.

        CLS attention of a ViT; for other networks the length of the vectors of the last foreground
        map.
        """
        if ATTENTION in batch.maps:
            map_B1hw = batch.maps[ATTENTION].float()
        else:
            map_B1hw = batch.maps[self.foreground_stages[-1]].float().norm(dim=1, keepdim=True)
        values_BN = resize(map_B1hw, self.config.foreground.size).flatten(1)
        low_B1, high_B1 = values_BN.amin(1, keepdim=True), values_BN.amax(1, keepdim=True)
        return (values_BN - low_B1) / (high_B1 - low_B1).clamp_min(1e-12)

    def sample_rows(self, count: int, salt: int) -> np.ndarray:
        """A seeded choice of `count` images, ascending; the same on every rank."""
        order = np.random.default_rng([self.config.seed, salt]).permutation(len(self.images))
        return np.sort(order[:count])

    def seeds(self, indices: np.ndarray) -> Tensor:
        """One seed an image from the configured seed and its place in the data set, long (n,)."""
        return torch.from_numpy(np.asarray(indices, np.int64)) + (self.config.seed << 32)


def check_finite(maps: dict[str, Tensor], names: list[str]) -> None:
    """PartDiscoveryError that names the first image with NaN or infinity in a map."""
    for stage, map_BDHW in maps.items():
        first = first_not_finite(map_BDHW)
        if first is not None:
            raise PartDiscoveryError(
                f"non-finite features in {names[first]}: the encoder's map {stage!r} has NaN or "
                "infinity there; check the encoder's weights (discovery runs in float32)"
            )


def append_place(points_BND: Tensor, weight: float) -> Tensor:
    """Points with (x, y) of their cell in 0..1 times `weight` behind their channels; as they are
    for weight 0.
    """
    if weight == 0:
        return points_BND
    B, N, _ = points_BND.shape
    along_S = (torch.arange(round(N**0.5), device=points_BND.device) + 0.5) / round(N**0.5)
    place_N2 = torch.stack(torch.meshgrid(along_S, along_S, indexing="xy"), -1).view(N, 2)
    return torch.cat([points_BND, (weight * place_N2).expand(B, N, 2)], 2)


def sampled_cells(seeds_B: Tensor, total: int, count: int) -> Tensor:
    """`count` different cells of 0..total-1 for each image, ascending, from its seed alone: long
    (B, count).
    """
    return uniforms(seeds_B, total).argsort(dim=1, stable=True)[:, :count].sort(dim=1).values


def point_stages(encoder: Encoder | None, config: PartsConfig) -> tuple[str, ...]:
    """Stages of the points to cluster: the configured ones, or the default of the method.

    dataset: the deepest CNN stage that still resolves parts; per_image: that one and the last; a
    ViT's last block for both. Finer maps (METHODS §1.2 takes all but the last) cluster edges and
    colours: worse on cub10 and carparts.
    """
    if config.method in SUPERPIXELS:
        return ()
    if config.features != "encoder":
        return (COLOUR,)
    if encoder is None:
        raise ConfigError(
            "parts.features=encoder needs an encoder; use colour or colour_xy without one"
        )
    if config.stages:
        return encoder.check_stages(config.stages)
    if config.facet != "token" or config.stride:
        return (FACET,)
    if len(encoder.stages) == 1 or encoder.stages[0].startswith("block"):
        return (encoder.last_stage,)
    fine = part_stage(encoder)
    return (fine, encoder.last_stage) if config.method == "per_image" else (fine,)


def part_stage(encoder: Encoder) -> str:
    """The deepest stage of a CNN before the last whose stride is at most 16, or the one before the
    last.

    Stride 16 at 224 px is 14 x 14 cells: on cub10 such a map alone names keypoints better than any
    set of maps.
    """
    fine = [stage for stage in encoder.stages[:-1] if encoder.strides[stage] <= 16]
    return fine[-1] if fine else encoder.stages[-2]


def foreground_stages(encoder: Encoder | None, config: PartsConfig) -> tuple[str, ...]:
    """Maps on which foreground is decided: the configured ones, or the last two of a CNN, or the
    last of a ViT.

    mining reads one map, the last; attention and saliency also a ViT's CLS attention.
    """
    method = config.foreground.method
    if method in ("none", "box", "mask"):
        return ()
    if encoder is None:
        return (COLOUR,)
    if method == "attention":
        return (ATTENTION,)
    attention = (ATTENTION,) if method == "saliency" and has_facets(encoder) else ()
    if config.foreground.stages:
        return (*attention, *encoder.check_stages(config.foreground.stages))
    if config.facet != "token" or config.stride:
        return (*attention, FACET)
    if encoder.stages[0].startswith("block") or method == "mining":
        return (*attention, encoder.last_stage)
    finer = [
        s for s in encoder.stages[:-1] if encoder.strides[s] < encoder.strides[encoder.last_stage]
    ]
    return (*finer[-1:], encoder.last_stage) if finer else tuple(encoder.stages[-2:])
