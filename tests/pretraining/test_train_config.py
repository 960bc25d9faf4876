"""Keys of training: bounds, presets, and that reading them needs no torch."""

import subprocess
import sys
from dataclasses import fields

import pytest

from ssl_parts.errors import ConfigError
from ssl_parts.pretraining.train_config import PRESETS, Preset, TrainConfig


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"epochs": 0}, r"train\.epochs=0 must be at least 1"),
        ({"rounds": -1}, r"train\.rounds=-1 must be at least 0"),
        ({"keep_every": 0}, r"train\.keep_every=0 must be at least 1; null keeps no milestones"),
        ({"ema": 1.5}, r"train\.ema=1\.5 must lie in \[0, 1\]"),
        ({"stop_nmi": 2.0}, r"train\.stop_nmi=2\.0 must lie in \[0, 1\]"),
        ({"lr": float("inf")}, r"train\.lr=inf must be at least 0"),
        ({"clip": float("nan")}, r"train\.clip=nan must be at least 0"),
        ({"interpolate": 1.5}, r"train\.interpolate=1\.5 must lie in \[0, 1\]"),
        (
            {"interpolate": "best"},
            r"train\.interpolate='best' must be a number in \[0, 1\] or auto",
        ),
    ],
)
def test_values_out_of_bounds_are_named(keys, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**keys).check()


@pytest.mark.parametrize("share", [0, 1, 0.3, "auto", None])
def test_shares_of_trained_weights_that_can_be_asked_for(share):
    TrainConfig(interpolate=share).check()


@pytest.mark.parametrize("preset", list(PRESETS))
def test_a_resolved_configuration_has_the_presets_values_and_the_users_own(preset):
    given = TrainConfig(preset=preset, anchor=0.25, base_lr=0.125, epochs=7)
    resolved = given.resolved(weights_given=True)
    expected = vars(given) | {"lr": 0.125} | PRESETS[preset] | {"anchor": 0.25}
    assert vars(resolved) == expected
    decided = {"lr", "weight_decay", "layer_decay", "freeze_norm", "anchor", "interpolate"}
    assert None not in [getattr(resolved, key) for key in decided]
    assert {f.name for f in fields(resolved)} == {f.name for f in fields(given)}


def test_auto_depends_on_whether_weights_are_given():
    assert TrainConfig().resolved(weights_given=True).preset is Preset.gentle
    assert TrainConfig().resolved(weights_given=False).preset is Preset.from_scratch


def test_reading_the_keys_loads_no_torch():
    code = (
        "import sys, ssl_parts.pretraining.train_config; "
        "assert not {'torch', 'numpy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
