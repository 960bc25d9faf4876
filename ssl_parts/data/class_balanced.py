"""Batches of P classes × Q images (docs/method.md, section 4), as a pure function of the step, like every order
here.
"""

import numpy as np

from ssl_parts.data.order import permutation
from ssl_parts.errors import ConfigError

CLASSES, MEMBERS = 1, 2  # what a permutation is of; 0 is the plain order


class ClassBalanced:
    """step → positions (classes * images,), class after class.

    Classes come in passes: within a pass no class comes twice. A class's images come in passes of
    their own, so over time each of its images is read equally often. A class with fewer than
    `images` images goes round them again; one with a single image, and images without a label, are
    left out.

    Args:
        labels: (N,) class of each position, -1 for none.
        classes: P, a batch.
        images: Q, of each class.
        seed: of the order.

    Raises:
        ConfigError: fewer than P classes with two images, Q below 2.
    """

    def __init__(self, labels: np.ndarray, classes: int, images: int, seed: int = 0) -> None:
        labels = np.asarray(labels)
        counts = np.bincount(labels[labels >= 0], minlength=1)
        usable = np.flatnonzero(counts >= 2)
        if images < 2:
            raise ConfigError(
                f"a class-balanced batch needs at least 2 images a class, not {images}"
            )
        if not 1 <= classes <= len(usable):
            raise ConfigError(
                f"batches of {classes} classes were asked for; {len(usable)} classes have two images or more"
            )
        self.classes, self.images, self.seed = classes, images, seed
        self._members = [np.flatnonzero(labels == label) for label in usable]

    @property
    def batch(self) -> int:
        return self.classes * self.images

    def __call__(self, step: int) -> np.ndarray:
        """Positions of the global batch of step 0, 1, 2, ..."""
        visit, place = divmod(step, len(self._members) // self.classes)
        order = permutation((self.seed, CLASSES, visit), len(self._members))
        chosen = order[place * self.classes : (place + 1) * self.classes]
        return np.concatenate([self._visit(int(label), visit) for label in chosen])

    def _visit(self, label: int, visit: int) -> np.ndarray:
        """Q images of a class, in its visit number `visit`."""
        members = self._members[label]
        if len(members) <= self.images:
            order = permutation((self.seed, MEMBERS, label, visit), len(members))
            return members[np.resize(order, self.images)]
        round_, place = divmod(visit, len(members) // self.images)
        order = permutation((self.seed, MEMBERS, label, round_), len(members))
        return members[order[place * self.images : (place + 1) * self.images]]
