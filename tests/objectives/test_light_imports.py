"""Schemas of both rooms are read before anything heavy: a mistyped key is answered fast."""

import subprocess
import sys

HEAVY = {"torch", "numpy", "kornia", "lightly", "timm"}


def test_schemas_and_packages_import_nothing_heavy():
    """Also by the short names of the packages, which load their modules on first use."""
    program = (
        "import sys, ssl_parts.objectives.config, ssl_parts.views.config\n"
        "from ssl_parts.objectives import MethodName, ObjectiveConfig, Targets\n"
        "from ssl_parts.views import CropConfig, ViewsConfig\n"
        "ObjectiveConfig().check(), ViewsConfig().check()\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not HEAVY & set(done.stdout.split())
