"""Wheel and sdist hold what they need: installed outside the checkout, the commands work from
another folder.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import ssl_parts

REPO = Path(__file__).resolve().parents[1]
TINY = [
    "data.images=12", "data.test_images=8", "data.size=48", "data.species=4", "views.size=48",
    "views.ids_size=8", "encoder.width=0.125", "train.batch=4", "train.base_epochs=1",
    "train.epochs=1", "train.rounds=1", "objective.hidden=16", "objective.projection=8",
    "parts.size=8", "parts.k=3", "run.precision=fp32", "run.threads=1", "run.trackers=[]",
    "run.pictures=false", "run.evaluate=false", "run.control=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The folder with a wheel and an sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPO]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """bin/ of an environment that holds the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    here = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(here))  # packages, not their .pth files
    script = folder / "bin" / "ssl-parts"
    script.write_text(
        f"#!{folder}/bin/python\nfrom ssl_parts.commands.main import main\n\nmain()\n"
    )
    script.chmod(0o755)
    return folder / "bin"


def call(program, *words, cwd):
    """Run a program of the environment with none of this process's paths."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=clean | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_is_in_them(distributions):
    wheel = next(distributions.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        assert "ssl-parts = ssl_parts.commands.main:main" in archive.read(entry).decode()
    for path in [*REPO.glob("configs/**/*.yaml")]:
        assert f"ssl_parts/{path.relative_to(REPO)}" in names
    for package in ("ssl_parts", "evaluation"):
        for path in (REPO / package).rglob("*.py*"):
            if path.suffix in (".py", ".pyi"):
                assert str(path.relative_to(REPO)) in names
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "launch/", "benchmarks/"))]
    assert f"ssl_parts-{ssl_parts.__version__}-" in wheel.name
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "configs/pretrain/quickstart.yaml",
        "launch/pretrain.py",
    } <= inside
    assert not [name for name in inside if name.startswith(("runs/", ".venv", "shared"))]


@pytest.mark.slow
def test_commands_work_from_another_folder(installed, tmp_path):
    where = "import evaluation, ssl_parts; print(ssl_parts.__file__, evaluation.__file__)"
    assert str(REPO) not in call(installed / "python", "-c", where, cwd=tmp_path)
    program = installed / "ssl-parts"
    call(program, "pretrain", "run.name=tiny", *TINY, cwd=tmp_path)
    run = tmp_path / "runs" / "tiny"
    assert (run / "round_000" / "encoder.safetensors").is_file()
    given = [word for word in TINY if word.startswith(("data.", "encoder."))]
    given = [
        *given,
        "encoder=resnet18_small",
        f"encoder.weights={run / 'base/encoder.safetensors'}",
    ]
    words = ["data=synthetic_birds", "parts.size=8", "parts.k=3", "run.pictures=0", "run.threads=1"]
    call(program, "discover", *words, *given, cwd=tmp_path)
    assert json.loads((tmp_path / "runs/discovery/results.json").read_text())
    call(program, "evaluate", "protocol=knn", "protocol.k=[1]", *given, cwd=tmp_path)
    assert list((tmp_path / "runs/evaluation").rglob("results.json"))
    call(program, "export", "source=runs/tiny", "to=state_dict", "out=exported", cwd=tmp_path)
    assert (tmp_path / "exported" / "model.pth").is_file()
    shutil.rmtree(run)
