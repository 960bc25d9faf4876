"""The examples in the docstrings of the room run and say what they say."""

import doctest
import importlib
import pkgutil

import pytest

import ssl_parts.parts

MODULES = [
    module.name
    for module in pkgutil.walk_packages(ssl_parts.parts.__path__, "ssl_parts.parts.")
    if not module.ispkg
]
WITH_EXAMPLES = {"clustering.kmeans", "dense.hypercolumn", "discover", "match", "store", "config"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0
    assert found.attempted or name.removeprefix("ssl_parts.parts.") not in WITH_EXAMPLES
