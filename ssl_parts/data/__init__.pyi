"""Data sets, images at one square size, and the order in which a step reads them."""

from .bank import ImageBank as ImageBank
from .class_balanced import ClassBalanced as ClassBalanced
from .config import SETS as SETS
from .config import Cache as Cache
from .config import DataConfig as DataConfig
from .config import Fit as Fit
from .config import OnBadImage as OnBadImage
from .config import OnDevice as OnDevice
from .decode import decode_image as decode_image
from .device_bank import Bank as Bank
from .device_bank import DeviceBank as DeviceBank
from .device_bank import place_bank as place_bank
from .flip import flip_sample as flip_sample
from .geometry import fit_image as fit_image
from .geometry import fit_sample as fit_sample
from .loader import BatchStream as BatchStream
from .order import batch_indices as batch_indices
from .order import epoch_permutation as epoch_permutation
from .order import evenly_spaced as evenly_spaced
from .order import rank_slice as rank_slice
from .order import steps_per_epoch as steps_per_epoch
from .records import PartsDataset as PartsDataset
from .records import Sample as Sample
from .sets.catalogue import build_bank as build_bank
from .sets.catalogue import build_dataset as build_dataset
from .sets.catalogue import open_dataset as open_dataset

__all__ = [
    "SETS",
    "Bank",
    "BatchStream",
    "Cache",
    "ClassBalanced",
    "DataConfig",
    "DeviceBank",
    "Fit",
    "ImageBank",
    "OnBadImage",
    "OnDevice",
    "PartsDataset",
    "Sample",
    "batch_indices",
    "build_bank",
    "build_dataset",
    "decode_image",
    "epoch_permutation",
    "evenly_spaced",
    "fit_image",
    "fit_sample",
    "flip_sample",
    "open_dataset",
    "place_bank",
    "rank_slice",
    "steps_per_epoch",
]
