"""What the gentle preset promises: slow lower layers, frozen statistics, an anchor, a mixture with
the start.
"""

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from tiny_run import overrides

from ssl_parts.encoders import build_encoder
from ssl_parts.engine.optim import build_optimizer, set_lr
from ssl_parts.errors import ConfigError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.objectives import Outputs, PartNetwork
from ssl_parts.objectives.objective import measure_anchor
from ssl_parts.pretraining.train_config import Preset, TrainConfig
from ssl_parts.recipes.load import load_recipe


def small():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")


def test_auto_is_gentle_with_weights_and_a_given_number_wins():
    assert TrainConfig().resolved(True).preset is Preset.gentle
    assert TrainConfig().resolved(False).preset is Preset.from_scratch
    chosen = TrainConfig(lr=0.3, anchor=0.0).resolved(True)
    assert (chosen.lr, chosen.anchor, chosen.freeze_norm) == (0.3, 0.0, True)


def test_layers_near_the_input_learn_slower_and_norms_are_not_decayed():
    train = TrainConfig(layer_decay=0.5, lr=1.0, weight_decay=0.1).resolved(True)
    network = PartNetwork(small(), 3, hidden=8, projection=4)
    optimizer = build_optimizer(
        network,
        [network.encoder],
        "adamw",
        1.0,
        weight_decay=train.weight_decay,
        layer_decay=train.layer_decay,
    )
    set_lr(optimizer, 0.2)
    rate = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert len(rate) == len(list(network.parameters()))
    of = {name: rate[id(p)] for name, p in network.named_parameters()}
    assert of["part_heads.heads.projector.0.weight"] == (0.2, 0.1)
    assert of["part_heads.heads.projector.1.weight"][1] == 0.0
    encoder = {name: value for name, value in of.items() if name.startswith("encoder")}
    stem, last = min(encoder.values())[0], max(encoder.values())[0]
    assert stem < last <= 0.2
    assert encoder["encoder.model.conv1.0.weight"][0] == stem


def test_an_unknown_optimizer_is_named():
    network = PartNetwork(small(), 3, hidden=8, projection=4)
    with pytest.raises(ConfigError, match=r"train\.optimizer='adamm'"):
        build_optimizer(network, [network.encoder], "adamm", 1.0, weight_decay=0.1)


def test_the_anchor_is_zero_at_the_start_and_two_for_opposite_features():
    pooled, dense = torch.randn(3, 8), torch.randn(3, 8, 2, 2)
    same, opposite = (Outputs(pooled_ND=sign * pooled, map_NDHW=sign * dense) for sign in (1, -1))
    assert float(measure_anchor(same, same)) == pytest.approx(0, abs=1e-6)
    assert float(measure_anchor(same, opposite)) == pytest.approx(4, abs=1e-5)


def test_a_gentle_run_keeps_statistics_and_ends_between_initial_and_trained(tmp_path):
    encoder = small()
    encoder.model.bn1.running_mean.uniform_(-0.1, 0.1)
    save_file(encoder.model.state_dict(), tmp_path / "given.safetensors")
    results = {}
    for share in ("0.25", "1.0"):
        AcceleratorState._reset_state(True)
        more = [
            f"encoder.weights={tmp_path / 'given.safetensors'}",
            f"train.interpolate={share}",
            "train.rounds=1",
        ]
        pretrain(
            load_recipe(
                "quickstart",
                overrides(tmp_path / share, *more, "run.evaluate=false", "train.lr=0.01"),
            )
        )
        results[share] = load_file(tmp_path / share / "tiny" / "round_000" / "encoder.safetensors")
    initial = load_file(tmp_path / "1.0" / "tiny" / "base" / "encoder.safetensors")
    torch.testing.assert_close(initial, encoder.state_dict())
    for name, start in initial.items():
        if "running" in name:
            torch.testing.assert_close(results["1.0"][name], start)
        elif start.is_floating_point():
            torch.testing.assert_close(
                results["0.25"][name], start + 0.25 * (results["1.0"][name] - start)
            )
    moved = [name for name in initial if not torch.equal(initial[name], results["1.0"][name])]
    assert any(name.startswith("model.layer3") for name in moved)
