"""Protocols by id; PROTOCOLS.md says what each is. `run_protocol(protocol, bench)` gives rows of
results.json.
"""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
