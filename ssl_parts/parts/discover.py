"""Images in, a PartStore out: restartable in the middle, and shared by any number of processes.

Everything that is learned from a sample of images (foreground votes, shared bases, data-set-level
centroids) is learned once, kept as `fit.pt` in the store's folder, and read back by other
processes and later runs.

Example:
    >>> from ssl_parts.data import ImageBank, build_dataset
    >>> from ssl_parts.encoders import build_encoder
    >>> from ssl_parts.parts import DatasetConfig, VotesConfig
    >>> birds = build_dataset("synthetic_birds", None, "train", images=12, species=4)
    >>> bank = ImageBank(birds, size=48, cache="none")
    >>> encoder = build_encoder("resnet18", small=True, width=0.125)
    >>> config = DatasetConfig(k=3, size=8, foreground=VotesConfig(size=8, clusters=[4]))
    >>> store = discover_parts(encoder, bank, config)
    >>> store[0].shape, store.k, store.background
    (torch.Size([8, 8]), 4, 0)
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssl_parts.data.read_ahead import read_ahead
from ssl_parts.encoders.encoder import Encoder
from ssl_parts.encoders.modes import evaluating
from ssl_parts.encoders.provenance import encoder_hash
from ssl_parts.errors import PartDiscoveryError
from ssl_parts.parts.dense.features import Batch, FeatureSource, Images
from ssl_parts.parts.foreground.build import build_foreground
from ssl_parts.parts.foreground.foreground import Foreground
from ssl_parts.parts.learned import FIT, Learned, keep_first, load_learned, read_learned
from ssl_parts.parts.match import id_tables, match_ids
from ssl_parts.parts.methods.build import build_method
from ssl_parts.parts.methods.config import PartsConfig
from ssl_parts.parts.methods.dataset import DatasetClustering
from ssl_parts.parts.methods.method import PartMethod
from ssl_parts.parts.store import PartStore, StoreInfo, differences, fingerprint

SPEED_ONLY = ("batch",)
# Settings that concern the assignment of each image, not what is learned before.
NOT_LEARNED = ("batch", "seed", "group", "iterations", "tolerance", "crf")
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
    """Find the parts of every image; the module's docstring has an example.

    Args:
        encoder: left as it was found; None for features=colour with a foreground that needs none.
        images: an `ImageBank`; row i of the store is image i.
        config: `PerImageConfig`, `DatasetConfig`, ...: one class per method.
        out: folder of the store, made or continued; None keeps the ids in memory.
        rank, world_size: this process does its own block of images.
        progress: called with the number of images after each batch.
        provenance: kept in the store beside encoder, configuration and images.
        fitted: a store of other images; what was learned there is used instead of learning from
            these images, so that ids of data-set scope mean the same in both.
        previous: the same images' store of an earlier round; ids of data-set scope are numbered to
            agree with it.

    Raises:
        ConfigError: a configuration that cannot work.
        PartDiscoveryError: too few points or non-finite features (with the image's path), a folder
            that holds a store made with other settings, `fitted` learned with other settings or by
            another encoder, `previous` of other images, several processes without a folder.
    """
    config.check()
    discovery = Discovery.build(encoder, images, config, torch.device(device))
    info = discovery.describe(provenance)
    _check_given(info, fitted, previous)
    store = _open_store(info, out, world_size)
    todo = np.intersect1d(store.pending(), shard(len(images), rank, world_size, config.unit))
    if len(todo):
        with evaluating(encoder), torch.inference_mode():
            if discovery.method.group == 0 or fitted is not None:
                store.fit = _learn(discovery, store.path, fitted, previous)
            _discover(discovery, store, todo, progress or (lambda count: None))
    return store


def shard(count: int, rank: int, world_size: int, unit: int = 1) -> np.ndarray:
    """The images of one process, int64: contiguous, so that processes write to different pages, and
    whole units of them.
    """
    units = -(-count // unit)
    first, last = units * rank // world_size, units * (rank + 1) // world_size
    return np.arange(first * unit, min(last * unit, count))


@dataclass(frozen=True)
class Discovery:
    """A method, a foreground, and the images that both look at."""

    config: PartsConfig
    source: FeatureSource
    method: PartMethod
    foreground: Foreground

    @classmethod
    def build(
        cls, encoder: Encoder | None, images: Images, config: PartsConfig, device: torch.device
    ) -> "Discovery":
        """What a configuration asks for.

        Raises:
            ConfigError: no encoder where one is needed, or a stage that it does not have.
        """
        method = build_method(config, encoder)
        foreground = build_foreground(config.foreground, encoder, config.dense, config.size)
        stages = [*method.stages, *foreground.stages]
        source = FeatureSource(encoder, images, stages, config.dense, config.seed, device)
        return cls(config, source, method, foreground)

    def fit(self, rows: np.ndarray | None = None) -> Learned:
        """Learn from these images (all of a group), or from seeded samples."""
        state = {"foreground": self.foreground.fit(self.source, rows)}
        self.foreground.load(state["foreground"])
        state["method"] = self.method.fit(self.source, self.foreground, rows)
        return state

    def load(self, state: Learned) -> None:
        """Take over what `fit` returned."""
        self.foreground.load(state["foreground"])
        self.method.load(state["method"])

    def ids(self, batch: Batch) -> Tensor:
        """Ids (count, S, S) uint8 as the store keeps them: 0 is the background where there is a
        foreground step.
        """
        mask_BN = self.foreground.mask(batch, self.source)
        ids_BN = self.method.assign(batch, self.source, mask_BN)
        if mask_BN is not None:
            ids_BN = ids_BN + 1
        ids_BSS = ids_BN.view(-1, self.config.size, self.config.size)
        ids_BSS = self.method.refine(ids_BSS, batch, self.foreground)
        return ids_BSS[: batch.count].to(torch.uint8).cpu()

    def describe(self, provenance: dict[str, Any] | None) -> StoreInfo:
        """What the store says about itself."""
        config, images, encoder = self.config, self.source.images, self.source.encoder
        settings = {key: value for key, value in asdict(config).items() if key not in SPEED_ONLY}
        about = None
        if encoder is not None:
            about = {"name": encoder.name, "hash": encoder_hash(encoder)}
        made_by = {
            "encoder": about,
            "config": settings,
            "images": fingerprint(images.paths),
            "image_size": images.size,
        }
        return StoreInfo(
            count=len(images),
            size=config.size,
            k=config.ids,
            background=0 if config.has_background else None,
            scope=self.method.scope,
            provenance=made_by | (provenance or {}),
        )


def _discover(
    discovery: Discovery, store: PartStore, todo: np.ndarray, progress: Callable[[int], None]
) -> None:
    """Write the ids of `todo`; where nothing was learned before, each block of parts.group images
    learns for itself first.
    """
    source, by_group = discovery.source, store.fit is None
    if by_group:
        blocks = _groups_of(todo, discovery.method.group, len(store))
    else:
        size = -(-discovery.config.batch // source.micro) * source.micro
        blocks = [todo[at : at + size] for at in range(0, len(todo), size)]
    for block, images_nCHW in read_ahead(source.images.images, blocks):
        source.kept = {} if by_group else None
        pieces = [slice(at, at + source.micro) for at in range(0, len(block), source.micro)]
        if by_group:
            for piece in pieces:
                source.batch(block[piece], images_nCHW[piece])
            discovery.load(discovery.fit(block))
        batches = (source.batch(block[piece], images_nCHW[piece]) for piece in pieces)
        store.write(block, torch.cat([discovery.ids(batch) for batch in batches]))
        progress(len(block))


def _groups_of(todo: np.ndarray, group: int, count: int) -> list[np.ndarray]:
    """All images of every group that has one in `todo`."""
    firsts = np.unique(todo - todo % group)
    return [np.arange(first, min(first + group, count)) for first in firsts]


def _open_store(info: StoreInfo, out: Path | None, world_size: int) -> PartStore:
    """A store in the folder, made or continued, or in memory without one."""
    if out is not None:
        return PartStore.create(out, info)
    if world_size > 1:
        raise PartDiscoveryError(
            "discovery by several processes needs a folder that they share; give `out`"
        )
    return PartStore(info)


def _check_given(info: StoreInfo, fitted: PartStore | None, previous: PartStore | None) -> None:
    """Raise PartDiscoveryError where a store that was handed in does not belong here."""
    if previous is not None and len(previous) != info.count:
        raise PartDiscoveryError(
            f"{previous.path or 'the previous part store'} has {len(previous)} images, this data "
            f"set {info.count}; only rounds over the same images can be compared"
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
            f"{fitted.path or 'the part store given as fitted'} was learned otherwise "
            f"({'; '.join(lines)}); use the encoder and the settings that it was made with"
        )


def _weights(store: StoreInfo | PartStore) -> dict[str, Any]:
    encoder = store.provenance.get("encoder")
    return {"encoder.hash": encoder["hash"] if isinstance(encoder, dict) else encoder}


def _learn(
    discovery: Discovery, folder: Path | None, fitted: PartStore | None, previous: PartStore | None
) -> Learned:
    """Learn from samples, or read what an earlier run or another process has learned."""
    kept = None if folder is None else folder / FIT
    if fitted is not None:
        state = read_learned(fitted)
    elif kept is not None and kept.exists():
        state = load_learned(kept)
    else:
        state = discovery.fit()
        if previous is not None:
            _renumber(discovery, state, previous)
    if kept is not None:
        if not kept.exists():
            keep_first(state, kept)
        state = load_learned(kept)
    discovery.load(state)
    return state


def _renumber(discovery: Discovery, state: Learned, previous: PartStore) -> None:
    """Number parts of data-set scope so that they agree best with the previous round's.

    Where there are fewer centroids than earlier parts, their order agrees, not their numbers.
    """
    method = discovery.method
    if not isinstance(method, DatasetClustering):
        return
    if "image" in (method.scope, previous.scope):
        return
    discovery.load(state)
    overlaps = _overlaps(discovery, previous)[:, : method.parts]
    method.reorder(state["method"], match_ids(overlaps).argsort())


def _overlaps(discovery: Discovery, previous: PartStore) -> np.ndarray:
    """int64 (K1, K2): cells of a sample of images with part i in the previous round and part j
    now.
    """
    source, config = discovery.source, discovery.config
    table = np.zeros((previous.k, config.ids), np.int64)
    for batch in source.batches(source.sample_rows(NUMBERING_IMAGES, NUMBERING_SALT)):
        before = previous.batch(batch.indices[: batch.count]).numpy()
        table += id_tables(before, discovery.ids(batch).numpy(), previous.k, config.ids).sum(0)
    return table[int(previous.background is not None) :, int(config.has_background) :]
