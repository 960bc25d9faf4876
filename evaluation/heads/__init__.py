"""Supervised fine-grained heads on any encoder: `build_head("tdsa", encoder, classes)`."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
