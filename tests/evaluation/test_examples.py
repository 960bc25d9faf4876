"""Every Example in a docstring of this floor runs."""

import doctest
import importlib
import pkgutil

import pytest

import evaluation

MODULES = [module.name for module in pkgutil.walk_packages(evaluation.__path__, "evaluation.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_the_public_functions_have_examples():
    finder = doctest.DocTestFinder()
    for address in (
        "evaluation.agreement.nmi_ari",
        "evaluation.heads.build.build_head",
        "evaluation.linear_probe.linear_probe",
    ):
        module, _, name = address.rpartition(".")
        function = getattr(importlib.import_module(module), name)
        assert any(test.examples for test in finder.find(function, name)), address
