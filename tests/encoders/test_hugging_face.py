"""Hugging Face's networks: built by transformers, saved as it saves them, read into timm's,
compared output by output.
"""

import pytest
import torch

from ssl_parts.encoders import build_encoder
from ssl_parts.errors import WeightsError

transformers = pytest.importorskip("transformers")

VIT = dict(
    hidden_size=192,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=768,
    image_size=32,
)
TINY = dict(name="vit_tiny_patch16_224", img_size=32, depth=2)
DINO = dict(
    hidden_size=384, num_hidden_layers=1, num_attention_heads=6, image_size=28, patch_size=14
)
GIANT = dict(
    hidden_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
)
DINOV3 = dict(
    hidden_size=384,
    num_hidden_layers=1,
    num_attention_heads=6,
    intermediate_size=1536,
    patch_size=16,
)
STAGES = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
CONVNEXT = dict(name="convnext_atto", depths=[1, 1, 2, 1], dims=[8, 16, 24, 32], conv_mlp=False)

# case: (class, configuration, encoder)
CASES = {
    "vit": ("ViT", dict(**VIT, layer_norm_eps=1e-6), TINY),
    "mae": ("ViTMAE", dict(**VIT, layer_norm_eps=1e-6, mask_ratio=0.0), TINY),
    "msn": ("ViTMSN", VIT, TINY),
    "dinov2": ("Dinov2", DINO, dict(name="vit_small_patch14_dinov2", img_size=28, depth=1)),
    "dinov2 with registers": (
        "Dinov2WithRegisters",
        dict(**DINO, num_register_tokens=4),
        dict(name="vit_small_patch14_reg4_dinov2", img_size=28, depth=1),
    ),
    "dinov2 with SwiGLU": (
        "Dinov2",
        dict(**GIANT, use_swiglu_ffn=True),
        dict(
            name="vit_giant_patch14_dinov2",
            img_size=28,
            depth=1,
            embed_dim=48,
            num_heads=2,
            mlp_ratio=256 / 48,
        ),
    ),
    "dinov3": (
        "DINOv3ViT",
        dict(**DINOV3, num_register_tokens=4),
        dict(name="vit_small_patch16_dinov3_qkvb", depth=1),
    ),
    "dinov3 with SwiGLU": (
        "DINOv3ViT",
        dict(**DINOV3, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"),
        dict(name="vit_small_plus_patch16_dinov3_qkvb", depth=1),
    ),
    "resnet, basic": (
        "ResNet",
        dict(
            embedding_size=64, hidden_sizes=[8, 16, 32, 64], depths=[1, 1, 2, 1], layer_type="basic"
        ),
        dict(name="resnet18", width=0.125, layers=[1, 1, 2, 1]),
    ),
    "resnet, bottleneck": (
        "ResNet",
        dict(embedding_size=64, hidden_sizes=[32, 64, 128, 256], depths=[1, 1, 1, 1]),
        dict(name="resnet50", width=0.125, layers=[1, 1, 1, 1]),
    ),
    "convnext": ("ConvNext", STAGES, CONVNEXT),
    "convnext, second version": ("ConvNextV2", STAGES, dict(CONVNEXT, name="convnextv2_atto")),
    "dinov3's convnext": ("DINOv3ConvNext", STAGES, CONVNEXT),
}


def network(kind, options):
    """With random values in everything, so that nothing that is lost goes unseen."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**options)
    model = getattr(transformers, f"{kind}Model")(config).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.uniform_(0.5, 1.5) if "running_var" in name else value.normal_(0, 0.1)
    return model


def compare(encoder, model, kind):
    side = 28 if "14" in encoder.name else 32
    images = torch.rand(2, 3, side, side)
    with torch.no_grad():
        options = {"noise": torch.arange(4.0).repeat(2, 1)} if kind == "ViTMAE" else {}
        output, ours = model(encoder.normalise(images), **options), encoder.eval()(images)
    theirs = output.last_hidden_state
    if ours.tokens is not None:
        torch.testing.assert_close(ours.tokens, theirs, atol=2e-5, rtol=1e-4)
    elif "ConvNext" in kind:
        torch.testing.assert_close(ours.pooled, output.pooler_output, atol=2e-5, rtol=1e-4)
    else:
        torch.testing.assert_close(ours.maps[encoder.last_stage], theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("case", list(CASES))
def test_each_network_gives_the_same_features(case, tmp_path):
    kind, options, wanted = CASES[case]
    model = network(kind, options)
    model.save_pretrained(tmp_path / "saved")
    torch.save(
        {"state_dict": {f"module.net.{k}": v for k, v in model.state_dict().items()}},
        tmp_path / "w.pth",
    )
    for weights in (tmp_path / "saved", tmp_path / "w.pth"):
        encoder = build_encoder(**wanted, weights=weights)
        assert encoder.report.missing == encoder.report.mismatched == []
        assert "Hugging Face names" in encoder.report.found
        compare(encoder, model, kind)


def test_a_classifier_around_the_network_is_left_over(tmp_path):
    config = transformers.ViTConfig(**VIT, num_labels=3)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    report = build_encoder(**TINY, weights=tmp_path).report
    # its prefix is not the network's
    assert report.total == len(report.matched) and report.unexpected == []


def test_biases_that_the_variant_lacks_are_not_dropped_in_silence(tmp_path):
    model = network("DINOv3ViT", dict(**DINOV3, num_register_tokens=4))
    model.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"biases of attention .*vit_small_patch16_dinov3_qkvb"):
        build_encoder("vit_small_patch16_dinov3", tmp_path, depth=1)
    with torch.no_grad():  # the published small ones are zero
        for name, value in model.state_dict().items():
            if "q_proj.bias" in name or "v_proj.bias" in name:
                value.zero_()
    model.save_pretrained(tmp_path)
    encoder = build_encoder("vit_small_patch16_dinov3", tmp_path, depth=1)
    compare(encoder, model, "DINOv3ViT")


def test_another_grid_is_interpolated(tmp_path):
    model = network("Dinov2", dict(DINO, image_size=56))
    model.save_pretrained(tmp_path)
    encoder = build_encoder("vit_small_patch14_dinov2", tmp_path, img_size=28, depth=1)
    assert encoder.report.missing == [] and encoder.model.pos_embed.shape == (1, 5, 384)
