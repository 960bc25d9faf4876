"""Self-supervised, part-aware pretraining. What others need most is importable from here, loaded
on first use.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "build_encoder": "ssl_parts.encoders",
    "open_encoder": "ssl_parts.encoders",
    "export_encoder": "ssl_parts.export",
    "load_part_model": "ssl_parts.parts.model",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
