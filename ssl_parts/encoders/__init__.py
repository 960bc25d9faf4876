"""Encoders: timm networks behind one dense interface, weights in from files, a name for exact
weights.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
