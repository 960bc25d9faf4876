"""What an encoder sees: components and attention against independent computations; words of the
script.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import special_ortho_group
from sklearn.decomposition import PCA

from ssl_parts.encoders import build_encoder
from ssl_parts.encoders.pictures import aligned, as_colours, attention_map, heat, principal_scores
from ssl_parts.errors import ConfigError, DataError
from ssl_parts.export import export_encoder
from ssl_parts.jobs.show import COLUMNS, HEAD, image_paths, show
from ssl_parts.recipes.load import load_show


def photograph(path, seed=0, size=(60, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(rows).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    return export_encoder(
        encoder, tmp_path_factory.mktemp("made") / "export", to="timm", image_size=48
    )


# ---------------------------------------------------------------- components


def test_components_are_those_of_scikit_learn():
    maps = torch.randn(3, 7, 4, 5, generator=torch.Generator().manual_seed(0))
    points = torch.nn.functional.normalize(maps, dim=1).permute(0, 2, 3, 1).reshape(-1, 7).numpy()
    wanted = PCA(3).fit_transform(points.astype(np.float64))
    found = principal_scores(maps).permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    for i in range(3):
        assert abs(np.corrcoef(found[:, i], wanted[:, i])[0, 1]) == pytest.approx(1, abs=1e-4)
    assert found.std(0, ddof=1) == pytest.approx([1, 1, 1], rel=1e-4)
    assert ((found**3).sum(0) > 0).all()


def test_components_of_an_image_depend_on_the_others():
    maps = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(principal_scores(maps)[:2], principal_scores(maps[:2]), atol=1e-2)


def test_two_channels_leave_the_third_colour_grey():
    scores = principal_scores(torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(scores).all() and (scores[:, 2] == 0).all()


def test_alignment_undoes_a_rotation():
    reference = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    turn = torch.from_numpy(special_ortho_group(3, seed=0).rvs()).float()
    turned = torch.einsum("nchw,cd->ndhw", reference, turn)
    assert torch.allclose(aligned(turned, reference), reference, atol=1e-4)


def test_colours_are_grey_at_zero_and_full_at_two_deviations():
    scores = torch.tensor([0.0, 2.0, -2.0]).view(1, 3, 1, 1)
    assert as_colours(scores, 4)[0, :, 0, 0].tolist() == [128, 255, 0]


# ---------------------------------------------------------------- attention


def by_hand(encoder, images):
    """[CLS] attention of the last block from its weights: softmax of q k / sqrt(d), mean over
    heads.
    """
    block, seen = encoder.model.blocks[-1], {}
    hook = block.attn.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    with torch.no_grad():
        encoder(images.float() / 255)
    hook.remove()
    N, T, D = seen["x"].shape
    heads = block.attn.num_heads
    with torch.no_grad():
        q, k, _ = block.attn.qkv(seen["x"]).view(N, T, 3, heads, D // heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / (D // heads) ** 0.5).softmax(-1)
    return weights.mean(1)[:, 0, encoder.model.num_prefix_tokens :]


def test_attention_of_a_vit_is_that_of_its_last_block():
    torch.manual_seed(0)
    encoder = build_encoder("vit_tiny_patch16_224", last_stage="block1", img_size=64).eval()
    images = torch.randint(
        0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    fused = encoder.model.blocks[-1].attn.fused_attn
    wanted = by_hand(encoder, images)
    low, high = wanted.amin(1, keepdim=True), wanted.amax(1, keepdim=True)
    found = attention_map(encoder, images)
    assert found.shape == (3, 4, 4)
    assert torch.allclose(found.flatten(1), (wanted - low) / (high - low), atol=1e-4)
    assert (
        encoder.model.blocks[-1].attn.fused_attn == fused
        and not encoder.model.blocks[-1].attn.attn_drop._forward_hooks
    )


def test_attention_of_a_rotary_vit_and_of_a_cnn():
    images = torch.randint(
        0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    rotary = build_encoder("vit_small_patch16_dinov3", last_stage="block0", img_size=64)
    assert attention_map(rotary, images).shape == (2, 4, 4)
    cnn = build_encoder("resnet18", small=True, width=0.125, last_stage="layer2").eval()
    with torch.no_grad():
        lengths = cnn(images.float() / 255).maps["layer2"].square().sum(1).sqrt()
    found = attention_map(cnn, images)
    assert found.flatten(1).argmax(1).tolist() == lengths.flatten(1).argmax(1).tolist()
    assert found.amin((1, 2)).tolist() == [0, 0] and found.amax((1, 2)).tolist() == [1, 1]


def test_heat_is_darkest_where_attention_is_least():
    values = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    drawn = heat(values, torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)).float().mean(1)[0]
    assert drawn[:, 0].max() < drawn[:, -1].min()


# ---------------------------------------------------------------- the script


def test_a_file_gives_one_row_and_a_folder_one_each(tmp_path, export):
    one = photograph(tmp_path / "photos" / "a.png")
    photograph(tmp_path / "photos" / "deep" / "b.jpg", seed=1)
    for image, rows in ((one, 1), (tmp_path / "photos", 2)):
        words = [
            f"image={image}",
            f"encoder={export}",
            "size=48",
            "side=40",
            "k=2",
            f"out={tmp_path / 'o' / 'x.png'}",
        ]
        with Image.open(show(load_show(words))) as picture:
            assert picture.size == (4 * 44 - 4, rows * 44 - 4 + HEAD)
            assert len(COLUMNS) == 4


def test_the_first_column_is_the_photograph(tmp_path, export):
    path = tmp_path / "red.png"
    Image.new("RGB", (50, 50), (200, 30, 40)).save(path)
    words = [
        f"image={path}",
        f"encoder={export}",
        "size=48",
        "side=40",
        "k=1",
        f"out={tmp_path / 'x.png'}",
    ]
    with Image.open(show(load_show(words))) as picture:
        assert picture.getpixel((20, HEAD + 20)) == (200, 30, 40)


def test_a_folder_is_thinned_evenly(tmp_path):
    for i in range(9):
        photograph(tmp_path / f"{i}.png")
    assert [path.name for path in image_paths(tmp_path, 3)] == ["0.png", "4.png", "8.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image=IMAGE", "encoder=resnet18", "sidee=3"], "did you mean 'side'"),
        (["image=IMAGE", "encoder=resnet18", "k=many"], "k"),
        (["image=IMAGE", "encoder=resnet18", "k=0"], "k=0 must be at least 1"),
        (["image=IMAGE", "encoder=resnet18", "out=x.bmp2"], "does not end in"),
        (["image=nowhere.png", "encoder=resnet18"], "nowhere.png does not exist"),
        (["encoder=resnet18"], "image= is missing"),
        (["image=IMAGE"], "encoder= is missing"),
        (["IMAGE"], "not key=value"),
    ],
)
def test_wrong_words_are_told(tmp_path, words, said):
    image = photograph(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=said):
        load_show([word.replace("IMAGE", str(image)) for word in words])


def test_what_cannot_be_shown_is_told(tmp_path, export):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no image")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        show(
            load_show(
                [
                    f"image={tmp_path / 'broken.jpg'}",
                    f"encoder={export}",
                    f"out={tmp_path / 'x.png'}",
                ]
            )
        )
    with pytest.raises(ConfigError, match="has its own"):
        show(
            load_show(
                [f"image={photograph(tmp_path / 'a.png')}", f"encoder={export}", "weights=w.pth"]
            )
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="holds no image"):
        show(load_show([f"image={tmp_path / 'empty'}", f"encoder={export}"]))
