"""Schemas and files of results are read without torch: `--help` and a mistyped key answer at once."""

import subprocess
import sys
import types

# modules of this floor that import no torch themselves
LIGHT = [
    "evaluation",
    "evaluation.config",
    "evaluation.finetuning",
    "evaluation.finetuning.config",
    "evaluation.heads",
    "evaluation.heads.config",
    "evaluation.protocols",
    "evaluation.protocols.config",
    "evaluation.results",
    "evaluation.tables",
]


def test_no_torch_behind_schemas_and_results():
    code = "import sys\n" + "".join(f"import {name}\n" for name in LIGHT)
    code += "print([name for name in ('torch', 'timm', 'sklearn') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr[-800:]


def test_names_of_the_packages_are_found():
    import evaluation
    import evaluation.finetuning
    import evaluation.heads
    import evaluation.protocols

    for package in (evaluation, evaluation.heads, evaluation.protocols, evaluation.finetuning):
        for name in package.__all__:
            found = getattr(package, name)
            assert not isinstance(found, types.ModuleType), f"{package.__name__}.{name}"
