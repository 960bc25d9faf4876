"""Data sets, images at one square size, and the order in which a step reads them."""

from ssl_parts.data.bank import Cache, ImageBank
from ssl_parts.data.catalogue import SETS, DataConfig, OnBadImage, build_bank, build_dataset
from ssl_parts.data.class_balanced import ClassBalanced
from ssl_parts.data.decode import decode_image
from ssl_parts.data.device_bank import Bank, DeviceBank, OnDevice, place_bank
from ssl_parts.data.flip import flip_sample
from ssl_parts.data.geometry import Fit, fit_image, fit_sample
from ssl_parts.data.loader import BatchStream
from ssl_parts.data.order import (
    batch_indices,
    epoch_permutation,
    evenly_spaced,
    rank_slice,
    steps_per_epoch,
)
from ssl_parts.data.records import PartsDataset, Sample

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
    "place_bank",
    "rank_slice",
    "steps_per_epoch",
]
