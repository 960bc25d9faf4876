import importlib.util
import sys
from pathlib import Path

import pytest

# Tests are imported one by one (--import-mode=importlib), so what they share is put where they
# find it.
_spec = importlib.util.spec_from_file_location(
    "parts_stand_ins", Path(__file__).with_name("stand_ins.py")
)
stand_ins = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("parts_stand_ins", stand_ins)
_spec.loader.exec_module(stand_ins)


@pytest.fixture
def tiny_encoder():
    return stand_ins.TinyEncoder()


@pytest.fixture
def disc_bank():
    return stand_ins.DiscBank()
