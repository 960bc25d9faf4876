"""SIGTERM and SIGUSR1: the step in hand is finished and checkpointed, and all processes agree
where to leave.

What a stop in each stage of a run leaves behind is tested in test_resume_exact.py.
"""

import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from tiny_run import overrides

from ssl_parts.engine.checkpoint import load_checkpoint
from ssl_parts.engine.stop import AGREE_EVERY, Stopped, StopSignal
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.pretraining.phase import Trainer
from ssl_parts.recipes.load import load_recipe

ONE = SimpleNamespace(num_processes=1, device=torch.device("cpu"), reduce=lambda flag, _: flag)


def test_the_step_in_hand_is_checkpointed_although_none_was_due(tmp_path, monkeypatch):
    update = Trainer.update

    def signalled(self, step):
        os.kill(os.getpid(), signal.SIGUSR1)
        update(self, step)

    monkeypatch.setattr(Trainer, "update", signalled)
    AcceleratorState._reset_state(True)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped):
        pretrain(load_recipe("quickstart", overrides(tmp_path, "train.checkpoint_every=100")))
    assert load_checkpoint(tmp_path / "tiny" / "base" / "checkpoints").step == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_processes_agree_although_one_alone_was_asked():
    """Three stand-ins for processes, step by step: a sum over the flags as the others would see
    it.
    """
    flags = [False, False, False]

    class Peer(StopSignal):
        def _asked_anywhere(self):
            return torch.tensor(float(sum(flags)))

    peers = [Peer(SimpleNamespace(num_processes=3)) for _ in flags]
    left = []
    for step in range(20):
        flags[1] |= step == 5
        answers = [peer.agreed(step) for peer in peers]
        assert len(set(answers)) == 1
        left += [step] * answers[0]
    assert left[0] == 3 * AGREE_EVERY  # asked at 5, seen at 8, read at 12


def test_interruptible_work_is_left_at_once_and_other_work_is_not():
    done = []
    with StopSignal(ONE) as stop:
        assert stop.interruptible(lambda: 7) == 7
        with pytest.raises(Stopped) as stopped:
            stop.interruptible(
                lambda: [os.kill(os.getpid(), signal.SIGTERM), done.append("not reached")]
            )
        assert (stopped.value.code, done) == (75, [])
        assert stop.agreed(3)
        with pytest.raises(Stopped):
            stop.interruptible(lambda: done.append("not begun"))
    with StopSignal(ONE) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("goes on")
        with pytest.raises(Stopped):
            stop.check()
    assert done == ["goes on"]


def test_without_the_main_thread_nothing_is_installed():
    before, inside = signal.getsignal(signal.SIGUSR1), []

    def enter():
        with StopSignal(ONE):
            inside.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert inside == [before]
