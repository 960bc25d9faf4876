"""A folder of an export, written again: what others put there stays, a kill loses nothing,
permissions are usual.
"""

import json
import logging
import os
import re

import pytest
import timm
import torch

import ssl_parts.export.folder as folder
from ssl_parts.encoders import build_encoder, encoder_hash, open_encoder
from ssl_parts.encoders.digests import MARK, file_digest
from ssl_parts.errors import ConfigError
from ssl_parts.export import export_encoder, parse, run_export

SIZE = 32


@pytest.fixture(scope="module")
def encoders():
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(build_encoder("resnet18", small=True, width=0.0625, last_stage="layer1"))
    return found


def write(encoder, out, to="timm"):
    return export_encoder(encoder, out, to, image_size=SIZE)


def test_notes_and_git_stay_and_only_the_export_is_new(encoders, tmp_path):
    out = write(encoders[0], tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    (out / ".git" / "objects").mkdir(parents=True)
    (out / ".git" / "HEAD").write_text("ref")
    (out / "empty").mkdir()
    os.symlink("notes.txt", out / "link")
    (out / "parts").mkdir()
    (out / "parts" / "my_masks.npy").write_bytes(b"x")
    write(encoders[1], out)
    assert encoder_hash(open_encoder(out)) == encoder_hash(encoders[1])
    assert (out / "notes.txt").read_text() == (out / "link").read_text() == "mine"
    assert (out / ".git" / "HEAD").read_text() == "ref" and (out / ".git" / "objects").is_dir()
    assert (out / "empty").is_dir() and os.readlink(out / "link") == "notes.txt"
    assert (out / "parts" / "my_masks.npy").read_bytes() == b"x"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_was_edited_is_kept_beside_the_new_one(encoders, tmp_path, caplog):
    out = write(encoders[0], tmp_path / "out")
    (out / "README.md").write_text("my own words")
    write(encoders[1], out)
    (out / "README.md").write_text("my second words")
    with caplog.at_level(logging.WARNING):
        write(encoders[0], out)
    assert "README.before2.md" in caplog.text
    assert (out / "README.before.md").read_text() == "my own words"
    assert (out / "README.before2.md").read_text() == "my second words"
    assert (out / "README.md").read_text().startswith("---\nlibrary_name: timm")


def test_another_format_leaves_nothing_of_the_first(encoders, tmp_path):
    out = write(encoders[0], tmp_path / "out")
    write(encoders[0], out, "state_dict")
    assert sorted(p.name for p in out.iterdir()) == sorted(
        [MARK, "README.md", "config.json", "model.pth"]
    )


def test_an_export_of_before_digests_is_replaced_as_well(encoders, tmp_path):
    out = write(encoders[0], tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    for mark in ('{"format": "timm"}', "{damaged"):
        (out / MARK).write_text(mark)
        write(encoders[1], out)
        assert sorted(p.name for p in out.iterdir()) == sorted(
            [MARK, "README.md", "config.json", "model.safetensors", "notes.txt"]
        )


def test_the_mark_lists_what_sha256sum_says(encoders, tmp_path):
    out = write(encoders[0], tmp_path / "out")
    listed = json.loads((out / MARK).read_text())["files"]
    assert set(listed) == {"README.md", "config.json", "model.safetensors"}
    assert all(file_digest(out / name) == digest for name, digest in listed.items())


@pytest.mark.parametrize("to", ["timm", "state_dict"])
def test_everybody_may_read_what_the_umask_allows(to, encoders, tmp_path):
    before = os.umask(0o022)
    try:
        out = write(encoders[0], tmp_path / "out", to)
        assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o644}
    finally:
        os.umask(before)


def test_a_kill_at_the_exchange_of_folders_loses_nothing(encoders, tmp_path):
    out = write(encoders[0], tmp_path / "out")
    (out / "notes.txt").write_text("mine")
    child = os.fork()
    if not child:  # dies between the two renames
        folder.os.replace = lambda old, new, replace=os.replace: (
            replace(old, new) if new != out else os._exit(9)
        )
        write(encoders[0], out)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9 and not out.exists()
    write(encoders[1], out)
    assert (out / "notes.txt").read_text() == "mine" and encoder_hash(
        open_encoder(out)
    ) == encoder_hash(encoders[1])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["e (1)", "größe=2 #&'x", "a[b]*", "~"])
def test_any_name_of_a_folder(name, encoders, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for encoder in encoders:
        out = write(encoder, tmp_path / "home" / name)
        assert encoder_hash(open_encoder(out)) == encoder_hash(encoder)
    assert (
        write(encoders[0], "~/deep/er").name == "er"
        and (tmp_path / "home" / "deep" / "er" / MARK).is_file()
    )


def test_a_disk_that_cannot_be_written_is_one_sentence(encoders, tmp_path, monkeypatch):
    import ssl_parts.export.timm_dir as timm_dir

    out = write(encoders[0], tmp_path / "out")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(timm_dir, "save_sealed", full)
    with pytest.raises(
        ConfigError, match=r"cannot be written: .*No space left.*What was there before is untouched"
    ):
        write(encoders[1], out)
    assert encoder_hash(open_encoder(out)) == encoder_hash(encoders[0])
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"cannot be written|is there already"):
        write(encoders[0], tmp_path / "file" / "out")


def test_results_of_something_else_are_not_overwritten(encoders, tmp_path):
    write(encoders[0], tmp_path / "source")
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text('{"rows": {}}')
    with pytest.raises(
        ConfigError, match=r"results\.json is not of an export and would be overwritten"
    ):
        run_export(parse([f"source={tmp_path / 'source'}", "to=timm,state_dict", f"out={run}"]))
    assert (run / "results.json").read_text() == '{"rows": {}}'


def test_home_folders_in_the_command(encoders, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    write(encoders[0], tmp_path / "source")
    assert (
        run_export(parse(["source=~/source", "out=~/made", "to=state_dict"]))
        == tmp_path / "made" / "results.json"
    )
    assert (
        run_export(parse(["source=~/source", "to=state_dict"]))
        == tmp_path / "source" / "exports" / "results.json"
    )
    assert not (tmp_path / "~").exists()


CHANNELS = {
    "deep stem": dict(name="resnet18", small=True, width=0.0625, last_stage="layer1"),
    "resnet": dict(name="resnet18", width=0.0625, last_stage="layer1"),
    "mobilenet": dict(name="mobilenetv2_035", pad_type="same"),
    "vgg": dict(name="vgg11_bn"),
    "convnext": dict(name="convnext_atto", depths=[1, 1, 1, 1]),
    "vit": dict(name="vit_tiny_patch16_224", depth=1, img_size=32),
    "dinov3": dict(name="vit_small_patch16_dinov3", depth=1),
    "resnet d": dict(name="resnet50d", layers=[1, 1, 1, 1], width=0.125),
}


@pytest.mark.parametrize("case", list(CHANNELS))
def test_timm_adapts_an_export_to_other_channels_and_classes(case, tmp_path):
    """timm's rule: one channel gets the sum over RGB, so a grey image as RGB gives the same."""
    encoder = build_encoder(**CHANNELS[case])
    out = write(encoder, tmp_path / "out")
    grey = torch.rand(1, 1, SIZE, SIZE)
    rgb, one = (
        timm.create_model(f"local-dir:{out}", pretrained=True, in_chans=n).eval() for n in (3, 1)
    )
    with torch.no_grad():
        torch.testing.assert_close(one(grey), rgb(grey.expand(1, 3, -1, -1)), atol=1e-4, rtol=1e-3)
    four = timm.create_model(f"local-dir:{out}", pretrained=True, in_chans=4, num_classes=7).eval()
    with torch.no_grad():
        assert four(torch.rand(2, 4, SIZE, SIZE)).shape == (2, 7)
    config = json.loads((out / "config.json").read_text())
    assert re.fullmatch(r"[\w.]+", config["pretrained_cfg"]["first_conv"])
