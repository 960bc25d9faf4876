"""What stops a run, on all processes together, and what a monitor writes where."""

import json

import pytest
import torch
from peers import alone, run_together

from ssl_parts.engine.monitor import Guard, MetricsLog, Monitor
from ssl_parts.errors import TrainingError


def monitor(folder, peer, **more):
    log = MetricsLog(folder / "metrics.jsonl", peer.is_main_process)
    return Monitor("round 0", folder, log, peer, **{"steps": 9, "batch": 8} | more)


def loss(value):
    return {"loss": torch.tensor(value)}


def test_the_log_forgets_what_came_after_a_checkpoint(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write(phase="base", step=9, loss=3.0)
    log.write(phase="round 0", step=1, loss=2.0)
    log.write(phase="round 0", step=2, loss=1.0)
    with open(log.path, "a") as file:
        file.write('{"phase": "round 0", "st')
    log.rewind("round 0", 1)
    log.write(phase="round 0", step=2, loss=1.5)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [(row["phase"], row["step"], row["loss"]) for row in lines] == [
        ("base", 9, 3.0),
        ("round 0", 1, 2.0),
        ("round 0", 2, 1.5),
    ]


def test_guard_names_the_first_bad_step_and_stops_without_shared_parts():
    guard = Guard(torch.device("cpu"), patience=3)
    for step, value in enumerate([1.0, float("nan"), float("inf")]):
        guard.see(step, loss(value))
    assert guard.check() == 1
    guard = Guard(torch.device("cpu"), patience=3)
    for shared in (0.0, 1.0, 0.0, 0.0):
        guard.see(0, loss(0.0) | {"shared_parts": torch.tensor(shared)})
    assert guard.check() is None
    guard.see(0, loss(0.0) | {"shared_parts": torch.tensor(0.0)})
    with pytest.raises(TrainingError, match="shared a part for 3 steps"):
        guard.check()


def test_a_loss_that_is_not_finite_on_one_process_stops_all_of_them(tmp_path):
    """One that stopped alone would leave the others waiting until they give up."""

    def work(peer):
        watched = monitor(tmp_path, peer)
        for step in range(6):
            bad = peer.process_index == 2 and step >= 4
            watched.see(step, loss(float("nan") if bad else 1.0))
        watched.check(lambda step: [f"image {step}"])

    errors = run_together(3, work)
    assert [type(error) for error in errors] == [TrainingError] * 3
    assert all("the loss of step 4 is not finite" in str(error) for error in errors)
    assert (tmp_path / "non_finite_batch.txt").read_text() == "image 4\n"


def test_a_report_has_means_over_processes_further_figures_and_the_rate(tmp_path):
    def work(peer):
        watched = monitor(tmp_path, peer, first_step=100, unit="images")
        watched.begin(0)
        for done, value in ((1, 2.0), (2, 4.0)):
            terms = loss(value + peer.process_index)
            watched.report(done, terms, lambda: {"rank_me": 7.0}, 0.5, waited=0.0)
        return peer

    main, other = run_together(2, work)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"], row["rank_me"], row["lr"]) for row in rows] == [
        (1, 2.5, 7.0, 0.5),
        (2, 4.5, 7.0, 0.5),
    ]
    assert "images_per_second" not in rows[0] and rows[1]["images_per_second"] > 0
    assert rows[1]["phase"] == "round 0"
    assert [step for step, _ in main.logged] == [101, 102]  # as in the log, after earlier phases
    assert main.logged[0][1]["round 0/loss"] == 2.5
    assert len(other.logged) == 2  # accelerate drops them on all but the main process


def test_what_was_logged_after_the_checkpoint_is_gone_when_a_phase_begins_again(tmp_path):
    first = monitor(tmp_path, alone())
    first.begin(0)
    for done in (1, 2, 3):
        first.write(done, {"loss": 1.0})
    second = monitor(tmp_path, alone())
    assert second.begin(2).done == 2
    steps = [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").open()]
    assert steps == [1, 2]
