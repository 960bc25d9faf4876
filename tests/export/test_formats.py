"""Exports other than timm's: torchvision, Hugging Face, state dict, ONNX. Opened in a process
without this project.
"""

import json
import subprocess
import sys
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssl_parts.encoders import build_encoder, encoder_hash, open_encoder
from ssl_parts.errors import ConfigError, WeightsError
from ssl_parts.export import export_encoder, push_export

ENCODERS = {
    "resnet18": dict(name="resnet18"),
    "resnet50": dict(name="resnet50"),
    "mobilenetv2": dict(name="mobilenetv2_100"),
    "convnext_tiny": dict(name="convnext_tiny"),
    "vit_s8": dict(name="vit_small_patch8_224", img_size=56),
    "vit_s14_registers": dict(name="vit_small_patch14_reg4_dinov2", img_size=56),
}
# Tracing costs seconds a block, and blocks repeat: one of each kind goes to ONNX, whole networks
# to everything else.
SHALLOW = {
    "resnet18": dict(layers=[1, 1, 1, 1]),
    "resnet50": dict(layers=[1, 1, 1, 1]),
    "mobilenetv2": {},
    "convnext_tiny": dict(depths=[1, 1, 1, 1]),
    "vit_s8": dict(depth=1),
    "vit_s14_registers": dict(depth=1),
}
FORMATS = {case: ("timm", "state_dict") for case in ENCODERS}
FORMATS["resnet18"] += ("torchvision", "hf")
FORMATS["resnet50"] += ("torchvision",)
SIZE = 56

STRANGER = """
import sys
sys.modules["ssl_parts"] = None
import json, onnxruntime, timm, torch, torchvision
from pathlib import Path
from safetensors.torch import load_file, save_file
root, found = Path(sys.argv[1]), {}
images = load_file(root / "images.safetensors")
for folder in sorted(p for p in root.glob("*/*") if p.is_dir()):
    case, to = folder.parent.name, folder.name
    if to in ("timm", "hf"):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    elif to == "torchvision":
        model = getattr(torchvision.models, case)()
        model.fc = torch.nn.Identity()
        model.load_state_dict(load_file(folder / "model.safetensors"))
    elif to == "state_dict":
        config = json.loads((folder / "config.json").read_text())
        model = timm.create_model(config["architecture"], num_classes=0, **config["model_args"])
        model.load_state_dict(torch.load(folder / "model.pth", weights_only=True))
    else:
        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
        pooled, last = session.run(None, {"images": images["raw"].numpy()})
        found[f"{case}/onnx"], found[f"{case}/onnx map"] = torch.from_numpy(pooled), torch.from_numpy(last)
        continue
    with torch.no_grad():
        found[f"{case}/{to}"] = model.eval()(images[case]).contiguous()
save_file(found, root / "found.safetensors")
"""


def encoder_of(case, folder):
    """Read from a checkpoint, as users come by one."""
    torch.manual_seed(4)
    source = build_encoder(**ENCODERS[case])
    for module in source.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    state = {f"module.{name}": value for name, value in source.model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / f"{case}.pth")
    return build_encoder(**ENCODERS[case], weights=folder / f"{case}.pth").eval()


def shallow(case):
    torch.manual_seed(5)
    encoder = build_encoder(**ENCODERS[case], **SHALLOW[case])
    if case == "mobilenetv2":
        for i, blocks in enumerate(encoder.model.blocks):
            encoder.model.blocks[i] = blocks[:1]
    return encoder.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp("exports")
    encoders = {case: encoder_of(case, root) for case in ENCODERS}
    raw = torch.rand(3, 3, SIZE, SIZE)  # another batch size than the ONNX export was traced with
    images = {case: encoder.normalise(raw) for case, encoder in encoders.items()} | {"raw": raw}
    save_file(images, root / "images.safetensors")
    for case, encoder in list(encoders.items()):
        for to in FORMATS[case]:
            export_encoder(encoder, root / case / to, to=to, image_size=SIZE)
        encoders[case, "onnx"] = shallow(case)
        export_encoder(encoders[case, "onnx"], root / case / "onnx", to="onnx", image_size=SIZE)
    subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", STRANGER, str(root)], check=True, timeout=600
    )
    return root, encoders, raw, load_file(root / "found.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "to"), [(case, to) for case, formats in FORMATS.items() for to in formats]
)
def test_a_stranger_gets_the_same_features(exported, case, to):
    _, encoders, raw, found = exported
    with torch.no_grad():
        assert torch.equal(found[f"{case}/{to}"], encoders[case](raw).pooled)


@pytest.mark.parametrize("case", list(ENCODERS))
def test_onnx_gives_a_stranger_the_same_features(exported, case):
    _, encoders, raw, found = exported
    encoder = encoders[case, "onnx"]
    with torch.no_grad():
        features = encoder(raw)
    torch.testing.assert_close(found[f"{case}/onnx"], features.pooled, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found[f"{case}/onnx map"], features.maps[encoder.last_stage], atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("to", ["hf", "state_dict", "torchvision"])
def test_exports_go_back_in(exported, to):
    root, encoders, _, _ = exported
    assert encoder_hash(open_encoder(root / "resnet18" / to)) == encoder_hash(encoders["resnet18"])


def test_transformers_opens_the_hugging_face_folder(exported):
    transformers = pytest.importorskip("transformers")
    root, encoders, raw, _ = exported
    model = transformers.AutoModel.from_pretrained(str(root / "resnet18" / "hf")).eval()
    encoder = encoders["resnet18"]
    with torch.no_grad():
        output = model(encoder.normalise(raw))
        assert torch.equal(output.pooler_output, encoder(raw).pooled)
        assert torch.equal(output.last_hidden_state, encoder(raw).maps["layer4"])


def test_each_card_says_how_to_open_what_lies_beside_it(exported):
    root, _, _, _ = exported
    for folder in (p for p in root.glob("*/*") if p.is_dir()):
        card = (folder / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: timm\n")
        code = card.split("```python\n")[1].split("```")[0].replace("DIR", str(folder))
        compile(code, str(folder), "exec")
        files = [
            word
            for word in ("model.safetensors", "model.pth", "model.onnx", "config.json")
            if word in code
        ]
        assert all((folder / name).is_file() for name in files)


@pytest.mark.parametrize(
    "options",
    [
        dict(name="mobilenetv2_035"),
        dict(name="resnet18", width=0.5),
        dict(name="resnet26"),
        dict(name="resnet50d"),
    ],
)
def test_what_torchvision_does_not_have_is_refused(options, tmp_path):
    with pytest.raises(ConfigError, match=r"torchvision has no network like .*to=timm"):
        export_encoder(build_encoder(**options), tmp_path / "out", to="torchvision", image_size=64)
    assert list(tmp_path.iterdir()) == []


def test_damaged_state_dict_is_not_called_done(tmp_path, monkeypatch):
    import ssl_parts.export.torch_files as torch_files

    save = torch.save
    monkeypatch.setattr(
        torch_files.torch,
        "save",
        lambda state, path: save({n: v * 1.01 for n, v in state.items()}, path),
    )
    with pytest.raises(WeightsError, match="other features"):
        export_encoder(
            build_encoder("mobilenetv2_035"), tmp_path / "out", to="state_dict", image_size=32
        )
    assert list(tmp_path.iterdir()) == []


def test_onnx_that_differs_is_not_called_done(exported, tmp_path):
    from ssl_parts.export.onnx_file import check_onnx

    root, encoders, raw, _ = exported
    other = build_encoder(**ENCODERS["resnet18"], **SHALLOW["resnet18"]).eval()
    with pytest.raises(WeightsError, match=r"ONNX export of resnet18 differs by .* in 'pooled'"):
        check_onnx(other, root / "resnet18" / "onnx", raw)
    check_onnx(encoders["resnet18", "onnx"], root / "resnet18" / "onnx", raw)


def test_onnx_without_its_packages_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"needs onnxscript: pip install 'ssl-parts\[onnx\]'"):
        export_encoder(build_encoder("mobilenetv2_035"), tmp_path / "out", to="onnx")


class RecordedApi:
    calls: ClassVar[list] = []

    def create_repo(self, repo, private, exist_ok):
        self.calls.append(("create", repo, private, exist_ok))

    def upload_folder(self, repo_id, folder_path, commit_message):
        self.calls.append(("upload", repo_id, sorted(p.name for p in folder_path.iterdir())))
        return "https://huggingface.co/me/bird/commit/1"


def test_push_uses_the_hub_s_client(exported, monkeypatch):
    import ssl_parts.export.hub as hub

    root, _, _, _ = exported
    monkeypatch.setattr(hub, "HfApi", RecordedApi)
    assert push_export(root / "resnet18" / "hf", "me/bird").endswith("/commit/1")
    created, uploaded = RecordedApi.calls
    assert created == ("create", "me/bird", True, True)
    assert {"config.json", "model.safetensors", "README.md"} <= set(uploaded[2])
    with pytest.raises(ConfigError, match="not an export to=hf"):
        push_export(root / "resnet18" / "onnx", "me/bird")


def test_push_without_a_network_keeps_the_export(exported, monkeypatch):
    import ssl_parts.export.hub as hub

    class Unreachable(RecordedApi):
        def create_repo(self, repo, private, exist_ok):
            raise ConnectionError("no route to host")

    root, _, _, _ = exported
    monkeypatch.setattr(hub, "HfApi", Unreachable)
    with pytest.raises(
        ConfigError, match=r"push=me/bird failed: no route to host; the export itself is in"
    ):
        push_export(root / "resnet18" / "hf", "me/bird")
    assert (
        json.loads((root / "resnet18" / "hf" / "config.json").read_text())["architecture"]
        == "resnet18"
    )
