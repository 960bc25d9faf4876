"""What all pictures start from: a run's images and how its first and its last encoder see them.

Shapes: G images of the gallery (training images), Q queries (test images, where there are some), D
channels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evaluation.features import extract_features
from ssl_parts.data import ImageBank, build_bank, evenly_spaced
from ssl_parts.encoders import Encoder
from ssl_parts.errors import SslPartsError
from ssl_parts.parts import PartStore
from ssl_parts.recipes.run import MeasuredRun

GALLERY, QUERIES = 1500, 500  # at most so many images are looked at


@dataclass(frozen=True)
class Looks:
    """Features by encoder ("before", "after") of the same images, and the parts of the last round."""

    run: MeasuredRun
    gallery: ImageBank
    queries: ImageBank
    store: PartStore
    own: bool  # queries are the gallery itself: there are no other images

    @cached_property
    def encoders(self) -> dict[str, Encoder]:
        return {
            "before": self.run.encoder(self.run.base),
            "after": self.run.encoder(self.run.result),
        }

    @cached_property
    def gallery_vectors(self) -> dict[str, np.ndarray]:
        """float32 (G, D), L2-normalised, by encoder."""
        return {name: self._unit(name, self.gallery) for name in self.encoders}

    @cached_property
    def query_vectors(self) -> dict[str, np.ndarray]:
        """float32 (Q, D), L2-normalised, by encoder."""
        return (
            self.gallery_vectors
            if self.own
            else {name: self._unit(name, self.queries) for name in self.encoders}
        )

    @property
    def labelled(self) -> bool:
        classes = len(self.gallery.dataset.classes) > 1
        return classes and bool(
            (self.gallery.labels >= 0).all() and (self.queries.labels >= 0).all()
        )

    def class_name(self, label: int) -> str:
        return readable(self.gallery.dataset.classes[int(label)])

    def _unit(self, name: str, bank: ImageBank) -> np.ndarray:
        found = extract_features(
            self.encoders[name], bank, device=self.run.accelerator.device
        ).pooled
        return found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-9)


def look_at(run: MeasuredRun) -> Looks:
    """Open what a finished run needs for its pictures; the test images if there are some, else the
    training images.
    """
    gallery = run.bank.subset(evenly_spaced(len(run.bank), GALLERY))
    store = PartStore.open(run.round_folder(run.rounds_trained - 1) / "parts")
    try:
        test = build_bank(run.config.data, run.config.data.test_split)
    # an unlabelled folder has no test images, which is no reason to go without pictures
    except SslPartsError:
        return Looks(run, gallery, gallery, store, own=True)
    return Looks(run, gallery, test.subset(evenly_spaced(len(test), QUERIES)), store, own=False)


def readable(name: str) -> str:
    """ "001.Black_footed_Albatross" as "Black footed Albatross"."""
    head, dot, tail = name.partition(".")
    return (tail if dot and head.isdigit() else name).replace("_", " ").strip() or name
