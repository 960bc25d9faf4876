"""Images in, a PartStore out: restartable in the middle, and shared by any number of processes.

Everything that is learned from a sample of images (foreground votes, shared bases, data-set-level
centroids) is learned once, kept as `fit.pt` in the store's folder, and read back by other
processes and later runs.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.encoders.provenance import encoder_hash
from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.clustering.dataset import DatasetClustering
from ssl_parts.parts.clustering.per_image import PerImage
from ssl_parts.parts.clustering.superpixels import Felzenszwalb, Slic
from ssl_parts.parts.config import PartsConfig
from ssl_parts.parts.dense.features import Batch, FeatureSource, Images
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.match import id_tables
from ssl_parts.parts.refinement.components import remove_islands
from ssl_parts.parts.refinement.crf import label_costs, mean_field
from ssl_parts.parts.store import PartStore, StoreInfo, differences, fingerprint

METHODS = {
    "per_image": PerImage,
    "dataset": DatasetClustering,
    "slic": Slic,
    "felzenszwalb": Felzenszwalb,
}
SPEED_ONLY = ("batch",)
# Settings that concern the assignment of each image, not what is learned before.
NOT_LEARNED = ("batch", "seed", "group", "iterations", "tolerance", "min_component", "crf")
FIT = "fit.pt"
NUMBERING_IMAGES, NUMBERING_SALT = 200, 4


def discover_parts(
    encoder: Encoder | None,
    images: Images,
    config: PartsConfig,
    out: Path | None = None,
    *,
    device: str | torch.device = "cpu",
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int], None] | None = None,
    provenance: dict[str, Any] | None = None,
    fitted: PartStore | None = None,
    previous: PartStore | None = None,
) -> PartStore:
    """Find the parts of every image.

    Args:
        encoder: left as it was found; None for features=colour with a foreground that needs none.
        images: an `ImageBank`; row i of the store is image i.
        out: folder of the store, made or continued; None keeps the ids in memory.
        rank, world_size: this process does its own block of images; the store is complete when all
            are done.
        progress: called with the number of images after each batch.
        provenance: kept in the store beside the encoder's hash, the configuration and the images'
            fingerprint.
        fitted: a store of other images; what was learned there (foreground, centroids, bases) is
            used instead of learning from these images, so that ids of data-set scope mean the same
            in both.
        previous: the same images' store of an earlier round; ids of data-set scope are numbered to
            agree with it.

    Raises:
        ConfigError: a configuration that cannot work. PartDiscoveryError: too few points or
            non-finite features (with the image's path), a folder that holds a store made with
            other settings, `fitted` learned with other settings or by another encoder, `previous`
            of other images.
    """
    config.check()
    if out is None and world_size > 1:
        raise PartDiscoveryError(
            "discovery by several processes needs a folder that they share; give `out`"
        )
    device = torch.device(device)
    source = FeatureSource(encoder, images, config, device)
    foreground = Foreground(config.foreground, config.size)
    info = _store_info(source, provenance)
    _check_given(info, fitted, previous)
    store = PartStore(info) if out is None else PartStore.create(out, info)
    todo = np.intersect1d(
        store.pending(), shard(len(images), rank, world_size, max(1, config.group))
    )
    if len(todo):
        discovery = Discovery(source, METHODS[config.method](config), foreground)
        with evaluating(encoder), torch.inference_mode():
            if config.group == 0 or fitted is not None:
                store.fit = _fit(discovery, store.path, fitted, previous)
            _discover(
                discovery, store, todo, progress or (lambda count: None), by_group=store.fit is None
            )
    return store


def shard(count: int, rank: int, world_size: int, unit: int = 1) -> np.ndarray:
    """The images of one process: contiguous, so that processes write to different pages, and whole
    units of them.
    """
    units = -(-count // unit)
    first, last = units * rank // world_size, units * (rank + 1) // world_size
    return np.arange(first * unit, min(last * unit, count))


@dataclass(frozen=True)
class Discovery:
    """A method, a foreground, and the images that both look at."""

    source: FeatureSource
    method: Any
    foreground: Foreground

    def fit(self, rows: np.ndarray | None = None) -> dict:
        """Learn from these images (all of a group), or from seeded samples."""
        state = {"foreground": self.foreground.fit(self.source, rows)}
        self.foreground.load(state["foreground"])
        state["method"] = self.method.fit(self.source, self.foreground, rows)
        return state

    def load(self, state: dict) -> None:
        self.foreground.load(state["foreground"])
        self.method.load(state["method"])

    def ids(self, batch: Batch) -> Tensor:
        """Ids (count, S, S) uint8 as the store keeps them: 0 is the background where there is a
        foreground step.
        """
        config = self.source.config
        mask_BN = self.foreground.mask(batch, self.source)
        ids_BN = self.method.assign(batch, self.source, mask_BN)
        if mask_BN is not None:
            ids_BN = ids_BN + 1
        ids_BSS = ids_BN.view(-1, config.size, config.size)
        if config.crf.iterations > 0:
            ids_BSS = self._refined(batch, ids_BSS)
        ids_BSS = ids_BSS[: batch.count].to(torch.uint8).cpu()
        return (
            remove_islands(ids_BSS, config.min_component) if config.min_component > 0 else ids_BSS
        )

    def _refined(self, batch: Batch, ids_BSS: Tensor) -> Tensor:
        """Ids after the CRF, which starts from distances to centroids where there are some, else
        from the ids.
        """
        config = self.source.config
        behind_BSS = self.foreground.background_costs(batch, self.source)
        if behind_BSS is not None and hasattr(self.method, "costs"):
            costs_BLSS = torch.cat([behind_BSS[:, None], self.method.costs(batch, self.source)], 1)
        else:
            costs_BLSS = label_costs(ids_BSS, config.ids, config.crf.certainty)
        pixels_B3SS = F.interpolate(
            batch.images.float(), size=(config.size, config.size), mode="area"
        )
        return mean_field(costs_BLSS, pixels_B3SS, config.crf).argmax(1)


def _discover(
    discovery: Discovery,
    store: PartStore,
    todo: np.ndarray,
    progress: Callable[[int], None],
    by_group: bool,
) -> None:
    """Write the ids of `todo`; by group, each block of parts.group images learns for itself first."""
    source, config = discovery.source, discovery.source.config
    if by_group:
        blocks = [
            np.arange(g, min(g + config.group, len(store)))
            for g in np.unique(todo - todo % config.group)
        ]
    else:
        size = -(-config.batch // source.micro) * source.micro
        blocks = [todo[at : at + size] for at in range(0, len(todo), size)]
    for block, images_nCHW in _read_ahead(source.images, blocks):
        starts = range(0, len(block), source.micro)
        if by_group:
            source.kept = {}
            for at in starts:
                source.batch(block[at : at + source.micro], images_nCHW[at : at + source.micro])
            discovery.load(discovery.fit(block))
        ids = []
        for at in starts:
            batch = source.batch(block[at : at + source.micro], images_nCHW[at : at + source.micro])
            ids.append(discovery.ids(batch))
        store.write(block, torch.cat(ids))
        progress(len(block))


def _read_ahead(images: Images, groups: list[np.ndarray]) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Each group with its images, the next group being read while this one is worked on."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(images.images, groups[0])
        for i, group in enumerate(groups):
            current = following.result()
            if i + 1 < len(groups):
                following = pool.submit(images.images, groups[i + 1])
            yield group, current


def _check_given(info: StoreInfo, fitted: PartStore | None, previous: PartStore | None) -> None:
    """PartDiscoveryError where a store that was handed in does not belong to this discovery."""
    if previous is not None and len(previous) != info.count:
        raise PartDiscoveryError(
            f"{previous.path or 'the previous part store'} has {len(previous)} images, this data set {info.count}; "
            "only rounds over the same images can be compared"
        )
    if fitted is None or "config" not in fitted.provenance:
        return
    wanted, found = (
        {k: v for k, v in i.provenance["config"].items() if k not in NOT_LEARNED}
        for i in (info, fitted)
    )
    lines = differences(wanted, found, "parts.") + differences(_weights(info), _weights(fitted))
    if lines:
        raise PartDiscoveryError(
            f"{fitted.path or 'the part store given as fitted'} was learned otherwise ({'; '.join(lines)}); "
            "use the encoder and the settings that it was made with"
        )


def _weights(store: StoreInfo | PartStore) -> dict[str, Any]:
    encoder = store.provenance.get("encoder")
    return {"encoder.hash": encoder["hash"] if isinstance(encoder, dict) else encoder}


def _fit(
    discovery: Discovery, folder: Path | None, fitted: PartStore | None, previous: PartStore | None
) -> dict:
    """Learn from samples, or read what an earlier run or another process has learned."""
    kept = None if folder is None else folder / FIT
    if fitted is not None:
        state = _fit_of(fitted)
    elif kept is None or not kept.exists():
        state = discovery.fit()
        if previous is not None and "dataset" == previous.scope == discovery.method.scope:
            discovery.load(state)
            discovery.method.renumber(state["method"], _overlaps(discovery, previous))
    if kept is not None:
        if not kept.exists():
            _keep_first(state, kept)
        state = torch.load(kept, map_location="cpu", weights_only=True)
    discovery.load(state)
    return state


def _overlaps(discovery: Discovery, previous: PartStore) -> np.ndarray:
    """int64 (K1, K2): cells of a sample of images with part i in the previous round and part j
    now.
    """
    source = discovery.source
    table = np.zeros((previous.k, source.config.ids), np.int64)
    for batch in source.batches(source.sample_rows(NUMBERING_IMAGES, NUMBERING_SALT)):
        before = previous.batch(batch.indices[: batch.count]).numpy()
        table += id_tables(before, discovery.ids(batch).numpy(), *table.shape).sum(0)
    return table[int(previous.background is not None) :, int(source.config.has_background) :]


def _fit_of(store: PartStore) -> dict:
    if store.fit is not None:
        return store.fit
    if store.path is None or not (store.path / FIT).exists():
        raise PartDiscoveryError(
            f"{store.path or 'the part store given as fitted'} has no {FIT} to use on other images"
        )
    return torch.load(store.path / FIT, map_location="cpu", weights_only=True)


def _keep_first(state: dict, path: Path) -> None:
    """Write beside and link into place; whoever comes second leaves the first one's file alone."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    torch.save(state, beside)
    try:
        os.link(beside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links: the last one wins, with the same content
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _store_info(source: FeatureSource, provenance: dict[str, Any] | None) -> StoreInfo:
    config = source.config
    settings = {key: value for key, value in asdict(config).items() if key not in SPEED_ONLY}
    encoder = source.encoder
    made_by = {
        "encoder": None
        if encoder is None
        else {"name": encoder.name, "hash": encoder_hash(encoder)},
        "config": settings,
        "images": fingerprint(source.images.paths),
        "image_size": source.images.size,
    }
    background = 0 if config.has_background else None
    scope = "image" if config.group else METHODS[config.method].scope
    return StoreInfo(
        len(source.images), config.size, config.ids, background, scope, made_by | (provenance or {})
    )
