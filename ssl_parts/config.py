"""Recipes by name, as configurations: what `launch/pretrain.py` reads.

    config = load_config("folder", ["data.root=photographs", "encoder.weights=mobilenet.pth"])

Imports no torch.
"""

from ssl_parts.recipes.load import load_recipe as load_config

__all__ = ["load_config"]
