"""Ten genera of four species. A genus fixes the silhouette and the plumage; its species differ in
two parts at most.

There are five parts that may vary, so ten pairs of them: each genus varies another pair, two marks
for either part, and its four species are the four combinations. No single mark tells a species: it
takes the silhouette and both marks.
"""

from dataclasses import dataclass, field
from itertools import product

VARYING = ("crown", "beak", "breast", "wing", "tail")
SPECIES_A_GENUS = 4

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (34, 32, 38),
    "white": (246, 243, 234),
    "grey": (136, 140, 148),
    "slate": (78, 88, 106),
    "brown": (124, 86, 56),
    "rust": (182, 84, 40),
    "buff": (222, 188, 138),
    "red": (218, 42, 38),
    "orange": (244, 136, 28),
    "yellow": (250, 214, 54),
    "olive": (128, 134, 62),
    "green": (70, 152, 74),
    "teal": (40, 148, 152),
    "blue": (52, 96, 206),
    "violet": (128, 74, 168),
    "pink": (240, 138, 152),
}


@dataclass(frozen=True)
class Mark:
    """How one part looks: its kind (a shape or a pattern) and the name of its colour."""

    kind: str
    colour: str

    def __str__(self) -> str:
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True)
class Shape:
    """Silhouette of a genus, in units of half a body length."""

    depth: float = 0.66  # half the body's height
    head: float = 0.52  # radius
    neck: float = 0.42  # from the neck's root to the head's centre
    neck_angle: float = 48.0  # degrees above the body's axis
    tail: float = 0.85
    tail_width: float = 0.34
    wing: float = 1.35
    wing_width: float = 0.8
    legs: float = 0.5
    pitch: float = 12.0  # degrees that the body is raised at rest


@dataclass(frozen=True)
class Genus:
    name: str
    shape: Shape
    plumage: dict[str, str]  # colour names of head, back, wing, belly, legs
    marks: dict[str, Mark]  # the parts that all four species share
    # the two parts that tell them apart
    varies: dict[str, tuple[Mark, Mark]] = field(default_factory=dict)


@dataclass(frozen=True)
class Species:
    genus: Genus
    marks: dict[str, Mark]  # one for each of VARYING


def _plumage(head: str, back: str, wing: str, belly: str, legs: str) -> dict[str, str]:
    return {"head": head, "back": back, "wing": wing, "belly": belly, "legs": legs}


GENERA: tuple[Genus, ...] = (
    Genus(
        "finch",
        Shape(depth=0.74, head=0.56, neck=0.34, tail=0.7),
        _plumage("teal", "black", "rust", "white", "orange"),
        {
            "breast": Mark("plain", "olive"),
            "wing": Mark("one bar", "buff"),
            "tail": Mark("fan", "black"),
        },
        {
            "crown": (Mark("cap", "red"), Mark("cap", "white")),
            "beak": (Mark("cone", "yellow"), Mark("dagger", "black")),
        },
    ),
    Genus(
        "jay",
        Shape(depth=0.6, head=0.54, neck=0.46, tail=1.05, tail_width=0.3),
        _plumage("slate", "olive", "blue", "buff", "black"),
        {
            "beak": Mark("cone", "black"),
            "breast": Mark("plain", "grey"),
            "tail": Mark("banded fan", "brown"),
        },
        {
            "crown": (Mark("crest", "rust"), Mark("cap", "black")),
            "wing": (Mark("plain", "blue"), Mark("two bars", "white")),
        },
    ),
    Genus(
        "swallow",
        Shape(
            depth=0.5,
            head=0.44,
            neck=0.36,
            neck_angle=36,
            tail=1.0,
            wing=1.6,
            wing_width=0.68,
            legs=0.25,
        ),
        _plumage("blue", "slate", "olive", "buff", "brown"),
        {
            "beak": Mark("cone", "black"),
            "breast": Mark("plain", "orange"),
            "wing": Mark("plain", "olive"),
        },
        {
            "crown": (Mark("cap", "black"), Mark("cap", "yellow")),
            "tail": (Mark("fork", "black"), Mark("fan", "white")),
        },
    ),
    Genus(
        "robin",
        Shape(
            depth=0.78,
            head=0.54,
            neck=0.4,
            neck_angle=60,
            tail=0.75,
            tail_width=0.26,
            legs=0.75,
            pitch=28,
        ),
        _plumage("white", "teal", "black", "rust", "pink"),
        {
            "beak": Mark("cone", "orange"),
            "wing": Mark("one bar", "white"),
            "tail": Mark("fan", "rust"),
        },
        {
            "crown": (Mark("cap", "black"), Mark("crest", "grey")),
            "breast": (Mark("plain", "white"), Mark("plain", "blue")),
        },
    ),
    Genus(
        "kingfisher",
        Shape(
            depth=0.64, head=0.66, neck=0.36, neck_angle=40, tail=0.5, wing=1.2, legs=0.25, pitch=32
        ),
        _plumage("rust", "black", "teal", "white", "red"),
        {
            "crown": Mark("crest", "black"),
            "breast": Mark("collar", "violet"),
            "tail": Mark("fan", "teal"),
        },
        {
            "beak": (Mark("dagger", "black"), Mark("dagger", "yellow")),
            "wing": (Mark("plain", "teal"), Mark("patch", "buff")),
        },
    ),
    Genus(
        "parrot",
        Shape(
            depth=0.6,
            head=0.6,
            neck=0.42,
            neck_angle=56,
            tail=1.15,
            tail_width=0.3,
            legs=0.35,
            pitch=38,
        ),
        _plumage("olive", "blue", "buff", "slate", "grey"),
        {
            "crown": Mark("cap", "pink"),
            "breast": Mark("plain", "green"),
            "wing": Mark("one bar", "blue"),
        },
        {
            "beak": (Mark("hook", "red"), Mark("hook", "black")),
            "tail": (Mark("point", "violet"), Mark("banded fan", "red")),
        },
    ),
    Genus(
        "thrush",
        Shape(depth=0.66, head=0.5, neck=0.44, tail=0.85, legs=0.7, pitch=18),
        _plumage("slate", "blue", "olive", "buff", "orange"),
        {
            "crown": Mark("cap", "brown"),
            "wing": Mark("patch", "rust"),
            "tail": Mark("banded fan", "grey"),
        },
        {
            "beak": (Mark("cone", "orange"), Mark("dagger", "black")),
            "breast": (Mark("spots", "black"), Mark("plain", "yellow")),
        },
    ),
    Genus(
        "magpie",
        Shape(depth=0.56, head=0.48, neck=0.44, tail=1.3, tail_width=0.3, legs=0.7, pitch=8),
        _plumage("black", "rust", "teal", "white", "grey"),
        {
            "crown": Mark("cap", "yellow"),
            "beak": Mark("hook", "orange"),
            "breast": Mark("plain", "blue"),
        },
        {
            "wing": (Mark("plain", "teal"), Mark("patch", "white")),
            "tail": (Mark("point", "teal"), Mark("banded fan", "violet")),
        },
    ),
    Genus(
        "warbler",
        Shape(
            depth=0.6,
            head=0.52,
            neck=0.32,
            neck_angle=30,
            tail=0.75,
            tail_width=0.24,
            legs=0.6,
            pitch=-4,
        ),
        _plumage("buff", "blue", "slate", "olive", "black"),
        {
            "crown": Mark("cap", "rust"),
            "beak": Mark("dagger", "grey"),
            "tail": Mark("fork", "olive"),
        },
        {
            "wing": (Mark("two bars", "white"), Mark("one bar", "red")),
            "breast": (Mark("collar", "black"), Mark("plain", "yellow")),
        },
    ),
    Genus(
        "plover",
        Shape(
            depth=0.6, head=0.48, neck=0.85, neck_angle=66, tail=0.6, wing=1.3, legs=1.25, pitch=10
        ),
        _plumage("white", "teal", "rust", "black", "yellow"),
        {
            "crown": Mark("crest", "black"),
            "beak": Mark("dagger", "orange"),
            "wing": Mark("two bars", "black"),
        },
        {
            "breast": (Mark("plain", "yellow"), Mark("spots", "white")),
            "tail": (Mark("fan", "violet"), Mark("fork", "white")),
        },
    ),
)


def species_of(genus: Genus) -> list[Species]:
    """The four species of a genus: both marks of its one varying part with both of the other."""
    parts = tuple(genus.varies)
    return [
        Species(genus, genus.marks | dict(zip(parts, pair)))
        for pair in product(*genus.varies.values())
    ]


ALL_SPECIES: tuple[Species, ...] = tuple(s for genus in GENERA for s in species_of(genus))
