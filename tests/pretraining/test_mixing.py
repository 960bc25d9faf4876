"""The share of trained weights chosen without labels: the rule by hand, and on encoders whose
answer is known.
"""

import json
from types import SimpleNamespace

import pytest
import torch

from ssl_parts.data import DataConfig, build_bank
from ssl_parts.encoders import build_encoder
from ssl_parts.errors import ConfigError
from ssl_parts.pretraining.mixing import SHARES, Mixture, apply_rule, choose_share, measure_mixtures
from ssl_parts.pretraining.train_config import TrainConfig
from ssl_parts.recipes.load import load_recipe
from ssl_parts.views import ViewsConfig


def rows(*figures):
    return [Mixture(share, *figure) for share, figure in zip((0.0, 0.25, 0.5, 1.0), figures)]


def test_the_rule_by_hand():
    assert apply_rule(rows((0.3, 50, 1), (0.4, 50, 0.9), (0.5, 48, 0.7), (0.7, 40, 0.5))) == 1.0
    # rank is lost at 1
    assert apply_rule(rows((0.3, 50, 1), (0.4, 50, 0.9), (0.5, 48, 0.7), (0.7, 34, 0.5))) == 0.5
    # so are neighbours
    assert apply_rule(rows((0.3, 50, 1), (0.4, 50, 0.9), (0.5, 48, 0.3), (0.7, 50, 0.2))) == 0.25
    # within two percent
    assert apply_rule(rows((0.3, 50, 1), (0.495, 50, 0.9), (0.5, 48, 0.7), (0.5, 40, 0.5))) == 0.25
    assert apply_rule(rows((0.3, 50, 1), (0.2, 50, 0.9), (0.2, 48, 0.7), (0.1, 40, 0.5))) == 0.0


@pytest.fixture(scope="module")
def bank():
    return build_bank(DataConfig(size=48, images=48, species=4))


def encoder():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")


def test_the_figures_of_share_zero_are_those_of_the_initial_encoder(bank):
    network = encoder()
    initial = {n: v.clone() for n, v in network.state_dict().items()}
    broken = {n: v + 3 * torch.randn_like(v) if v.ndim == 4 else v for n, v in initial.items()}
    found = measure_mixtures(network, initial, broken, bank, ViewsConfig(size=48))
    assert [m.share for m in found] == list(SHARES)
    assert found[0].kept == 1.0
    assert found[-1].kept < 0.9
    assert found == measure_mixtures(network, initial, broken, bank, ViewsConfig(size=48))


def test_a_collapsed_encoder_is_not_mixed_in_and_the_table_is_kept(bank, tmp_path):
    network = encoder()
    initial = {n: v.clone() for n, v in network.state_dict().items()}
    dead = {
        n: torch.zeros_like(v) if "layer3" in n and v.is_floating_point() else v
        for n, v in initial.items()
    }
    dead = {
        n: torch.ones_like(v) if "layer3" in n and n.endswith("running_var") else v
        for n, v in dead.items()
    }
    main = SimpleNamespace(is_main_process=True)
    share = choose_share(tmp_path, network, initial, dead, bank, ViewsConfig(size=48), main)
    table = json.loads((tmp_path / "interpolation.json").read_text())
    assert share == table["share"] < 1
    assert len(table["mixtures"]) == len(SHARES)


def test_auto_is_the_only_word():
    assert (
        load_recipe("quickstart", ["train.interpolate=auto"]).train.resolved(True).interpolate
        == "auto"
    )
    assert load_recipe("quickstart", ["train.interpolate=1"]).train.interpolate == 1
    with pytest.raises(ConfigError, match=r"train\.interpolate='best'"):
        TrainConfig(interpolate="best").check()
    with pytest.raises(ConfigError, match=r"train\.interpolate=1\.5"):
        TrainConfig(interpolate=1.5).check()
