"""Arms that PARTICLE is compared with: what they train on, for how long, and that a killed
comparison goes on.
"""

import json

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from scipy import stats
from tiny_run import overrides

from evaluation.results import Measure, Row, combine_seeds
from ssl_parts.comparison import compare
from ssl_parts.comparison.compare import gains_of
from ssl_parts.comparison.table import as_markdown, published_paragraphs
from ssl_parts.errors import ConfigError
from ssl_parts.jobs import pretrain as pretrain_module
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.objectives import METHODS, ObjectiveConfig
from ssl_parts.parts import PartStore
from ssl_parts.pretraining import phase
from ssl_parts.pretraining.arms import ARMS, OURS
from ssl_parts.recipes.load import load_recipe
from ssl_parts.report.published import PROTOCOL, published_for

CHOSEN = ["instance_views", "detcon", "one_round"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Evaluation, report and export have tests of their own."""
    monkeypatch.setattr(
        pretrain_module,
        "evaluate_plan",
        lambda bench, plan, name, commit, known: [row(name, 0.5)],
    )
    for name in ("write_report", "export_encoder"):
        monkeypatch.setattr(pretrain_module, name, lambda *arguments, **options: None)


class Killed(BaseException):
    """Stands for SIGKILL."""


def run(folder):
    AcceleratorState._reset_state(True)
    config = load_recipe("quickstart", overrides(folder, "train.checkpoint_every=50"))
    return compare.compare(config, [0], CHOSEN)


def weights(folder):
    found = sorted((folder / "tiny" / "seed_0").glob("*/encoder.safetensors"))
    return {path.parent.name: load_file(path) for path in found}


def test_arms_start_from_the_base_take_all_steps_and_survive_a_kill(tmp_path, monkeypatch):
    phases = []
    train_phase = phase.train_phase

    def recorded(this, *others):
        phases.append(this)
        train_phase(this, *others)
        if this.name == "control detcon":
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("ssl_parts.pretraining.stages.train_phase", recorded)
        run(tmp_path)
    results = run(tmp_path)
    assert [r.name for r in results.rows] == ["base", *(ARMS[name].title for name in CHOSEN), OURS]
    assert [p.name for p in phases] == [
        "base",
        "round 0",
        "round 1",
        "control instance_views",
        "control detcon",
    ]
    assert [p.steps for p in phases] == [3, 3, 3, 6, 6] and [
        p.objective.method.value for p in phases[3:]
    ] == [
        "particle",
        "detcon",
    ]
    assert phases[3].parts.background == 0 and phases[4].parts.background is None
    folder = tmp_path / "tiny" / "seed_0"
    assert (
        PartStore.open(folder / "control_detcon" / "parts").provenance["config"]["method"]
        == "felzenszwalb"
    )
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in logged if row["phase"] == "control one_round"] == [
        1,
        2,
        3,
        4,
        5,
        6,
    ]
    found = weights(tmp_path)
    assert set(found) == {"base", "round_000", "round_001", *(ARMS[name].folder for name in CHOSEN)}
    vectors = [torch.cat([v.flatten().float() for v in state.values()]) for state in found.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(vectors) for b in vectors[:i])
    assert OURS in (tmp_path / "tiny" / "table.md").read_text()
    assert (tmp_path / "tiny" / "table.png").read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "tiny" / "results.json").read_text())
    assert [d["against"] for d in written["extra"]["differences"]] == [
        r.name for r in results.rows if r.name != OURS
    ]
    assert {d["arm"] for d in written["extra"]["differences"]} == {OURS}


def test_a_run_of_another_method_names_its_row(tmp_path):
    AcceleratorState._reset_state(True)
    more = ["objective.method=simclr", "run.control=false", "train.rounds=1"]
    results = pretrain(load_recipe("quickstart", overrides(tmp_path, *more)))
    assert [r.name for r in results.rows] == ["base", "base + simclr"]
    log = (tmp_path / "tiny" / "metrics.jsonl").read_text()
    assert '"simclr"' in log and '"part"' not in log


def test_every_method_has_an_arm_and_wrong_arms_are_named(tmp_path):
    trained = {arm.objective_of(ObjectiveConfig()).method for arm in ARMS.values()}
    assert trained == set(METHODS)
    with pytest.raises(ConfigError, match=r"'simclrr' is not an arm; there are instance, "):
        load_recipe("quickstart", ["run.arms=[simclrr]"])
    with pytest.raises(ConfigError, match="each arm once"):
        load_recipe("quickstart", ["run.arms=[moco,moco]"])
    AcceleratorState._reset_state(True)
    with pytest.raises(ConfigError, match=r"one_round, but with train\.rounds=1"):
        pretrain(
            load_recipe("quickstart", overrides(tmp_path, "run.arms=[one_round]", "train.rounds=1"))
        )


def test_the_table_says_what_is_more_than_the_spread_against_each_arm():
    gains = {
        "base": (0.25, 0.25, 0.25),
        "base + SimCLR": (0.5, 0.375, 0.625),
        OURS: (0.5, 0.5, 0.5625),
    }
    tables = {s: [row(arm, values[s]) for arm, values in gains.items()] for s in range(3)}
    rows, found = combine_seeds(tables), gains_of(list(tables.values()))
    text = as_markdown(rows, found, [0, 1, 2], OURS)
    lines = [line.replace(" ", "") for line in text.splitlines()]
    p = stats.ttest_rel(gains[OURS], gains["base"]).pvalue
    assert f"|base|**+27.1±3.6**(+25.0,+25.0,+31.2),p={p:.2g}|" in lines
    assert "|base+SimCLR|+2.1±9.5(+0.0,+12.5,-6.2),p=0.74|" in lines
    assert (
        "- base + PARTICLE against base: larger than the seeds' spread in linear, all labels (+27.1)."
        in text
    )
    assert (
        "base + SimCLR: larger than the seeds' spread in nothing. Within it: linear, all labels (+2.1)."
        in text
    )
    assert "nothing can be said" in as_markdown(tables[0], gains_of([tables[0]]), [0], OURS)


def test_published_numbers_stand_below_the_table():
    (elsewhere,) = published_paragraphs(published_for("synthetic_birds"), "drawn birds")
    assert "+6.6 on cub, +8.6 on aircraft, +7.7 on cars" in elsewhere
    table, protocol, _ = published_paragraphs(published_for("cub"), "cub")
    assert (
        "| ResNet-50, DetCon (PARTICLE, arXiv 2309.13822, abstract) " in table
        and " 35.4 |" in table
    )
    assert PROTOCOL["linear"] in protocol and PROTOCOL["part mIoU"] not in protocol


def row(name, value):
    values = {"accuracy": Measure.of([value])}
    return Row(name, "linear", 1, "birds", {"test": 8}, 48, "squash", "", "", "none", [], values)
