"""Every example in a docstring of the rooms for views and objectives runs and is right."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import ssl_parts.objectives
import ssl_parts.views

MODULES = [
    module.name
    for room in (ssl_parts.objectives, ssl_parts.views)
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}.")
]
PUBLIC = {"PartContrast", "pool_parts", "make_views", "MethodName"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    torch.manual_seed(0)
    failed, _ = doctest.testmod(importlib.import_module(name), raise_on_error=False)
    assert failed == 0


def test_the_public_ones_have_an_example():
    found = {
        test.name.rpartition(".")[2]
        for name in MODULES
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name))
        if test.examples
    }
    assert found >= PUBLIC
