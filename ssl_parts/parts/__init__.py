"""Part discovery: which pixels of an image belong together, and which are the object at all."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
