"""What is learnt from two views: part contrast, instance contrast and the terms around them."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
