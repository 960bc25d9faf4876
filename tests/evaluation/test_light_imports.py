"""Schemas and files of results are read without torch: `--help` and a mistyped key answer at once."""

import subprocess
import sys
import types

# Modules of this floor that import no torch themselves. What they take from rooms below is replaced
# where it is looked at, so that this says something about this floor alone.
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
BELOW = """
import sys, types
from dataclasses import dataclass
@dataclass
class Stub:
    method: str = ""
    def check(self): pass
for name, kinds in {
    "ssl_parts.data": ["DataConfig"],
    "ssl_parts.encoders": ["EncoderConfig"],
    "ssl_parts.parts": [],
    "ssl_parts.parts.config": ["PartsConfig"],
    "ssl_parts.engine": [],
}.items():
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = [name.replace(".", "/")]
    for kind in kinds:
        setattr(module, kind, Stub)
"""


def test_no_torch_behind_schemas_and_results():
    code = BELOW + "".join(f"import {name}\n" for name in LIGHT)
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
