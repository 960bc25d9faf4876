"""Views of an image and of its part ids: one sampling grid for both, colour on the device."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
