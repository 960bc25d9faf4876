"""train.rounds=0: the base encoder alone, evaluated and exported."""

import numpy as np
import timm
from doc_place import write_shard
from PIL import Image
from tiny_run import overrides

from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.recipes.load import load_recipe


def test_a_base_without_rounds(tmp_path):
    config = load_recipe(
        "warmup",
        overrides(
            tmp_path,
            "train.rounds=0",
            "data=synthetic_birds",
            "evaluation.protocols=[linear,few_label]",
            "run.evaluate=true",
        ),
    )
    results = pretrain(config)
    folder = tmp_path / "tiny"
    assert {row.name for row in results.rows} == {"base"}
    assert (folder / "base" / "encoder.safetensors").exists()
    assert not list(folder.glob("round_*"))
    assert timm.create_model(f"local-dir:{folder / 'export'}", pretrained=True)
    assert (folder / "report.html").exists()


def test_shards_with_labels_and_no_test_split_are_enough(tmp_path):
    """What the README warms up on: a training split alone."""
    pictures = np.random.default_rng(0).integers(0, 255, (8, 48, 48, 3), dtype=np.uint8)
    write_shard(tmp_path / "shards", [Image.fromarray(picture) for picture in pictures])
    tiny = [word for word in overrides(tmp_path) if not word.startswith(("data.", "train.rounds"))]
    config = load_recipe("warmup", [*tiny, "data=shards", f"data.root={tmp_path / 'shards'}"])
    assert config.data.size == 64
    pretrain(config)
    assert (tmp_path / "tiny" / "base" / "encoder.safetensors").exists()
