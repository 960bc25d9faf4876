"""Workflows, hooks, make and constraints do what the documentation says; nothing is run."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from doc_blocks import PAGES

REPO = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((REPO / ".github" / "workflows").glob("*.yml"))
CHECKS = ("ruff check", "ruff format --check", "pyright", "mkdocs build --strict", "pytest")


def load_lower_bounds():
    path = REPO / ".ci" / "lower_bounds.py"
    spec = importlib.util.spec_from_file_location("lower_bounds", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((REPO / "pyproject.toml").read_text())["project"]


def pins():
    lines = (REPO / "constraints.txt").read_text().split()
    return dict(line.split("==") for line in lines)


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def steps_of(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def test_the_checks_are_in_one_place():
    check = (REPO / ".ci" / "check").read_text()
    assert all(words in check for words in CHECKS)
    assert "bash .ci/check" in (REPO / ".ci" / "run").read_text()
    makefile = (REPO / "Makefile").read_text()
    assert re.search(r"^check:.*\n\tbash \.ci/check$", makefile, re.MULTILINE)


def test_the_tests_workflow_calls_ci_run_on_pull_requests_and_nightly():
    workflow = REPO / ".github" / "workflows" / "tests.yml"
    triggers = yaml.safe_load(workflow.read_text())[True]  # YAML 1.1 reads `on` as a truth value
    assert {"pull_request", "schedule"} <= set(triggers)
    assert any(step.get("run") == "bash .ci/run" for step in steps_of(workflow))


# of GitHub and of the package index, at a version
OFFICIAL = r"(actions/[\w-]+|pypa/gh-action-pypi-publish)@v\d+(\.\d+)*"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_need_no_secret_and_pin_their_actions(workflow):
    text = workflow.read_text()
    assert "secrets." not in text
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert used and all(re.fullmatch(OFFICIAL, name) for name in used)
    for script in re.findall(r"(?:bash|python) (\.ci/[\w.]+)", text):
        assert (REPO / script).is_file()


def test_hooks_are_local_and_call_what_is_installed():
    config = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())
    assert {repo["repo"] for repo in config["repos"]} == {"local"}
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "pyright"}
    assert all(hook["language"] == "system" for hook in hooks)


def test_targets_of_make_in_the_documentation_exist():
    targets = set(re.findall(r"^(\w+):.*##", (REPO / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make (\w+)`", page.read_text()))
        assert named <= targets, f"{page.name} names {named - targets}"


def test_constraints_are_names_with_versions_and_cover_what_ci_installs(project):
    lines = (REPO / "constraints.txt").read_text().split()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert lines == sorted(lines) and len(set(map(canonical, pins()))) == len(lines)
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["test"], *extras["onnx"], *extras["docs"]]
    names = {canonical(re.match(r"[\w.-]+", text)[0]) for text in wanted} - {"ssl-parts"}
    assert names <= set(map(canonical, pins()))


def test_lower_bounds_of_every_requirement(project):
    lines = load_lower_bounds().lower_bounds(project)
    assert f"torch=={re.search('torch>=([0-9.]+)', ' '.join(project['dependencies']))[1]}" in lines
    assert len(lines) == len({line.split("==")[0] for line in lines})
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    own = [text for text in wanted if text.startswith("ssl-parts")]
    assert len(lines) == len(wanted) - len(own) + len(project["optional-dependencies"]["onnx"])


@pytest.mark.parametrize(
    ("requirement", "line"),
    [
        ("torch>=2.11", "torch==2.11"),
        ("mkdocstrings[python] >= 0.30, <2", "mkdocstrings==0.30"),
        ("faiss>=1.10; os_name == 'posix'", "faiss==1.10; os_name == 'posix'"),
    ],
)
def test_a_lower_bound(requirement, line):
    assert load_lower_bounds().bound(requirement) == line


def test_a_requirement_without_a_lower_bound_is_an_error():
    with pytest.raises(ValueError, match="'numpy' has no lower bound"):
        load_lower_bounds().bound("numpy")
