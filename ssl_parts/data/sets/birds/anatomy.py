"""A species as polygons: a list of pieces in drawing order, facing right, in units of half a body
length (y down).

Every piece belongs to a joint (body, head, tail, wing, far wing, legs) that the pose turns about
its pivot. N: all points of a template. K: keypoints. M: points of the frame. J: joints.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ssl_parts.data.sets.birds.species import ALL_SPECIES, COLOURS, Mark, Shape, Species

PART_NAMES = ("head", "beak", "breast", "belly", "back", "wing", "tail", "legs")
KEYPOINT_NAMES = ("beak", "eye", "crown", "nape", "breast", "belly", "back", "wing", "tail", "leg")
JOINTS = ("body", "head", "tail", "wing", "far_wing", "legs")

# What a pixel of the canvas can be, and the part that it belongs to. The canvas holds 1 + the
# position in this table.
FEATURES: dict[str, str] = {
    "far_wing": "wing", "far_wing_tip": "wing", "tail": "tail", "tail_mark": "tail", "far_leg": "legs", "leg": "legs",
    "belly": "belly", "back": "back", "breast": "breast", "breast_mark": "breast", "head": "head", "crown": "head",
    "eye_ring": "head", "pupil": "head", "beak": "beak", "lower_beak": "beak", "wing": "wing", "wing_tip": "wing",
    "wing_mark": "wing",
}  # fmt: skip
FEATURE_ID = {name: i + 1 for i, name in enumerate(FEATURES)}
# the others lie in the part they name
KEYPOINT_PART = {"eye": "head", "crown": "head", "nape": "head", "leg": "legs"}


@dataclass(frozen=True)
class Template:
    """One species at rest."""

    points_N2: np.ndarray
    joint_N: np.ndarray  # index into JOINTS
    pieces: tuple[tuple[int, int, int], ...]  # feature id, first and last point
    keypoints_K2: np.ndarray
    keypoint_joint_K: np.ndarray
    frame_M2: np.ndarray  # points that bound any bird of the genus, whatever its marks
    frame_joint_M: np.ndarray
    pivots_J2: np.ndarray
    palette: np.ndarray  # float32 (1 + features, 3), row 0 unused


def _circle(
    centre: tuple[float, float], radius: float, start: float = 0, stop: float = 360, n: int = 20
) -> np.ndarray:
    angle = np.radians(np.linspace(start, stop, n, endpoint=stop - start < 360))
    return np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], 1)


def _body_arc(
    shape: Shape, start: float, stop: float, inset: float = 1.0, n: int = 14
) -> np.ndarray:
    """Points of the body's outline (an egg, thinner towards the tail) between two angles; 0 is
    ahead, 90 is down.
    """
    angle = np.radians(np.linspace(start, stop, n))
    y = shape.depth * np.sin(angle) * (1 + 0.28 * np.cos(angle))
    return np.stack([inset * np.cos(angle), inset * y], 1)


def _blade(
    length: float, width: float, start: float = 0.0, stop: float = 1.0, n: int = 12
) -> np.ndarray:
    """A folded wing, or a slice across it: root at the origin, tip at (-length, 0), fuller below
    than above.
    """
    s = np.linspace(start, stop, n)
    upper = -0.62 * s**0.4 * (1 - s) ** 0.8
    lower = 0.95 * s**0.35 * (1 - s) ** 0.62
    x = 0.1 - s * 1.1
    above = np.stack([x * length, upper * width], 1)
    return np.concatenate([above, np.stack([x * length, lower * width], 1)[::-1]])


def _tail(kind: str, length: float, width: float) -> list[tuple[str, np.ndarray]]:
    """Polygons of a tail whose root is at the origin and which points to -x."""
    if kind == "fork":
        outline = [
            (0.1, -0.14),
            (-0.5, -0.24),
            (-1.25, -width),
            (-0.55, 0),
            (-1.25, width),
            (-0.5, 0.24),
            (0.1, 0.14),
        ]
    elif kind == "point":
        outline = [
            (0.1, -0.17),
            (-0.7, -0.2),
            (-1.3, -0.03),
            (-1.3, 0.03),
            (-0.7, 0.2),
            (0.1, 0.17),
        ]
    else:
        w = width * 1.25
        outline = [
            (0.1, -0.15),
            (-0.85, -w),
            (-1, -w * 0.5),
            (-1.04, 0),
            (-1, w * 0.5),
            (-0.85, w),
            (0.1, 0.15),
        ]
    pieces = [("tail", np.array(outline) * (length, 1))]
    if kind == "banded fan":
        w = width * 1.25
        band = [(-0.58, -0.72 * w), (-0.85, -w), (-0.85, w), (-0.58, 0.72 * w)]
        pieces.append(("tail_mark", np.array(band) * (length, 1)))
    return pieces


def _beak(kind: str) -> list[tuple[str, np.ndarray]]:
    """Upper and lower half of a beak whose root is at the origin and which points to +x."""
    if kind == "cone":
        upper = [(-0.1, -0.34), (0.24, -0.26), (0.54, 0.04), (-0.1, 0.06)]
        lower = [(-0.1, 0.06), (0.54, 0.04), (0.1, 0.28), (-0.1, 0.32)]
    elif kind == "dagger":
        upper = [(-0.1, -0.22), (0.5, -0.1), (1.1, 0.02), (-0.1, 0.05)]
        lower = [(-0.1, 0.05), (1.1, 0.02), (0.5, 0.12), (-0.1, 0.2)]
    else:
        upper = [
            (-0.1, -0.32),
            (0.2, -0.3),
            (0.44, -0.14),
            (0.52, 0.14),
            (0.46, 0.44),
            (0.34, 0.2),
            (-0.1, 0.1),
        ]
        lower = [(-0.1, 0.1), (0.3, 0.18), (0.2, 0.32), (-0.1, 0.26)]
    return [("beak", np.array(upper)), ("lower_beak", np.array(lower))]


def _breast(kind: str, shape: Shape) -> list[tuple[str, np.ndarray]]:
    pieces = [
        ("breast", np.concatenate([_body_arc(shape, -38, 96), _body_arc(shape, 96, -38, 0.15)]))
    ]
    if kind == "collar":
        pieces.append(
            (
                "breast_mark",
                np.concatenate([_body_arc(shape, 8, 58), _body_arc(shape, 58, 8, 0.15)]),
            )
        )
    if kind == "spots":
        for angle, inset in ((8, 0.84), (34, 0.86), (60, 0.86), (20, 0.56), (48, 0.58), (78, 0.62)):
            x, y = _body_arc(shape, angle, angle, inset, n=1)[0]
            pieces.append(("breast_mark", _circle((x, y), 0.13, n=8)))
    return pieces


def _head(shape: Shape, crown: Mark, beak: Mark) -> list[tuple[str, np.ndarray]]:
    """Neck, head, crown, beak and eye with the neck's root at the origin."""
    r, angle = shape.head, np.radians(shape.neck_angle)
    centre = np.array([shape.neck * np.cos(angle), -shape.neck * np.sin(angle)])
    side = np.array([np.sin(angle), np.cos(angle)])
    neck = np.stack([-0.46 * side, centre - 0.86 * r * side, centre + 0.86 * r * side, 0.5 * side])
    cap = np.concatenate(
        [_circle((0, 0), r * 1.05, 160, 340, 14), [(0.5 * r, -0.3 * r), (-0.2 * r, -0.14 * r)]]
    )
    pieces = [("head", neck), ("head", centre + _circle((0, 0), r)), ("crown", centre + cap)]
    if crown.kind == "crest":
        plume = [
            (0.32, -0.37),
            (0.05, -0.7),
            (-0.38, -1.02),
            (-0.9, -0.98),
            (-0.58, -0.68),
            (-0.52, -0.1),
        ]
        pieces.append(("crown", centre + np.array(plume)))
    root = centre + np.array([0.86 * r, 0.06])
    pieces += [(name, root + points) for name, points in _beak(beak.kind)]
    eye = (centre[0] + 0.38 * r, centre[1] - 0.06 * r)
    return [
        *pieces,
        ("eye_ring", _circle(eye, 0.3 * r, n=12)),
        ("pupil", _circle(eye, 0.19 * r, n=10)),
    ]


def _wing(kind: str, shape: Shape) -> list[tuple[str, np.ndarray]]:
    def slice_(start: float, stop: float) -> np.ndarray:
        return _blade(shape.wing, shape.wing_width, start, stop)

    cuts = {
        "plain": [],
        "one bar": [(0.34, 0.5)],
        "two bars": [(0.2, 0.34), (0.48, 0.62)],
        "patch": [(0.24, 0.66)],
    }
    marks = [("wing_mark", slice_(*cut)) for cut in cuts[kind]]
    return [("wing", slice_(0, 1)), ("wing_tip", slice_(0.72, 1)), *marks]


def _leg(x: float, top: float, length: float, name: str) -> list[tuple[str, np.ndarray]]:
    y, w = top + length, 0.065
    shank = [(x - w, top - 0.1), (x + w, top - 0.1), (x + w, y), (x - w, y)]
    foot = [
        (x - 0.2, y + 0.09),
        (x, y - 0.04),
        (x + 0.3, y + 0.09),
        (x + 0.3, y + 0.16),
        (x - 0.2, y + 0.16),
    ]
    return [(name, np.array(shank)), (name, np.array(foot))]


def _pieces(shape: Shape, marks: dict[str, Mark]) -> list[tuple[str, str, np.ndarray]]:
    """(joint, feature, points) from the back to the front; joints other than body and legs are
    still at the origin.
    """
    wing = _wing(marks["wing"].kind, shape)
    top = shape.depth * 0.9
    jointed = [
        ("far_wing", [("far_" + name, points) for name, points in wing[:2]]),
        ("legs", _leg(-0.18, top, shape.legs * 0.9, "far_leg")),
        ("tail", _tail(marks["tail"].kind, shape.tail, shape.tail_width)),
        ("legs", _leg(0.12, top, shape.legs, "leg")),
        ("body", [("belly", _body_arc(shape, 0, 360, n=28))]),
        (
            "body",
            [
                (
                    "back",
                    np.concatenate([_body_arc(shape, 186, 330), _body_arc(shape, 330, 186, 0.35)]),
                )
            ],
        ),
        ("body", _breast(marks["breast"].kind, shape)),
        ("head", _head(shape, marks["crown"], marks["beak"])),
        ("wing", wing),
    ]
    return [(joint, name, points) for joint, pieces in jointed for name, points in pieces]


def _pivots(shape: Shape) -> dict[str, tuple[float, float]]:
    shoulder = (0.4, -0.22 * shape.depth)
    return {"body": (0.0, 0.0), "head": (0.6, -0.42 * shape.depth), "tail": (-0.9, -0.06 * shape.depth),
            "wing": shoulder, "far_wing": (shoulder[0] + 0.1, shoulder[1] - 0.1), "legs": (0.0, 0.0)}  # fmt: skip


def _keypoints(shape: Shape) -> dict[str, tuple[str, tuple[float, float]]]:
    """Joint and place of each keypoint; places do not depend on the marks."""
    r, angle = shape.head, np.radians(shape.neck_angle)
    cx, cy = shape.neck * np.cos(angle), -shape.neck * np.sin(angle)
    places = {"beak": ("head", (cx + 0.86 * r + 0.28, cy + 0.06)), "eye": ("head", (cx + 0.38 * r, cy - 0.06 * r)),
              "crown": ("head", (cx, cy - 0.72 * r)), "nape": ("head", (cx - 0.78 * r, cy + 0.1 * r))}  # fmt: skip
    for name, at, inset in (("breast", 22, 0.78), ("belly", 112, 0.84), ("back", 232, 0.88)):
        x, y = _body_arc(shape, at, at, inset, n=1)[0]
        places[name] = ("body", (float(x), float(y)))
    places["wing"] = ("wing", (-0.84 * shape.wing, 0.04 * shape.wing_width))
    places["tail"] = ("tail", (-0.46 * shape.tail, 0.0))
    places["leg"] = ("legs", (0.12, shape.depth * 0.9 + 0.6 * shape.legs))
    return places


def _frame(shape: Shape) -> list[tuple[str, np.ndarray]]:
    angle = np.radians(shape.neck_angle)
    head = (shape.neck * np.cos(angle), -shape.neck * np.sin(angle))
    beak = np.array([[head[0] + 0.86 * shape.head + 0.7, head[1]]])
    return [("body", _body_arc(shape, 0, 360, n=8)), ("head", _circle(head, shape.head * 1.25, n=8)), ("head", beak),
            ("tail", np.array([[-1.1 * shape.tail, -0.2], [-1.1 * shape.tail, 0.2]])),
            ("legs", np.array([[0.4, shape.depth * 0.9 + shape.legs + 0.16]])),
            ("wing", np.array([[-shape.wing, 0.0]])), ("far_wing", np.array([[-shape.wing, 0.0]]))]  # fmt: skip


def _palette(species: Species) -> np.ndarray:
    plumage, marks = species.genus.plumage, species.marks
    rgb = {name: np.array(value, np.float32) for name, value in COLOURS.items()}
    wing, legs = rgb[plumage["wing"]], rgb[plumage["legs"]]
    beak, tail = rgb[marks["beak"].colour], rgb[marks["tail"].colour]
    breast = marks["breast"]
    table = {
        "far_wing": wing * 0.72, "far_wing_tip": wing * 0.5, "tail": tail, "tail_mark": rgb["white"],
        "far_leg": legs * 0.75, "leg": legs, "belly": rgb[plumage["belly"]], "back": rgb[plumage["back"]],
        "breast": rgb[breast.colour if breast.kind == "plain" else plumage["belly"]], "breast_mark": rgb[breast.colour],
        "head": rgb[plumage["head"]], "crown": rgb[marks["crown"].colour], "eye_ring": rgb["white"],
        "pupil": rgb["black"], "beak": beak, "lower_beak": beak * 0.78, "wing": wing * 0.9, "wing_tip": wing * 0.55,
        "wing_mark": rgb[marks["wing"].colour],
    }  # fmt: skip
    return np.stack([np.zeros(3, np.float32), *(table[name] for name in FEATURES)]).astype(
        np.float32
    )


def _placed(items: list[tuple[str, np.ndarray]], shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    pivots = _pivots(shape)
    points = np.concatenate([xy + pivots[joint] for joint, xy in items])
    joints = np.concatenate([np.full(len(xy), JOINTS.index(joint)) for joint, xy in items])
    return points, joints


@lru_cache(maxsize=len(ALL_SPECIES))
def template(index: int) -> Template:
    """The template of species `index` (0..39), made once."""
    species = ALL_SPECIES[index]
    shape = species.genus.shape
    pieces = _pieces(shape, species.marks)
    points, joints = _placed([(joint, xy) for joint, _, xy in pieces], shape)
    stops = np.cumsum([len(xy) for _, _, xy in pieces]).tolist()
    spans = tuple(
        (FEATURE_ID[name], a, b) for (_, name, _), a, b in zip(pieces, [0, *stops], stops)
    )
    keypoints = _keypoints(shape)
    places = [(keypoints[name][0], np.array([keypoints[name][1]])) for name in KEYPOINT_NAMES]
    pivots = _pivots(shape)
    return Template(points, joints, spans, *_placed(places, shape), *_placed(_frame(shape), shape),
                    np.array([pivots[j] for j in JOINTS]), _palette(species))  # fmt: skip
