"""A method of one's own is one file: further views, teacher vectors per image, and the initial
encoder reach it through the ordinary loop.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from accelerate import Accelerator
from tiny_run import logged, overrides
from torch import nn

from ssl_parts.data import batch_indices, build_bank
from ssl_parts.encoders import make_encoder
from ssl_parts.engine.monitor import MetricsLog
from ssl_parts.objectives import METHODS, InstanceNetwork, Method, MethodName
from ssl_parts.objectives.network import Heads, InstanceOutputs
from ssl_parts.parts import PartStore, StoreInfo
from ssl_parts.pretraining.phase import Phase, train_phase
from ssl_parts.recipes.load import load_recipe
from ssl_parts.views import CropConfig, ViewPlan, Views, make_views, plan_views


@dataclass(frozen=True)
class LocalPlan(ViewPlan):
    local: ViewPlan

    def select_rows(self, rows):
        return LocalPlan(**vars(super().select_rows(rows)), local=self.local.select_rows(rows))


@dataclass(frozen=True)
class LocalViews(Views):
    local_NCHW: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class LocalOutputs(InstanceOutputs):
    local_ND: torch.Tensor


class LocalNetwork(InstanceNetwork):
    """One call for both sizes of views, as DistributedDataParallel needs it."""

    def forward(self, images_NCHW, local_NCHW, *, predict=True):
        outputs = super().forward(images_NCHW, predict=predict)
        return LocalOutputs(**vars(outputs), local_ND=self.encoder(local_NCHW).pooled)


class CropsToCache(Method[LocalOutputs]):
    """Small crops come near the cached vector of their whole image; the large ones stay near the
    initial encoder's.
    """

    has_teacher, needs_initial = False, True

    def __init__(self, config):
        super().__init__(config)
        self.rows, self.local_shapes = [], []

    def build_network(self, encoder, k=0, background=None):
        return LocalNetwork(encoder, Heads(nn.Identity()))

    @torch.no_grad()
    def prepare(self, network, images):
        rows = torch.arange(len(images))
        self.known = images.k, images.background, tuple(images.ids(rows).shape)
        pixels = images.images(rows).float() / 255
        self.cached_RD = network.encoder.eval()(pixels).pooled

    def plan_views(self, n, config, seed, step):
        small = replace(config, crop=CropConfig(scale=[0.05, 0.3]))
        pair, local = plan_views(n, config, seed, step), plan_views(n, small, seed + 1, step)
        return LocalPlan(**vars(pair), local=local)

    def make_views(self, images_BCHW, ids_Bhw, plan, config, k, background):
        pair = make_views(images_BCHW, ids_Bhw, plan, config, k, background)
        small = replace(config, size=16, ids_size=8)
        local = make_views(images_BCHW, None, plan.local, small)
        return LocalViews(**vars(pair), local_NCHW=local.images_NCHW)

    def encode(self, network, views, *, predict=True):
        return network(views.images_NCHW, views.local_NCHW, predict=predict)

    def forward(self, inputs):
        self.rows.append(inputs.rows_B)
        self.local_shapes.append(tuple(inputs.views.local_NCHW.shape))
        target_ND = self.cached_RD[inputs.rows_B].repeat(2, 1)
        local = (inputs.student.local_ND - target_ND).square().mean()
        near = (inputs.student.pooled_ND - inputs.initial.pooled_ND).square().mean()
        return {"loss": local + near, "local": local, "near": near}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = load_recipe("quickstart", overrides(tmp_path_factory.mktemp("run")))
    bank = build_bank(config.data, cache_dir=tmp_path_factory.mktemp("cache"))
    store = PartStore(StoreInfo(len(bank), 8, 4, background=0))
    store.write(range(len(bank)), torch.arange(len(bank) * 64).view(-1, 8, 8) % 4)
    return config, bank, store


def test_a_method_with_crops_and_cached_vectors_of_its_own_trains(data, tmp_path, monkeypatch):
    config, bank, store = data
    made = []
    build = lambda config: made.append(CropsToCache(config)) or made[-1]  # noqa: E731
    monkeypatch.setitem(METHODS, MethodName.byol, build)
    torch.manual_seed(0)
    encoder = make_encoder(config.encoder)
    whole = bank.images(range(len(bank))).float() / 255
    with torch.no_grad():
        expected = encoder.eval()(whole).pooled
    objective = replace(config.objective, method=MethodName.byol)
    schedule = replace(config.train.resolved(weights_given=False), checkpoint_every=9)
    phase = Phase("phase", tmp_path, 3, 1e-2, 7, objective, schedule, config.views, store)
    train_phase(phase, encoder, bank, Accelerator(cpu=True), MetricsLog(tmp_path / "metrics.jsonl"))
    (method,) = made
    torch.testing.assert_close(method.cached_RD, expected)
    assert method.known == (4, 0, (24, 8, 8))
    assert [rows.tolist() for rows in method.rows] == [
        batch_indices(step, 8, len(bank), 7).tolist() for step in range(3)
    ]
    assert set(method.local_shapes) == {(16, 3, 16, 16)}
    lines = logged(tmp_path)
    # the student begins as the initial encoder (in training mode: other batch statistics)
    assert lines[-1]["local"] < lines[0]["local"]
    assert {"loss", "local", "near"} < set(lines[0])
