"""Data sets, images at one square size, and the order in which a step reads them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
