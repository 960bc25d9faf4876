"""Shared fixtures: where the real images are (research use; never in the repository), and
single-threaded torch.
"""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # small tensors, and the suite runs one process a core
# also in processes that tests start: sums are done in one order everywhere
os.environ["OMP_NUM_THREADS"] = "1"

REPO = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config, items):
    # first, so that no process is left with one at the end
    items.sort(key=lambda item: "slow" not in item.keywords)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds data/ and weights/ with real images; tests that read it skip when it
    is absent.
    """
    shared = Path(os.environ.get("SSL_PARTS_REAL_DATA", REPO.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no real images at {shared}; set SSL_PARTS_REAL_DATA")
    return shared
