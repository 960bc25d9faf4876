"""Rounds: one schedule or restarts, who finds the next parts, and the end when parts have settled."""

import json
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from tiny_run import logged, overrides

from ssl_parts.encoders import encoder_hash, make_encoder
from ssl_parts.engine.schedules import cosine, warmup_cosine
from ssl_parts.errors import ConfigError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.objectives import ObjectiveConfig
from ssl_parts.parts import PartStore
from ssl_parts.pretraining.phase import Phase
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.recipes.load import load_recipe
from ssl_parts.views import ViewsConfig


def test_one_schedule_runs_through_the_rounds_and_restarts_begin_anew():
    train = TrainConfig(warmup_share=0.2, ema=0.9, ema_end=1.0, lr_end=0.01).resolved(False)
    own = Phase("r", Path(), 10, 0.5, 0, ObjectiveConfig(), train, ViewsConfig())
    through = [
        Phase(**vars(own) | {"earlier_steps": 10 * n, "schedule_steps": 30}) for n in range(3)
    ]
    lrs = [phase.lr_at(step) for phase in through for step in range(10)]
    assert lrs == [warmup_cosine(step, 30, 0.5, 0.01, 0.2) for step in range(30)]
    momenta = [phase.momentum_at(step) for phase in through for step in range(10)]
    assert momenta == [cosine(step, 30, 0.9, 1.0) for step in range(30)]
    assert own.lr_at(9) == pytest.approx(0.01)
    assert own.momentum_at(9) == pytest.approx(1.0)


def test_the_teacher_finds_parts_and_a_run_ends_when_they_have_settled(tmp_path):
    """stop_nmi=0: any agreement is enough, so round 1 is discovered, by the teacher, and not
    trained.
    """
    AcceleratorState._reset_state(True)
    keys = [
        "train.stop_nmi=0",
        "train.discover_with=teacher",
        "objective.targets=teacher",
        "train.schedule=one",
    ]
    config = load_recipe("quickstart", overrides(tmp_path, *keys, "train.log_every=1"))
    results = pretrain(config)
    run = tmp_path / "tiny"
    assert json.loads((run / "round_001" / "parts.json").read_text())["nmi_before"] > 0
    assert not (run / "round_001" / "encoder.safetensors").exists()
    assert (run / "export/model.safetensors").exists()
    encoder = make_encoder(config.encoder)
    for file, found in (("discovery", True), ("encoder", False)):
        encoder.load_state_dict(load_file(run / "round_000" / f"{file}.safetensors"))
        provenance = PartStore.open(run / "round_001" / "parts").provenance
        assert (provenance["encoder"] == encoder_hash(encoder)) is found
    steps = {
        phase: [row for row in logged(run) if row["phase"] == phase]
        for phase in ("round 0", "control")
    }
    # as many as were trained, not as two rounds have
    assert len(steps["control"]) == len(steps["round 0"]) == 3
    assert [row["lr"] for row in steps["round 0"]] == pytest.approx(
        [
            warmup_cosine(step, 6, config.train.base_lr, 0.0, config.train.warmup_share)
            for step in range(3)
        ],
        abs=1e-6,
    )
    assert [row.values for row in results.rows if row.name == "base + PARTICLE"]


def test_a_threshold_out_of_range_is_said():
    with pytest.raises(ConfigError, match=r"train\.stop_nmi=2"):
        TrainConfig(stop_nmi=2.0).check()
