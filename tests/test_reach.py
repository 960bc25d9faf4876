"""Ways to the encoder from elsewhere: torch.hub, and the container's build."""

import re
from pathlib import Path

import torch
import yaml

from ssl_parts.encoders import build_encoder
from ssl_parts.export import export_encoder

REPO = Path(__file__).resolve().parents[1]


def test_torch_hub_opens_an_export(tmp_path):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3").eval()
    export_encoder(encoder, tmp_path / "export", to="timm", image_size=48)
    found = torch.hub.load(str(REPO), "encoder", tmp_path / "export", source="local")
    images = torch.rand(2, 3, 48, 48)
    with torch.inference_mode():
        assert torch.equal(found(images).pooled, encoder(images).pooled)


def test_the_container_copies_what_a_wheel_is_built_from():
    text = (REPO / "Dockerfile").read_text()
    for copied in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE):
        assert all((REPO / name).exists() for name in copied.split())
    hatch = (REPO / "pyproject.toml").read_text()
    assert 'packages = ["ssl_parts", "evaluation"]' in hatch and '"configs" =' in hatch


def test_the_release_builds_and_checks_before_it_publishes():
    jobs = yaml.safe_load((REPO / ".github/workflows/release.yml").read_text())["jobs"]
    steps = " ".join(step.get("run", "") for step in jobs["build"]["steps"])
    assert "python -m build" in steps and "twine check" in steps
    assert jobs["publish"]["needs"] == "build" and "secrets." not in str(jobs)
