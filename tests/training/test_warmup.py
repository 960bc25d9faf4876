"""train.rounds=0: the base encoder alone, evaluated and exported."""

import io
import tarfile

import numpy as np
import timm
from PIL import Image
from tiny_run import overrides

from ssl_parts.config import load_config
from ssl_parts.training.pretrain import pretrain


def test_a_base_without_rounds(tmp_path):
    config = load_config(
        "warmup",
        overrides(tmp_path, "train.rounds=0", "data=synthetic_birds", "evaluation.part_shots=0", "run.evaluate=true"),
    )
    results = pretrain(config)
    folder = tmp_path / "tiny"
    assert list(results["rows"]) == ["base"]
    assert (folder / "base" / "encoder.safetensors").exists()
    assert not list(folder.glob("round_*"))
    assert timm.create_model(f"local-dir:{folder / 'export'}", pretrained=True)
    assert (folder / "report.html").exists()


def test_shards_with_labels_and_no_test_split_are_enough(tmp_path):
    """What the README warms up on: a training split alone."""
    with tarfile.open(tmp_path / "train-000000.tar", "w") as archive:
        for i in range(8):
            stream = io.BytesIO()
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(stream, "PNG")
            for name, content in ((f"{i:06d}.png", stream.getvalue()), (f"{i:06d}.cls", str(i % 2).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    tiny = [word for word in overrides(tmp_path) if not word.startswith(("data.", "train.rounds"))]
    config = load_config("warmup", [*tiny, "data=shards", f"data.root={tmp_path}"])
    assert config.data.size == 64
    pretrain(config)
    assert (tmp_path / "tiny" / "base" / "encoder.safetensors").exists()
