"""Supervised training of heads: `finetune(load_finetune("default", ["head=tdsa"]))`."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
