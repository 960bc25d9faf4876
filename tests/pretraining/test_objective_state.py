"""Queues and centres are in the checkpoint: a phase killed and started again ends bit-equal."""

import pytest
import torch
from accelerate import Accelerator
from tiny_run import logged, overrides

from ssl_parts.data import build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.engine.stop import StopSignal
from ssl_parts.parts import PartStore, StoreInfo
from ssl_parts.pretraining.phase import Phase, Trainer, train_phase
from ssl_parts.recipes.load import load_recipe

METHODS = {
    "moco": ["objective.moco.queue=20"],
    "byol": [],
    "particle": [
        "objective.targets=teacher", "objective.particle.queue=9", "objective.particle.dino_weight=1",
        "objective.particle.equivariance_weight=1", "objective.dino.prototypes=12", "objective.dino.freeze_share=0.3",
    ],
}  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Bank and part ids, random but fixed."""
    config = load_recipe("quickstart", overrides(tmp_path_factory.mktemp("run")))
    bank = build_bank(config.data, cache_dir=tmp_path_factory.mktemp("cache"))
    store = PartStore(StoreInfo(len(bank), 8, 4, background=0))
    store.write(
        range(len(bank)),
        torch.randint(4, (len(bank), 8, 8), generator=torch.Generator().manual_seed(0)),
    )
    return bank, store


def train(folder, method, data):
    config = load_recipe(
        "quickstart", overrides(folder, f"objective.method={method}", *METHODS[method])
    )
    bank, store = data
    folder.mkdir(exist_ok=True)
    torch.manual_seed(0)
    encoder = make_encoder(config.encoder)
    schedule = config.train.resolved(weights_given=False)
    phase = Phase("phase", folder, 4, 1e-3, 5, config.objective, schedule, config.views, store)
    accelerator = Accelerator(cpu=True)
    train_phase(
        phase,
        encoder,
        bank,
        accelerator,
        MetricsLog(folder / "metrics.jsonl"),
        StopSignal(accelerator),
    )
    return phase.result.read_bytes(), logged(folder)


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_phase_ends_bit_equal(method, data, tmp_path, monkeypatch):
    expected = train(tmp_path / "unbroken", method, data)
    update = Trainer.update

    def die(self, step):
        if step == 2:
            raise Killed
        update(self, step)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Trainer, "update", die)
        train(tmp_path / "killed", method, data)
    assert train(tmp_path / "killed", method, data) == expected
