"""PartImageNet (He et al. 2022), as it is handed out: images/SPLIT/SYNSET_NUMBER.JPEG and
annotations/SPLIT/SPLIT.json in COCO's format, 40 parts of 11 kinds of objects. The class of an
image is its WordNet id, the first part of its name. In the release whose splits have disjoint
classes, figures of classification between splits mean nothing.
"""

from ssl_parts.data.sets.archive import Published
from ssl_parts.data.sets.coco_parts import CocoParts


class PartImageNet(CocoParts):
    """PartImageNet; a `PartsDataset`. Arguments and errors as `CocoParts`."""

    name = "part_imagenet"
    published = Published(
        images=24_095, classes=158, splits={"train": 16_540, "val": 2_957, "test": 4_598}
    )
    marks = ("images", "annotations")
    inner = ("PartImageNet",)

    def _labels(self, paths: list[str]) -> tuple[list[int], list[str]]:
        names = [path.rpartition("/")[2].partition("_")[0] for path in paths]
        classes = sorted(set(names))
        number = {name: i for i, name in enumerate(classes)}
        return [number[name] for name in names], classes
