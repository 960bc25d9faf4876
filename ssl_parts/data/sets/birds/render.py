"""One drawn bird: geometry, colours and annotations from a single canvas of feature numbers.

Everything is drawn once, as numbers, on a canvas of OVERSAMPLE x the image's side. The colours of
the numbers, averaged over each pixel, give the anti-aliased image; the number at a pixel's centre
gives its part: masks are exact. S: side of the image. K: keypoints.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ssl_parts.data.sets.birds.anatomy import (
    FEATURES,
    JOINTS,
    KEYPOINT_NAMES,
    KEYPOINT_PART,
    PART_NAMES,
    template,
)
from ssl_parts.data.sets.birds.pose import draw_pose, place
from ssl_parts.data.sets.birds.scene import Shapes, background, clutter, light, occluders
from ssl_parts.data.sets.birds.species import ALL_SPECIES

OVERSAMPLE = 3  # odd, so that one sample lies at each pixel's centre
_FIRST_OTHER = len(FEATURES) + 1  # canvas numbers from here on are clutter and occluders
_SHADE_SIDE = 40

_PART_OF_NUMBER = np.zeros(256, np.uint8)
_PART_OF_NUMBER[1:_FIRST_OTHER] = [PART_NAMES.index(part) + 1 for part in FEATURES.values()]
_COVERED = [0] + [255] * 255
_IS_BIRD = [255 if 0 < number < _FIRST_OTHER else 0 for number in range(256)]
_KEYPOINT_PART_K = np.array(
    [PART_NAMES.index(KEYPOINT_PART.get(name, name)) + 1 for name in KEYPOINT_NAMES]
)


@dataclass(frozen=True)
class Drawing:
    image: np.ndarray  # uint8 (S, S, 3)
    mask: np.ndarray  # uint8 (S, S): 0 background and occluders, 1..P parts
    keypoints: np.ndarray  # float32 (K, 3): x, y in pixels, visibility


class _Canvas:
    """Polygons in the unit square, drawn as numbers; `palette` maps the numbers to colours."""

    def __init__(self, size: int, palette: np.ndarray) -> None:
        self.side = size * OVERSAMPLE
        self.image = Image.new("L", (self.side, self.side), 0)
        self.pen = ImageDraw.Draw(self.image)
        self.palette = np.zeros((256, 3), np.float32)
        self.palette[: len(palette)] = palette
        self.next = len(palette)

    def polygons(self, points_N2: np.ndarray, pieces: tuple[tuple[int, int, int], ...]) -> None:
        xy = np.floor(points_N2 * self.side).astype(np.int64).ravel().tolist()
        for number, first, last in pieces:
            self.pen.polygon(xy[2 * first : 2 * last], fill=number)

    def shapes(self, shapes: Shapes) -> None:
        if not shapes.polygons:
            return
        stops = np.cumsum([len(p) for p in shapes.polygons]).tolist()
        numbers = range(self.next, self.next + len(stops))
        self.palette[self.next : self.next + len(stops)] = shapes.colours
        self.polygons(np.concatenate(shapes.polygons), tuple(zip(numbers, [0, *stops], stops)))
        self.next += len(stops)

    def colours(self) -> tuple[np.ndarray, np.ndarray]:
        """Colour times coverage, float32 (S, S, 3), and the share that the background keeps,
        float32 (S, S, 1).
        """
        covered = np.asarray(self.image.point(_COVERED).reduce(OVERSAMPLE), np.float32)
        painted = self.image.copy()
        painted.putpalette(np.clip(self.palette, 0, 255).astype(np.uint8).tobytes())
        rgb = np.asarray(painted.convert("RGB").reduce(OVERSAMPLE), np.float32)
        return rgb, (1 - covered / 255)[..., None]


def _shade(canvas: _Canvas, size: int) -> np.ndarray:
    """Light from above on a rounded body, float32 (S, S, 1) around 1: the vertical slope of the
    blurred silhouette.
    """
    bird = canvas.image.point(_IS_BIRD).resize((_SHADE_SIDE, _SHADE_SIDE), Image.Resampling.BOX)
    soft = np.asarray(bird.filter(ImageFilter.BoxBlur(2)), np.int16)
    slope = np.zeros_like(soft)
    slope[2:-2] = (soft[4:] - soft[:-4]) // 2
    field = Image.fromarray((128 + slope).clip(0, 255).astype(np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return 1 + (np.asarray(field, np.float32)[..., None] - 128) * np.float32(0.0032)


def _keypoints(points_K2: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A keypoint is visible where the mask at its pixel shows its part: nothing hides it and it is
    in the image.
    """
    size = mask.shape[0]
    column, row = np.floor(points_K2 * size).astype(int).T
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    shown = mask[row.clip(0, size - 1), column.clip(0, size - 1)] == _KEYPOINT_PART_K
    return np.concatenate([points_K2 * size, (inside & shown)[:, None]], 1).astype(np.float32)


def _individual(rng: np.random.Generator, n: int) -> np.ndarray:
    """Gains (n, 3) of one bird's colours: paler or darker as a whole, tinted, each feature a
    little different.
    """
    whole = 0.75 + 0.5 * rng.random() + 0.16 * (rng.random(3) - 0.5)
    return whole * rng.normal(1, 0.05, (n, 3))


def draw_bird(rng: np.random.Generator, species: int, size: int) -> Drawing:
    """Draw species 0..39 at `size` pixels. Two species of one genus, with generators in the same
    state, get the same scene, light and pose: the images differ only where the two species do."""
    bird = template(species)
    pose = draw_pose(rng, bird, ALL_SPECIES[species].genus.shape.pitch)
    frame = place(bird.frame_M2, bird.frame_joint_M, pose)
    feet = frame[bird.frame_joint_M == JOINTS.index("legs")][0]
    canvas = _Canvas(size, bird.palette * _individual(rng, len(bird.palette)))
    behind = background(rng, size)
    canvas.shapes(clutter(rng, feet))
    canvas.polygons(place(bird.points_N2, bird.joint_N, pose), bird.pieces)
    canvas.shapes(occluders(rng, np.concatenate([frame.min(0), frame.max(0)])))
    colour, rest = canvas.colours()
    image = light(rng, (colour + behind * rest) * _shade(canvas, size))
    centre = OVERSAMPLE // 2
    mask = _PART_OF_NUMBER[np.asarray(canvas.image)[centre::OVERSAMPLE, centre::OVERSAMPLE]]
    keypoints = _keypoints(place(bird.keypoints_K2, bird.keypoint_joint_K, pose), mask)
    return Drawing(np.clip(image, 0, 255).astype(np.uint8), mask, keypoints)
