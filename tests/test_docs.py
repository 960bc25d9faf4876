"""The documentation does not lie: shell blocks parse and, where marked, run; links, files and quoted messages exist."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from PIL import Image

from ssl_parts.config import flatten, load_config

REPO = Path(__file__).resolve().parents[1]
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- smoke( slow)?:(.*?)-->\s*\n)?```(?:bash|sh|shell|console)\n(.*?)```", re.DOTALL)
TRAINING = ("pretrain", "compare")  # scripts whose words are keys of `Config`


class Block(NamedTuple):
    page: str
    text: str
    smoke: list[str] | None  # None: is not run
    slow: bool


def blocks_of(page):
    found = BLOCK.findall(page.read_text())
    marked = [bool(re.search(r"<!-- smoke", m)) for m in _marks(page)]
    return [
        Block(page.name, text, mark.split() if run else None, bool(slow))
        for (slow, mark, text), run in zip(found, marked)
    ]


def _marks(page):
    return [match.group().split("```")[0] for match in BLOCK.finditer(page.read_text())]


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def launches(text):
    """(script, words behind it) of every launch command in a block."""
    for line in re.split(r"\n|&&|;", text.replace("\\\n", " ")):
        words = shlex.split(line, comments=True)
        for i, word in enumerate(words):
            if re.fullmatch(r"launch/\w+\.py", word):
                yield word, words[i + 1 :]


LAUNCHES = [(block.page, script, words) for block in BLOCKS for script, words in launches(block.text)]


def shown(value):
    return value if isinstance(value, str) else " ".join(value)[:60]


@pytest.mark.parametrize(("page", "script", "words"), LAUNCHES, ids=shown)
def test_commands_name_what_exists(page, script, words, tmp_path):
    source = REPO / script
    assert source.is_file(), f"{page} tells to run {script}"
    known = source.read_text() + (REPO / "ssl_parts" / "config.py").read_text() + finetune_source()
    for word in words:
        if word.startswith("--"):
            assert f'"{word.partition("=")[0]}"' in known, f"{script} has no option {word}"
    if source.stem in TRAINING:
        check_training_words(words, tmp_path)


def finetune_source():
    path = REPO / "ssl_parts" / "training" / "finetune_config.py"
    return path.read_text() if path.is_file() else ""


def check_training_words(words, folder):
    (folder / "FILE").touch()
    recipe = words[words.index("--config-name") + 1] if "--config-name" in words else "quickstart"
    overrides = [w for w in words if re.match(r"[a-z_]+(\.[a-z_0-9]+)*=", w)]
    placed = [re.sub(r"=(DIR|FILE|DETCON\.pth|PATH)$", f"={folder / 'FILE'}", word) for word in overrides]
    config = load_config(recipe, placed)
    keys = flatten(config)
    assert all(w.partition("=")[0] in keys or "." not in w.partition("=")[0] for w in placed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not link.startswith(("http", "mailto:")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for name in re.findall(r"`((?:configs|launch|ssl_parts|evaluation|tests)/[\w./]+\.(?:py|yaml|md))`", text):
        if "NAME" not in name:
            assert (REPO / name).is_file(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_of_other_pages_exist(page):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text()):
        target = page.parent / link if link else page
        if link.startswith("http"):
            continue
        heads = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
        assert anchor in slugs, f"{page.name} links to {link}#{anchor}"


def test_keys_named_in_docs_exist():
    """`train.lr=`, `parts.k` and the like in running text."""
    known = set(flatten(load_config("quickstart")))
    rooms = {key.split(".")[0] for key in known}
    for page in PAGES:
        for key in re.findall(rf"`((?:{'|'.join(rooms)})\.[a-z_.]+?)(?:=[^`]*)?`", page.read_text()):
            if key.endswith((".png", ".")):
                continue
            assert key in known or any(k.startswith(key + ".") for k in known), f"{page.name} names the key {key}"


def messages():
    """Constant pieces of all strings of the sources, implicit joins included; {} for what is filled in."""
    texts = []
    for path in [*(REPO / "ssl_parts").rglob("*.py"), *(REPO / "evaluation").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_quoted_messages_are_those_of_the_program():
    texts = messages()
    quoted = re.findall(r"^### `([^`]*)`", (REPO / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    for message in (m for m in quoted if " " in m):
        pattern = ".*".join(re.escape(piece.strip()) for piece in message.split("…"))
        assert any(re.search(pattern, text, re.DOTALL) for text in texts), f"no message like {message!r}"
    assert len(quoted) >= 5


def test_citation_has_the_five_papers():
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text())
    numbers = {i["value"] for ref in cited["references"] for i in ref.get("identifiers", [])}
    assert numbers == {"arXiv:2309.13822", "arXiv:2102.00367", "arXiv:1909.02680", "arXiv:1902.09941"}
    assert any(ref.get("journal") == "Multimedia Tools and Applications" for ref in cited["references"])
    assert all(ref["authors"] and ref["title"] for ref in cited["references"])


# ---------------------------------------------------------------- marked blocks, run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder as a fresh clone looks to a command, with two classes of drawn birds as somebody's photographs."""
    from ssl_parts.data import build_dataset
    from ssl_parts.encoders import build_encoder
    from ssl_parts.export import export_encoder

    folder = tmp_path_factory.mktemp("place")
    for name in ("launch", "configs"):
        (folder / name).symlink_to(REPO / name)
    birds = build_dataset("synthetic_birds", None, "train", images=20, size=48, species=4)
    for i in range(len(birds)):
        path = folder / "images" / ("train", "test")[i >= 14] / ("crow", "jay")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(birds[i].image.permute(1, 2, 0).numpy()).save(path)
    encoder = build_encoder("resnet18", small=True, width=0.125, last_stage="layer3")
    export_encoder(encoder, folder / "weights", to="timm", image_size=48)
    return folder


def as_run(text, smoke):
    """The block with capitals replaced, and further words put behind its launch command (a later one wins)."""
    lines = []
    swaps = {word.split("=")[0]: word.split("=", 1)[1] for word in smoke if word.split("=")[0].isupper()}
    added = [word for word in smoke if not word.split("=")[0].isupper()]
    for line in text.strip().replace("\\\n", " ").splitlines():
        words = [_swapped(word, swaps) for word in shlex.split(line, comments=True)]
        keys = {word.split("=")[0] for word in added}
        kept = [word for word in words if "=" not in word or word.split("=")[0] not in keys]
        new = [word for word in added if not word.endswith("=null")]
        lines.append(shlex.join([*kept, *new] if any(w.startswith("launch/") for w in words) else kept))
    return "\n".join(lines)


def _swapped(word, swaps):
    head, equals, value = word.rpartition("=")
    return f"{head}{equals}{swaps.get(value, value)}"


def run(block, place):
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": tools, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = ["bash", "-e", "-c", as_run(block.text, block.smoke)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{block.page}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


RUN = [page for page in PAGES if any(block.smoke is not None for block in BLOCKS if block.page == page.name)]


def test_marked_blocks_run(place):
    """Page by page in reading order, the tutorial first: what it trains, other pages look at."""
    slow = os.environ.get("SSL_PARTS_SLOW_DOCS") == "1"
    order = sorted(RUN, key=lambda page: page.name != "tutorial.md")
    for page in order:
        for block in (b for b in BLOCKS if b.page == page.name and b.smoke is not None and (slow or not b.slow)):
            if "mine_again" in block.text and not (place / "runs" / "mine_again").exists():
                (place / "runs" / "mine_again").symlink_to(place / "runs" / "mine")
            run(block, place)
    for made in ("runs/mine/report.html", "shown.png", "k12.png", "comparison.html", "runs/mine/pictures/index.json"):
        assert (place / made).is_file(), made
