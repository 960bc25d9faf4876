"""Options that change speed and memory: the same loss, fewer kept activations, the same images
from the device.
"""

from types import SimpleNamespace

import pytest
import torch
from tiny_run import overrides
from torch import nn

from ssl_parts.data import DataConfig, DeviceBank, ImageBank, OnDevice, build_bank, place_bank
from ssl_parts.encoders import build_encoder
from ssl_parts.engine.progress import Pace
from ssl_parts.engine.speed import speed_up
from ssl_parts.errors import ConfigError
from ssl_parts.pretraining.preflight import check_run
from ssl_parts.pretraining.run import Run
from ssl_parts.recipes.load import load_recipe


def resnet():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.125, last_stage="layer2").train()


def features_and_gradients(encoder):
    features = encoder(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    (features.pooled.square().sum() + features.maps["layer2"].sum()).backward()
    return features.pooled.detach(), [p.grad for p in encoder.parameters() if p.grad is not None]


def test_a_compiled_encoder_computes_the_same(monkeypatch):
    """With the tracing and partitioning of torch.compile; its C++ backend takes minutes and is
    torch's to test.
    """
    module_compile = nn.Module.compile
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: module_compile(self, backend="aot_eager")
    )
    encoder = resnet()
    names = list(encoder.state_dict())
    speed_up([encoder, None], compiled=True)
    assert encoder._compiled_call_impl is not None
    assert list(encoder.state_dict()) == names
    torch.testing.assert_close(
        features_and_gradients(encoder), features_and_gradients(resnet()), rtol=1e-4, atol=1e-5
    )


def test_checkpointed_activations_give_the_same_gradients():
    encoder = resnet()
    speed_up([encoder], grad_checkpointing=True)
    torch.testing.assert_close(features_and_gradients(encoder), features_and_gradients(resnet()))


def test_checkpointing_keeps_fewer_activations():
    kept = {}
    for checkpointing in (False, True):
        encoder = build_encoder("resnet18", small=True, width=0.25, last_stage="layer3").train()
        speed_up([encoder, None], grad_checkpointing=checkpointing)
        kept[checkpointing] = numbers_kept_for_backward(encoder)
    assert kept[True] < 0.5 * kept[False]


def numbers_kept_for_backward(encoder):
    sizes = []

    def pack(kept):
        sizes.append(kept.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept):
        encoder(torch.rand(2, 3, 32, 32))
    return sum(sizes)


def test_batch_norms_are_synchronised_between_processes_only():
    for processes, expected in ((1, 0), (2, 13)):
        encoder = build_encoder("resnet18", small=True, width=0.25, last_stage="layer3")
        names, images = list(encoder.state_dict()), torch.rand(2, 3, 32, 32)
        before = encoder.eval()(images).pooled
        speed_up([encoder], sync_batchnorm=True, processes=processes)
        assert sum(isinstance(m, nn.SyncBatchNorm) for m in encoder.modules()) >= expected
        assert list(encoder.state_dict()) == names
        torch.testing.assert_close(encoder.eval()(images).pooled, before)


def test_synchronised_batch_norm_on_cpus_is_refused(tmp_path):
    config = load_recipe("quickstart", overrides(tmp_path, "train.sync_batchnorm=true"))
    cpus = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"train\.sync_batchnorm=true needs GPUs"):
        check_run(Run(config, tmp_path, build_bank(config.data), cpus, None, None))


def test_a_run_reads_its_images_from_where_it_is_told(tmp_path):
    for where, kind in (("always", DeviceBank), ("auto", ImageBank)):
        config = load_recipe("quickstart", overrides(tmp_path, f"data.on_device={where}"))
        bank = build_bank(config.data)
        read = Run(
            config, tmp_path, bank, SimpleNamespace(device=torch.device("cpu")), None, None
        ).training_bank
        assert type(read) is kind
        assert torch.equal(read.images([3, 1]), bank.images([3, 1]))


def test_views_are_cut_from_squares_with_more_pixels(tmp_path):
    config = load_recipe("quickstart", overrides(tmp_path, "views.detail=1.5"))
    bank = build_bank(config.data)
    device = SimpleNamespace(device=torch.device("cpu"))
    read = Run(config, tmp_path, bank, device, None, None).training_bank
    assert (bank.size, read.size) == (48, 72)
    assert torch.equal(read.images([3, 1]), bank.resized(72).images([3, 1]))


def test_auto_keeps_images_on_a_gpu_with_room_only(monkeypatch):
    bank = build_bank(DataConfig(size=48, images=4))
    needed = 4 * 3 * 48 * 48
    assert place_bank(bank, torch.device("cpu"), OnDevice.auto) is bank
    monkeypatch.setattr("ssl_parts.data.device_bank.DeviceBank", lambda bank, device: "on the GPU")
    for free, expected in ((4 * needed, "on the GPU"), (4 * needed - 1, bank)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10 * free))
        assert place_bank(bank, torch.device("cuda"), OnDevice.auto) is expected
        assert place_bank(bank, torch.device("cuda"), OnDevice.never) is bank


def test_pace_is_measured_between_two_reports(monkeypatch):
    monkeypatch.setattr("time.perf_counter", iter([10.0, 14.0, 15.0]).__next__)
    pace = Pace(64, torch.device("cpu"))
    assert pace.measure(10, 1.0) == {}
    assert pace.measure(20, 2.0) == {"pairs_per_second": 160.0, "data_wait": 0.25}
    assert pace.measure(22, 2.0) == {"pairs_per_second": 128.0, "data_wait": 0.0}
