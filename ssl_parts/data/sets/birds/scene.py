"""What surrounds the bird: background, clutter behind it, twigs and leaves before it, and the
light.

Every colour of a scene comes from the birds' own colours, so that a histogram does not tell the
species. S: side of the image. Polygons are in the unit square.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ssl_parts.data.sets.birds.species import COLOURS

_COLOURS = np.array(list(COLOURS.values()), np.float32)
_ALONG = np.linspace(-1, 1, 7)
_LENS = np.stack(
    [np.concatenate([_ALONG, _ALONG[::-1]]), np.concatenate([1 - _ALONG**2, _ALONG[::-1] ** 2 - 1])]
)
_GRAIN = 48  # side of the texture's grid: one texture for all image sizes


@dataclass(frozen=True)
class Shapes:
    """Polygons with their colours, from the back to the front."""

    polygons: list[np.ndarray]
    colours: np.ndarray  # float32 (n, 3)


def random_colours(rng: np.random.Generator, n: int) -> np.ndarray:
    """n colours between two of the birds' colours each, float32 (n, 3)."""
    pair = _COLOURS[rng.integers(0, len(_COLOURS), (n, 2))]
    weight = rng.random((n, 1), np.float32)
    return pair[:, 0] * weight + pair[:, 1] * (1 - weight)


def background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Blurred patches of colour under a texture: float32 (S, S, 3) in 0..255."""
    cells = int(rng.integers(2, 8))
    palette = random_colours(rng, 4)
    coarse = (
        palette[rng.integers(0, 4, (8, 8))][:cells, :cells]
        + 28 * rng.standard_normal((8, 8, 1))[:cells, :cells]
    )
    image = Image.fromarray(np.clip(coarse, 0, 255).astype(np.uint8)).resize(
        (_GRAIN, _GRAIN), Image.Resampling.BICUBIC
    )
    grain = rng.standard_normal((_GRAIN, _GRAIN, 1), np.float32) * (
        6 + 22 * rng.random(dtype=np.float32)
    )
    textured = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
    return np.asarray(
        Image.fromarray(textured).resize((size, size), Image.Resampling.BICUBIC), np.float32
    )


def _lens(centre: np.ndarray, half: float, width: float, angle: float) -> np.ndarray:
    """A leaf: two arcs that meet in points."""
    along, across = half * _LENS[0], width * _LENS[1]
    c, d = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + c * along - d * across, centre[1] + d * along + c * across], 1)


def _strip(centre: np.ndarray, half: float, width: float, angle: float) -> np.ndarray:
    along, across = (
        np.array([np.cos(angle), np.sin(angle)]) * half,
        np.array([-np.sin(angle), np.cos(angle)]) * width,
    )
    return centre + np.array(
        [along + across, along - across * 0.7, -along - across, -along + across * 0.7]
    )


def clutter(rng: np.random.Generator, feet: np.ndarray) -> Shapes:
    """Leaves, branches and blobs behind the bird, and for half of the birds the branch that they
    sit on.
    """
    n = int(rng.integers(8, 18))
    kind, u = rng.integers(0, 3, n), rng.random((n, 5))
    polygons = []
    for k, (x, y, a, b, c) in zip(kind, u):
        if k == 0:
            polygons.append(_lens(np.array([x, y]), 0.06 + 0.16 * a, 0.02 + 0.06 * b, 7 * c))
        elif k == 1:
            polygons.append(_strip(np.array([x, y]), 0.2 + 0.8 * a, 0.008 + 0.03 * b, 7 * c))
        else:
            polygons.append(_lens(np.array([x, y]), 0.03 + 0.12 * a, 0.03 + 0.12 * b, 7 * c))
    tilt, perched = rng.random(2)
    if perched < 0.5:
        polygons.append(_strip(feet + np.array([0, 0.01]), 1.5, 0.028, 0.7 * (tilt - 0.5)))
    return Shapes(polygons, random_colours(rng, n + 1)[: len(polygons)])


def occluders(rng: np.random.Generator, box: np.ndarray) -> Shapes:
    """None to two twigs with leaves across the bird's frame (x0, y0, x1, y1)."""
    polygons = []
    for _ in range(int(rng.integers(0, 3))):
        x, y, angle, width, *leaves = rng.random(10)
        centre, angle = box[:2] + np.array([x, y]) * (box[2:] - box[:2]), angle * np.pi
        polygons.append(_strip(centre, 0.25 + 0.5 * leaves[0], 0.005 + 0.009 * width, angle))
        for at, turn in zip(leaves[1:3], leaves[3:5]):
            spot = centre + (at - 0.5) * 0.6 * np.array([np.cos(angle), np.sin(angle)])
            polygons.append(
                _lens(spot, 0.035 + 0.05 * leaves[5], 0.012 + 0.02 * width, angle + 0.5 + 2 * turn)
            )
    return Shapes(polygons, random_colours(rng, 6)[: len(polygons)])


def light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The scene under a random light: contrast, brightness, colour cast and a gradient across the
    image.
    """
    u = rng.random(7, np.float32)
    size = image.shape[0]
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    field = 1 + (0.9 * u[0] - 0.45) * ramp[:, None] + (0.9 * u[1] - 0.45) * ramp[None, :]
    contrast, brightness, cast = 0.72 + 0.5 * u[2], 0.76 + 0.44 * u[3], 1 + 0.4 * (u[4:] - 0.5)
    return (image * (contrast * field)[..., None] + np.float32(110) * (1 - contrast)) * (
        brightness * cast
    )
