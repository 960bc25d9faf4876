from dataclasses import replace
from types import SimpleNamespace

import pytest
import timm
import torch
from parts_stand_ins import DiscBank
from sklearn.metrics import normalized_mutual_info_score

from ssl_parts.encoders.encoder import Encoder
from ssl_parts.errors import ConfigError
from ssl_parts.parts import (
    CosegmentConfig,
    CrfConfig,
    MaskConfig,
    PartStore,
    SaliencyConfig,
    VotesConfig,
    discover_parts,
)
from ssl_parts.parts.dense.facets import has_facets, vit_facet
from ssl_parts.parts.foreground.saliency import (
    SalientClusters,
    elbow_clusters,
    elected,
    salient_clusters,
)


def vit(**options):
    torch.manual_seed(0)
    sizes = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 48,
        "depth": 3,
        "num_heads": 4,
        "num_classes": 0,
    }
    model = timm.models.VisionTransformer(**(sizes | options)).eval()
    return SimpleNamespace(model=model, name="tiny_vit", normalise=lambda x: (x - 0.5) / 0.25)


def images(count=2, size=32):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "options",
    [{}, {"reg_tokens": 2}, {"no_embed_class": True}, {"pre_norm": True}, {"qk_norm": True}],
)
def test_tokens_and_attention_are_those_of_timm(options):
    encoder = vit(**options)
    block = encoder.model.blocks[1]
    seen = {}
    block.register_forward_hook(lambda module, args, out: seen.setdefault("out", out))
    block.attn.qkv.register_forward_hook(lambda module, args, out: seen.setdefault("qkv", out))
    block.attn.fused_attn = False
    block.attn.attn_drop.register_forward_hook(
        lambda module, args, out: seen.setdefault("attention", out)
    )
    with torch.no_grad():
        encoder.model.forward_features(encoder.normalise(images()))
        prefix = encoder.model.num_prefix_tokens
        token = vit_facet(encoder, images(), "token", block=1)
        value = vit_facet(encoder, images(), "value", block=-2)
    by_timm = seen["out"][:, prefix:].transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(token.descriptors_BDhw, by_timm, atol=1e-5)
    assert torch.allclose(
        token.attention_BAhw.flatten(2), seen["attention"][:, :, 0, prefix:], atol=1e-6
    )
    assert torch.allclose(
        value.descriptors_BDhw.flatten(2).mT, seen["qkv"][:, prefix:, 96:], atol=1e-5
    )


def test_overlapping_patches_contain_the_plain_ones():
    encoder = vit(pos_embed="none")
    with torch.no_grad():
        encoder.model.blocks = encoder.model.blocks[:1]
        plain, fine = (
            vit_facet(encoder, images(), "key", stride=s).descriptors_BDhw for s in (None, 4)
        )
    assert plain.shape == (2, 48, 4, 4) and fine.shape == (2, 48, 7, 7)
    # keys of the first block see their own patch only
    assert torch.allclose(fine[:, :, ::2, ::2], plain, atol=1e-5)


def test_positions_are_interpolated_and_other_sizes_work():
    encoder = vit()
    with torch.no_grad():
        assert vit_facet(encoder, images(), "query", stride=2).descriptors_BDhw.shape == (
            2,
            48,
            13,
            13,
        )
        assert vit_facet(encoder, images(size=48), "query").descriptors_BDhw.shape == (2, 48, 6, 6)
        encoder.model.pos_embed.fill_(3.0)  # constant positions stay constant whatever the grid
        flat = vit_facet(encoder, 0 * images(), "key", stride=4).descriptors_BDhw
    assert torch.allclose(flat, flat[:, :, :1, :1].expand_as(flat), atol=1e-4)


def test_what_facets_cannot_be():
    with pytest.raises(ConfigError, match="'kye' is not one of"):
        vit_facet(vit(), images(), "kye")
    with pytest.raises(ConfigError, match="3 blocks"):
        vit_facet(vit(), images(), "key", block=3)
    for stride in (3, 16):
        with pytest.raises(ConfigError, match=f"parts.stride={stride}"):
            vit_facet(vit(), images(), "key", stride=stride)
    resnet = SimpleNamespace(model=timm.create_model("resnet10t", num_classes=0), name="resnet10t")
    assert not has_facets(resnet) and has_facets(vit())
    with pytest.raises(ConfigError, match="resnet10t is another network"):
        vit_facet(resnet, images(), "key")


def test_elbow_stops_one_behind_the_number_of_blobs():
    generator = torch.Generator().manual_seed(0)
    middle = 5 * torch.randn(4, 6, generator=generator)
    points = middle[torch.arange(400) % 4] + 0.1 * torch.randn(400, 6, generator=generator)
    assert len(elbow_clusters(points, SaliencyConfig(elbow=0.8), seed=0)) == 5
    assert len(elbow_clusters(points, SaliencyConfig(elbow=0.8, most_clusters=3), seed=0)) == 3


def test_votes_by_hand():
    ids = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 1]])
    saliency = torch.tensor([[0.9, 0.7, 0.1, 0.3], [0.0, 0.2, 0.1, 0.1]])
    assert salient_clusters(ids, saliency, 3, 0.15).tolist() == [[1, 1, 0], [0, 0, 0]]
    assert salient_clusters(ids, saliency, 3, 0.0).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert elected(torch.tensor([0.8, 0.74, 0.75]), 0.75).tolist() == [True, False, True]
    assert elected(torch.tensor([0.2, 0.4]), 0.75).tolist() == [False, True]  # never nothing
    assert elected(torch.tensor([0.9, 0.8]), 0.75).tolist() == [True, False]  # never everything


def test_scores_are_margins_between_background_and_foreground():
    model = SalientClusters(
        torch.tensor([[0.0, 0], [4, 0], [0, 3]]), torch.tensor([True, False, False])
    )
    points = torch.tensor([[[0.0, 0], [4, 1], [0, 2.9]]])
    assert torch.allclose(
        model.scores(points), torch.tensor([[9.0, 1 - 17, 0.01 - 8.41]]), atol=1e-4
    )


PLAIN = CrfConfig(iterations=0)
ROUGH = SaliencyConfig(size=16, threshold=0.0, every=4)
COSEGMENT = CosegmentConfig(
    group=8,
    k=2,
    size=16,
    stages=["middle"],
    foreground=replace(ROUGH, smoothing=0.02),
    crf=PLAIN,
    facet="token",  # a convolutional network
    stride=0,
)


def test_groups_share_what_they_learn_and_nothing_else(tiny_encoder, disc_bank, tmp_path):
    store = discover_parts(tiny_encoder, disc_bank, COSEGMENT, tmp_path / "all")
    assert store.scope == "image"  # ids of other groups mean something else
    for rank in (1, 0):
        shared = discover_parts(
            tiny_encoder, disc_bank, COSEGMENT, tmp_path / "two", rank=rank, world_size=2
        )
    assert torch.equal(shared.batch(range(20)), store.batch(range(20)))
    again = PartStore.open(tmp_path / "two", writable=True)
    again._done[5:12] = False  # as if killed in the middle of two groups
    resumed = discover_parts(tiny_encoder, disc_bank, replace(COSEGMENT, batch=1), tmp_path / "two")
    assert torch.equal(resumed.batch(range(20)), store.batch(range(20)))
    changed = DiscBank()
    changed.pixels[8:] = changed.pixels[8:].flip(1)  # other colours in the other groups
    other = discover_parts(tiny_encoder, changed, COSEGMENT)
    assert torch.equal(other.batch(range(8)), store.batch(range(8)))
    assert not torch.equal(other.batch(range(8, 20)), store.batch(range(8, 20)))


def test_images_of_a_group_pass_the_encoder_once(tiny_encoder, disc_bank):
    discover_parts(tiny_encoder, disc_bank, COSEGMENT)
    # three groups of one batch of eight each, the last one filled up
    assert sum(tiny_encoder.calls) == 24


def test_a_group_agrees_on_its_parts(tiny_encoder, disc_bank):
    given = replace(COSEGMENT, group=20, foreground=MaskConfig())
    ids, true = (
        discover_parts(tiny_encoder, disc_bank, given).batch(range(20)),
        disc_bank.masks[:, ::2, ::2],
    )
    front = (ids > 0) & (true > 0)
    assert normalized_mutual_info_score(true[front], ids[front]) > 0.7


def test_crf_starts_from_costs_where_there_are_some_and_from_ids_elsewhere(tiny_encoder, disc_bank):
    for foreground in (ROUGH, VotesConfig()):
        config = replace(COSEGMENT, group=0, foreground=foreground)
        plain = discover_parts(tiny_encoder, disc_bank, config).batch(range(20))
        refined = discover_parts(
            tiny_encoder, disc_bank, replace(config, crf=CrfConfig(5, 1.0, 3.0, 4.0, 13.0, 5.0))
        )
        refined = refined.batch(range(20))
        assert not torch.equal(plain, refined)

        def edges(ids):
            return (
                (ids[:, 1:] != ids[:, :-1]).sum() + (ids[:, :, 1:] != ids[:, :, :-1]).sum()
            ).item()

        assert edges(refined) < edges(plain)


def test_a_vit_end_to_end_with_keys_and_overlapping_patches():
    torch.manual_seed(0)
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=0
    )
    encoder = Encoder("vit_tiny_patch16_224", model, [0.5] * 3, [0.25] * 3, {})
    config = CosegmentConfig(
        k=3, size=14, group=8, foreground=SaliencyConfig(heads=[0, 2], every=4, size=14)
    )
    store = discover_parts(encoder, DiscBank(count=10), config)
    assert store.complete and len(store.batch(range(10)).unique()) >= 3
    missing = replace(config, foreground=SaliencyConfig(heads=[7], size=14))
    with pytest.raises(ConfigError, match=r"heads=\[7\]: this encoder has heads 0\.\.2"):
        discover_parts(encoder, DiscBank(count=2), missing)
