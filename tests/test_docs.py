"""Commands, keys, links, files and messages that the documentation names exist; test_docs_run runs
its blocks.
"""

import ast
import re

import pytest
import yaml
from doc_blocks import PAGES, REPO, SHELL_BLOCKS, commands

from ssl_parts.configuration.compose import flatten
from ssl_parts.recipes.load import load_recipe

TRAINING = ("pretrain", "compare")  # scripts whose words are keys of `Config`


def launches(text):
    """(script, words behind it) of every launch command in a block."""
    for words in commands(text):
        for i, word in enumerate(words):
            if re.fullmatch(r"launch/\w+\.py", word):
                yield word, words[i + 1 :]


LAUNCHES = [
    (block.page, script, words) for block in SHELL_BLOCKS for script, words in launches(block.text)
]


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
    placeholder = r"=(DIR|FILE|CUB|AIRCRAFT|CARS|DETCON\.pth|PATH|SHARDS|runs/.*)$"
    placed = [re.sub(placeholder, f"={folder / 'FILE'}", word) for word in overrides]
    config = load_recipe(recipe, placed)
    keys = flatten(config)
    assert all(w.partition("=")[0] in keys or "." not in w.partition("=")[0] for w in placed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not link.startswith(("http", "mailto:")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for name in re.findall(
        r"`((?:configs|launch|ssl_parts|evaluation|tests)/[\w./]+\.(?:py|yaml|md))`", text
    ):
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
    known = set(flatten(load_recipe("quickstart")))
    rooms = {key.split(".")[0] for key in known}
    for page in PAGES:
        for key in re.findall(
            rf"`((?:{'|'.join(rooms)})\.[a-z_.]+?)(?:=[^`]*)?`", page.read_text()
        ):
            if key.endswith((".png", ".")):
                continue
            assert key in known or any(k.startswith(key + ".") for k in known), (
                f"{page.name} names the key {key}"
            )


def messages():
    """Constant pieces of all strings of the sources, implicit joins included; {} for what is
    filled in.
    """
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
    quoted = re.findall(
        r"^### `([^`]*)`", (REPO / "docs" / "troubleshooting.md").read_text(), re.MULTILINE
    )
    for message in (m for m in quoted if " " in m):
        pattern = ".*".join(re.escape(piece.strip()) for piece in message.split("…"))
        assert any(re.search(pattern, text, re.DOTALL) for text in texts), (
            f"no message like {message!r}"
        )
    assert len(quoted) >= 5


def test_citation_has_the_five_papers():
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text())
    numbers = {i["value"] for ref in cited["references"] for i in ref.get("identifiers", [])}
    assert numbers == {
        "arXiv:2309.13822",
        "arXiv:2102.00367",
        "arXiv:1909.02680",
        "arXiv:1902.09941",
    }
    assert any(
        ref.get("journal") == "Multimedia Tools and Applications" for ref in cited["references"]
    )
    assert all(ref["authors"] and ref["title"] for ref in cited["references"])
