"""train.rounds=0: the base encoder alone, evaluated and exported."""

import timm
from tiny_run import overrides

from ssl_parts.config import load_config
from ssl_parts.training.pretrain import pretrain


def test_a_base_without_rounds(tmp_path):
    config = load_config(
        "warmup", overrides(tmp_path, "train.rounds=0", "data=synthetic_birds", "evaluation.part_shots=0")
    )
    results = pretrain(config)
    folder = tmp_path / "tiny"
    assert list(results["rows"]) == ["base"]
    assert (folder / "base" / "encoder.safetensors").exists()
    assert not list(folder.glob("round_*"))
    assert timm.create_model(f"local-dir:{folder / 'export'}", pretrained=True)
    assert (folder / "report.html").exists()
