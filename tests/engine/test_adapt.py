"""Frozen stages and low-rank adapters: nothing changes at the start, little is trained, plain
weights come out.
"""

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file
from tiny_run import overrides

from ssl_parts.encoders import build_encoder
from ssl_parts.engine.adapt import adapt, add_adapters, freeze, merge_adapters
from ssl_parts.engine.modes import set_train_mode
from ssl_parts.engine.optim import build_optimizer
from ssl_parts.errors import ConfigError
from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.objectives import PartNetwork
from ssl_parts.recipes.load import load_recipe


def resnet():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.25, last_stage="layer3")


def vit():
    torch.manual_seed(0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2}
    return build_encoder("vit_tiny_patch16_224", **sizes)


@pytest.mark.parametrize(
    ("make", "stages", "prefixes"),
    [
        (resnet, 1, ("conv1", "bn1")),
        (resnet, 3, ("conv1", "bn1", "layer1", "layer2")),
        (vit, 2, ("cls_token", "pos_embed", "patch_embed", "blocks.0.", "blocks.1.")),
    ],
)
def test_the_frozen_parameters_are_those_before_the_stage(make, stages, prefixes):
    encoder = make()
    expected = {
        n for n, _ in encoder.named_parameters() if n.removeprefix("model.").startswith(prefixes)
    }
    assert set(freeze(encoder, stages)) == expected
    frozen = {n for n, p in encoder.named_parameters() if not p.requires_grad}
    assert expected <= frozen
    assert any(p.requires_grad for p in encoder.parameters())


def test_frozen_batch_norms_keep_their_statistics_and_the_others_do_not():
    network = PartNetwork(resnet(), 3, hidden=8, projection=4)
    freeze(network.encoder, 2)
    set_train_mode(network, [network.encoder], freeze_norm=False)
    before = {n: v.clone() for n, v in network.encoder.state_dict().items() if "running_mean" in n}
    network.encoder(torch.rand(4, 3, 32, 32))
    after = network.encoder.state_dict()
    moved = {n.split(".")[1] for n in before if not torch.equal(before[n], after[n])}
    assert moved == {"layer2", "layer3"}


@pytest.mark.parametrize("make", [resnet, vit])
def test_adapters_change_nothing_until_they_learn_and_merge_into_the_same_function(make):
    encoder, images = make().eval(), torch.rand(2, 3, 32, 32)
    names, before = list(encoder.state_dict()), encoder(images).pooled
    whole = sum(p.numel() for p in encoder.parameters())
    adapted = add_adapters(encoder, 2, 0.5)
    assert torch.equal(encoder(images).pooled, before)
    trained = {n for n, p in encoder.named_parameters() if p.requires_grad}
    assert trained and all(n.endswith((".up", ".down")) for n in trained)
    assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) < 0.25 * whole
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith(".up"):
                parameter.normal_()
    layer = encoder.get_submodule(adapted[0]).parametrizations.weight
    by_hand = layer.original + 0.5 * (layer[0].up @ layer[0].down).reshape(layer.original.shape)
    learnt = encoder(images).pooled
    assert not torch.allclose(learnt, before)
    merge_adapters(encoder)
    assert list(encoder.state_dict()) == names or set(encoder.state_dict()) == set(names)
    torch.testing.assert_close(encoder.get_submodule(adapted[0]).weight, by_hand)
    torch.testing.assert_close(encoder(images).pooled, learnt)


def test_adapters_leave_frozen_stages_alone_and_the_optimiser_sees_only_what_trains():
    network = PartNetwork(resnet(), 3, hidden=8, projection=4)
    adapt(network.encoder, freeze_stages=3, lora_rank=2, lora_scale=1.0)
    trained = {n for n, p in network.encoder.named_parameters() if p.requires_grad}
    assert trained and all(n.startswith("model.layer3") for n in trained)
    optimizer = build_optimizer(network, [network.encoder], "adamw", 1.0, weight_decay=0.1)
    seen = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert seen == {id(p) for p in network.parameters() if p.requires_grad}


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match=r"train\.freeze_stages=4.*stem, layer1, layer2, layer3"):
        freeze(resnet(), 4)
    with pytest.raises(ConfigError, match=r"train\.lora_rank=500"):
        add_adapters(resnet(), 500, 1.0)


def test_a_run_with_adapters_and_frozen_stages_ends_plain_and_resumes_exactly(tmp_path):
    save_file(resnet().model.state_dict(), tmp_path / "given.safetensors")
    more = [
        f"encoder.weights={tmp_path}/given.safetensors", "encoder.width=0.25", "train.rounds=1", "train.lora_rank=2",
        "train.freeze_stages=1", "run.evaluate=false", "run.control=false", "train.lr=0.01", "train.interpolate=auto",
        "objective.targets=teacher", "train.keep=teacher",
    ]  # fmt: skip
    results = {}
    for name, stops in (("whole", ()), ("broken", (0, 1))):
        for stop in (*stops, None):
            AcceleratorState._reset_state(True)
            with pytest.MonkeyPatch.context() as patched:
                if stop is not None:
                    agreed = "ssl_parts.engine.stop.StopSignal.agreed"
                    patched.setattr(agreed, lambda self, step, stop=stop: step == stop)
                try:
                    pretrain(load_recipe("quickstart", overrides(tmp_path / name, *more)))
                except SystemExit:
                    assert stop is not None
        results[name] = (tmp_path / name / "tiny/round_000/encoder.safetensors").read_bytes()
    assert results["whole"] == results["broken"]
    initial = resnet().state_dict()
    trained = load_file(tmp_path / "whole/tiny/round_000/encoder.safetensors")
    assert initial.keys() == trained.keys()
    assert all(
        torch.equal(trained[n], v)
        for n, v in initial.items()
        if n.startswith(("model.conv1", "model.bn1"))
    )
