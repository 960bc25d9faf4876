"""NABirds (Van Horn et al. 2015), as nabirds.tar.gz unpacks: the lists of CUB with other ids. 555
visual categories are used of the 1,011 nodes of classes.txt; 11 keypoints.
"""

from ssl_parts.data.sets.archive import Published
from ssl_parts.data.sets.cub import CUB


class NABirds(CUB):
    """NABirds; a `PartsDataset` with categories, boxes and 11 keypoints. Arguments and errors as
    `CUB`.
    """

    name = "nabirds"
    published = Published(images=48_562, classes=555, splits={"train": 23_929, "test": 24_633})
    inner = ("nabirds",)
    all_classes = False  # inner nodes of the hierarchy have no images
