"""SyntheticBirds is fine-grained: species differ only where they should, and raw pixels do not
tell them.
"""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from ssl_parts.data.sets.synthetic_birds import SyntheticBirds, species_traits

SIZE = 96
MASK_PART = {"crown": "head"}  # the others are parts of the mask themselves


@pytest.mark.parametrize("genus", range(10))
def test_species_of_a_genus_differ_only_in_the_declared_parts(genus):
    birds = SyntheticBirds("train", images=6, size=SIZE)
    varies = species_traits()[4 * genus]["varies"].split(" and ")
    ids = [birds.part_names.index(MASK_PART.get(part, part)) + 1 for part in varies]
    for i in range(6):
        # species 0 and 3 differ in both parts
        a, b = birds.draw(i, 4 * genus), birds.draw(i, 4 * genus + 3)
        declared = np.isin(a.mask, ids) | np.isin(b.mask, ids)
        assert not ((a.mask != b.mask) & ~declared).any()
        assert np.array_equal(a.keypoints[:, :2], b.keypoints[:, :2])
        difference = np.abs(a.image.astype(int) - b.image).max(-1)
        # soft shading reaches a little further
        near = ndimage.binary_dilation(declared, iterations=SIZE // 8)
        assert difference[~near].max(initial=0) <= 8
        if declared.sum() > 60:
            assert (difference[declared] > 25).sum() >= 12


def test_each_mark_changes_pixels_of_its_own():
    """Of the four species of a genus no two look alike: every pair differs in enough pixels to be
    seen at 64 px.
    """
    birds = SyntheticBirds("train", images=5, size=64)
    for first in range(0, 40, 4):
        for a, b in ((0, 1), (0, 2), (1, 3), (2, 3)):
            seen = [
                (
                    np.abs(
                        birds.draw(i, first + a).image.astype(int) - birds.draw(i, first + b).image
                    ).max(-1)
                    > 30
                ).sum()
                for i in range(5)
            ]
            assert np.median(seen) >= 10, (first, a, b, seen)


def test_raw_pixels_are_nearly_useless_to_a_linear_classifier():
    def pixels(split: str, n: int) -> tuple[np.ndarray, np.ndarray]:
        birds = SyntheticBirds(split, images=n, size=48)
        images = np.stack([birds.draw(i).image for i in range(n)]).astype(np.float32) / 255 - 0.5
        return images.reshape(n, 8, 6, 8, 6, 3).mean((2, 4)).reshape(n, -1), birds.labels

    x, y = pixels("train", 1600)
    x_test, y_test = pixels("test", 800)
    accuracy = LogisticRegression(C=0.01, max_iter=100).fit(x, y).score(x_test, y_test)
    assert accuracy < 0.08  # chance is 0.025
