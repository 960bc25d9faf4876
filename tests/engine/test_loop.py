"""The loop around any learner: where it starts, reports, saves and stops, alone and with others."""

from contextlib import contextmanager

import pytest
import torch
from peers import Peer, alone, run_together
from torch import nn

from ssl_parts.engine.checkpoint import load_checkpoint
from ssl_parts.engine.loop import Cadence, Learner, Loop
from ssl_parts.engine.monitor import MetricsLog, Monitor
from ssl_parts.engine.state import TrainingState
from ssl_parts.engine.stop import AGREE_EVERY, Stopped, StopSignal
from ssl_parts.engine.teacher import make_teacher, update_teacher
from ssl_parts.errors import TrainingError

STEPS = 10


class Stream:
    waited = 0.0


class Line(Learner):
    """A line through the origin, fitted to a target that depends on the step."""

    def __init__(self, bad=lambda step: False):
        torch.manual_seed(0)
        student = nn.Linear(3, 1, bias=False)
        optimizer = torch.optim.AdamW(student.parameters())
        self.state = TrainingState(student, make_teacher(student), optimizer, extra={"seen": 0})
        self.bad, self.events = bad, []

    @contextmanager
    def open_stream(self, start):
        self.events.append(("from", start))
        yield Stream()

    def lr_at(self, step):
        return 0.1 / (1 + step)

    def take_step(self, stream, step):
        x = torch.rand(4, 3, generator=torch.Generator().manual_seed(step))
        loss = (self.state.student(x) - step).square().mean()
        loss.backward()
        self.state.optimizer.step()
        self.state.optimizer.zero_grad()
        update_teacher(self.state.teacher, self.state.student, 0.9)
        self.state.extra["seen"] += 1
        return {"loss": loss * float("nan") if self.bad(step) else loss}

    def paths_of(self, step):
        return [f"{step}.jpg"]

    def measure(self, done):
        self.events.append(("measure", done))
        return {}

    def after_step(self, done):
        self.events.append(("after", done))


class AskedAt(StopSignal):
    """Stands for a signal that one process hears in a step."""

    def __init__(self, peer, rank, step):
        super().__init__(peer)
        self.here = step if peer.process_index == rank else None

    def agreed(self, step):
        self.asked |= step == self.here
        return super().agreed(step)


def loop(folder, peer, stop=None, cadence=None):
    log = MetricsLog(folder / "metrics.jsonl", peer.is_main_process)
    monitor = Monitor("line", folder, log, peer, steps=STEPS, batch=4)
    return Loop(folder, STEPS, cadence or Cadence(4, 3), monitor, peer, stop or StopSignal(peer))


def saved(folder):
    return sorted(int(path.name[5:]) for path in folder.glob("checkpoints/step_*"))


def weights(learner):
    return [*learner.state.student.parameters(), *learner.state.teacher.parameters()]


def test_reports_and_checkpoints_come_when_due_and_at_the_end(tmp_path):
    learner = Line()
    loop(tmp_path, alone(), cadence=Cadence(4, 3, keep=9, keep_every=5)).train(learner)
    assert saved(tmp_path) == [3, 5, 6, 9, 10]
    measured = [done for event, done in learner.events if event == "measure"]
    assert measured == [4, 8, 10]
    # a report comes before what a learner does after the step
    assert learner.events.index(("measure", 4)) < learner.events.index(("after", 4))
    assert learner.events[0] == ("from", 0)


def test_stopped_and_continued_equals_unbroken(tmp_path):
    whole, first, second = Line(), Line(), Line()
    loop(tmp_path / "whole", alone()).train(whole)
    with pytest.raises(Stopped):
        loop(tmp_path / "b", alone(), AskedAt(alone(), 0, step=6)).train(first)
    assert load_checkpoint(tmp_path / "b" / "checkpoints").step == 7  # the step in hand
    loop(tmp_path / "b", alone()).train(second)
    assert second.events[0] == ("from", 7)
    assert second.state.extra == whole.state.extra == {"seen": STEPS}
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(second), strict=True))


def test_a_finished_phase_takes_no_step(tmp_path):
    loop(tmp_path, alone()).train(Line())
    again = Line()
    loop(tmp_path, alone()).train(again)
    assert again.events == [("from", STEPS)]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_bad_loss_on_one_process_stops_both_and_is_not_checkpointed(tmp_path, rank):
    def work(peer: Peer):
        bad = lambda step: peer.process_index == rank and step == 5  # noqa: E731
        loop(tmp_path, peer, cadence=Cadence(2, 100)).train(Line(bad))

    errors = run_together(2, work)
    assert [type(error) for error in errors] == [TrainingError] * 2
    assert all("the loss of step 5 is not finite" in str(error) for error in errors)
    assert (tmp_path / "non_finite_batch.txt").read_text() == "5.jpg\n"
    assert saved(tmp_path) == []


def test_processes_stop_after_the_same_step(tmp_path):
    def work(peer: Peer):
        learner = Line()
        try:
            loop(tmp_path, peer, AskedAt(peer, rank=1, step=1), Cadence(3, 100)).train(learner)
        except Stopped:
            return learner.state.extra["seen"]

    # told at step 1, seen at 4, read at 8
    assert run_together(2, work) == [2 * AGREE_EVERY + 1] * 2
    assert saved(tmp_path) == [2 * AGREE_EVERY + 1]
