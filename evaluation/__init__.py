"""Probes, protocols, supervised heads and their training, on encoders of `ssl_parts`.

Names are loaded on first use; `__init__.pyi` lists them.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
