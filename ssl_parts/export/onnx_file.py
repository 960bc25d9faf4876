"""ONNX: one file, any batch size, checked with onnxruntime.

Shape legend: B images, D channels, h x w cells of the last map.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ssl_parts.encoders import Encoder
from ssl_parts.errors import ConfigError, WeightsError

TOLERANCE = 1e-4  # of the largest value, at least of 1
LARGEST_BATCH = 65536


class _Traced(nn.Module):
    """images -> pooled_BD, map_BDhw of the last stage; normalisation inside."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(images)
        return features.pooled, features.maps[self.encoder.last_stage]


def write_onnx(encoder: Encoder, folder: Path, image_size: int) -> None:
    """model.onnx: input "images" (B, 3, S, S) in [0, 1]; outputs "pooled" (B, D) and "map" (B, D,
    h, w).

    Raises:
        ConfigError: the packages of the `onnx` extra are missing.
    """
    _require("onnx", "onnxscript")
    example = torch.rand(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _quiet():
        torch.onnx.export(
            _Traced(encoder).eval(),
            (example,),
            str(folder / "model.onnx"),
            dynamo=True,
            input_names=["images"],
            output_names=["pooled", "map"],
            dynamic_shapes={"images": {0: batch}},
            external_data=False,
            verbose=False,
        )


def check_onnx(encoder: Encoder, folder: Path, images_BCHW: Tensor) -> None:
    """Raises WeightsError unless onnxruntime agrees with the encoder to 1e-4, for one image and
    for several.
    """
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    for batch_BCHW in (images_BCHW[:1], torch.cat([images_BCHW, images_BCHW[:1]])):
        with torch.no_grad():
            features = encoder(batch_BCHW)
        expected = (features.pooled.numpy(), features.maps[encoder.last_stage].numpy())
        for name, ours, theirs in zip(
            ("pooled", "map"), expected, session.run(None, {"images": batch_BCHW.numpy()})
        ):
            difference = float(np.abs(ours - theirs).max())
            if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
                raise WeightsError(
                    f"the ONNX export of {encoder.name} differs by {difference:.2g} in {name!r} "
                    f"for a batch of {len(batch_BCHW)}; nothing was written"
                )


def _require(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise ConfigError(f"to=onnx needs {package}: pip install 'ssl-parts[onnx]'") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and its optimiser report progress on stdout, in warnings and in logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
