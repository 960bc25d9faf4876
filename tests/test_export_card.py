"""The model card: a page for people, safe in YAML and Markdown, without anything of the machine it
was made on.
"""

import json
import re

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_parts.encoders import build_encoder
from ssl_parts.export.card import facts_of_run, model_card, size_of_run

SECTIONS = ["How to load it", "How it was trained", "Results", "Licence", "Limits"]


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder("resnet18", small=True, width=0.0625, last_stage="layer1")


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "home" / "me" / "runs" / "birds"
    (folder / "round_000").mkdir(parents=True)
    (folder / "round_000" / "encoder.safetensors").write_bytes(b"x")
    config = {
        "run": {"name": "birds", "dir": str(folder.parent), "seed": 3},
        "data": {"name": "cub", "root": str(tmp_path / "secret" / "images"), "size": 96},
        "encoder": {"name": "resnet18", "weights": str(tmp_path / "secret" / "base.pth")},
        "objective": {"method": "particle"},
        "train": {"epochs": 4, "batch": 60, "lr": 0.001},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = {
        "base": {
            "values": {
                "linear": {"mean": 0.827, "sd": 0.0},
                "linear_few": {"mean": 0.652, "sd": 0.021},
            }
        },
        "base + PARTICLE": {
            "values": {"linear": {"mean": 0.83}},
            "note": f"features kept in {tmp_path}/cache at 96 px",
        },
    }
    (folder / "results.json").write_text(json.dumps({"commit": "abc123", "rows": rows}))
    return folder


def test_a_person_finds_what_it_is_how_it_was_made_and_what_it_is_not_for(encoder, run):
    card = model_card(encoder, facts_of_run(run), "import timm")
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == SECTIONS
    for said in (
        "# birds",
        "trained on cub with ssl-parts, without labels",
        "arXiv 2309.13822",
        "| image size in pixels | 96 |",
        "| started from | base.pth |",
        "| pairs per step | 60 |",
        "| seed | 3 |",
        "| commit of the code | abc123 |",
        "| encoder | linear, all labels | linear, few labels |",
        "| base | 82.7 | 65.2 ± 2.1 |",
        "| base + PARTICLE | 83.0 |  |",
        "million parameters",
        "of one run and one seed",
    ):
        assert said in card, said
    assert "```json" not in card and "```yaml" not in card and len(card.splitlines()) < 75
    assert size_of_run(run) == 96


def test_nothing_of_the_machine_is_in_it(encoder, run, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    (run / "config.yaml").write_text(
        (run / "config.yaml").read_text().replace("name: cub", "name: ${oc.env:SECRET_TOKEN}")
    )
    card = model_card(encoder, facts_of_run(run), "import timm")
    assert str(tmp_path) not in card and "secret" not in card and "hunter2" not in card
    assert not re.search(
        r"(?<![\w.:/])/\w+/\w+", card.split("## How to load it")[1].split("```")[2]
    )


def test_a_card_of_bare_weights_claims_no_training(encoder):
    card = model_card(encoder, {}, "import timm")
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == SECTIONS
    assert "did not record its training" in card and "without labels" not in card
    assert "Nothing was recorded." in card and "Nothing was measured" in card
    other = model_card(encoder, {"run": "x", "method": "simclr"}, "import timm")
    assert "objective simclr" in other and "PARTICLE" not in other


@pytest.mark.parametrize("licence", ["apache-2.0", "MIT", "CC-BY-NC-4.0"])
def test_licences_of_the_hub_go_in_by_their_name(licence, encoder):
    assert front_matter(model_card(encoder, {"licence": licence}, ""))["license"] == licence.lower()


TEXTS = [
    "see: LICENSE",
    "# none",
    "[x",
    "a\nb: c",
    '"',
    "yes",
    "null",
    "- x",
    "{a: b}",
    "MIT: no | yes",
    "---\nx: 1",
    "@me",
    "%",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_licence_text_is_safe(text, encoder):
    about = front_matter(model_card(encoder, {"licence": text}, ""))
    assert about["license"] == "other" and about["license_name"] == " ".join(text.split())
    assert set(about) == {"library_name", "license", "license_name", "pipeline_tag", "tags"}


@settings(max_examples=60, deadline=None, database=None)
@given(
    licence=st.text(min_size=1, max_size=40), name=st.text(max_size=40), arm=st.text(max_size=30)
)
def test_any_text_keeps_the_page_whole(encoder, licence, name, arm):
    rows = {arm: {"values": {"linear": {"mean": 0.5, "sd": 0.1}}}}
    card = model_card(
        encoder, {"licence": licence, "run": name, "data": name, "results": rows}, "import timm"
    )
    about = front_matter(card)
    assert about["library_name"] == "timm" and isinstance(about["license"], str)
    assert re.findall(r"^## (.+)$", card, re.MULTILINE) == SECTIONS
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(len(re.findall(r"(?<!\\)\|", line)) in (3,) for line in rows)


@pytest.mark.parametrize("broken", ["results.json", "environment.json"])
def test_damaged_records_are_left_out(broken, encoder, run):
    (run / broken).write_text("{")
    assert "## Limits" in model_card(encoder, facts_of_run(run), "")
    for rows in (
        [],
        {"base": 3},
        {"base": {"values": 3}},
        {"base": {"values": {"linear": {"mean": "x"}}}},
        "x",
        None,
    ):
        (run / "results.json").write_text(json.dumps({"rows": rows}))
        assert "Nothing was measured" in model_card(encoder, facts_of_run(run), "")
