"""Numbers that others have reported (docs/method.md, section 1.7), to stand beside ours for the data sets they
belong to. Percent.
"""

from dataclasses import dataclass

ABSTRACT = "PARTICLE, arXiv 2309.13822, abstract"
RELEASED = "README of the released PARTICLE code and weights"
DINOV2 = "DINOv2, arXiv 2304.07193, Table 8"
PROTOCOL = {
    "linear": (
        "Protocol of the paper's code: logistic regression with C=1 on raw frozen features of all training images at "
        "224 px, whole test set. DINO and DINOv2 rows follow the DINOv2 paper's own linear protocol."
    ),
    "part mIoU": (
        "Protocol of the paper's code: the whole network fine-tuned with an upsampling decoder, mean IoU with "
        "background over 5 folds. It is not the frozen linear decoder of this run's table."
    ),
}


@dataclass(frozen=True)
class Published:
    """One reported number."""

    data: str  # as in configs/data
    measure: str  # a key of PROTOCOL
    model: str
    percent: float
    source: str


def _over_sets(measure: str, model: str, source: str, **percents: float) -> list[Published]:
    return [Published(data, measure, model, percent, source) for data, percent in percents.items()]


PUBLISHED: list[Published] = [
    *_over_sets("linear", "ResNet-50, DetCon", ABSTRACT, cub=35.4, aircraft=35.5, cars=29.7),
    *_over_sets(
        "linear", "ResNet-50, DetCon + PARTICLE", ABSTRACT, cub=42.0, aircraft=44.1, cars=37.4
    ),
    *_over_sets(
        "linear", "ResNet-50 + PARTICLE, released weights", RELEASED, cub=40.88, aircraft=43.99
    ),
    *_over_sets(
        "linear", "ViT-S/8, DINO + PARTICLE, released weights", RELEASED, cub=84.15, aircraft=73.59
    ),
    *_over_sets(
        "linear", "ViT-B/8, DINO, no further training", DINOV2, cub=81.7, aircraft=70.6, cars=76.6
    ),
    *_over_sets(
        "linear",
        "ViT-S/14, DINOv2, no further training",
        DINOV2,
        cub=88.1,
        aircraft=74.0,
        cars=81.6,
    ),
    *_over_sets(
        "linear",
        "ViT-B/14, DINOv2, no further training",
        DINOV2,
        cub=89.6,
        aircraft=79.4,
        cars=88.2,
    ),
    *_over_sets(
        "linear",
        "ViT-L/14, DINOv2, no further training",
        DINOV2,
        cub=90.5,
        aircraft=81.5,
        cars=90.1,
    ),
    *_over_sets(
        "linear",
        "ViT-g/14, DINOv2, no further training",
        DINOV2,
        cub=91.6,
        aircraft=87.2,
        cars=91.4,
    ),
    *_over_sets(
        "part mIoU",
        "ResNet-50 + PARTICLE, released weights",
        RELEASED,
        pascub=49.23,
        oid_aircraft=58.95,
    ),
    *_over_sets(
        "part mIoU",
        "ViT-S/8 + PARTICLE, released weights",
        RELEASED,
        pascub=50.59,
        oid_aircraft=61.68,
    ),
]


def published_for(data: str) -> list[Published]:
    """What was reported on this data set; [] for most."""
    return [row for row in PUBLISHED if row.data == data]


def published_gains() -> dict[str, float]:
    """Data set → points of linear accuracy that the paper's PARTICLE gained over its base,
    DetCon's ResNet-50.
    """
    percent = {(row.data, row.model): row.percent for row in PUBLISHED if row.source == ABSTRACT}
    sets = dict.fromkeys(data for data, _ in percent)
    return {
        d: round(percent[d, "ResNet-50, DetCon + PARTICLE"] - percent[d, "ResNet-50, DetCon"], 1)
        for d in sets
    }
