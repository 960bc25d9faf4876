"""Commands, keys, links, files and messages that the documentation names exist; test_docs_run runs
its blocks.
"""

import ast
import re

import pytest
import yaml
from doc_blocks import PAGES, REPO, SHELL_BLOCKS, commands

from ssl_parts.commands.command import load, parse_words
from ssl_parts.commands.table import COMMANDS
from ssl_parts.configuration.compose import flatten, owners_of
from ssl_parts.recipes.load import load_recipe


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
def test_commands_name_what_exists(page, script, words):
    assert (REPO / script).is_file(), f"{page} tells to run {script}"
    command = COMMANDS[(REPO / script).stem]
    options = parse_words(command, [word for word in words if word != "..."])
    if command.compose is not None:
        load(command.compose)(options.config_name, options.words)


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
            section = any(k.startswith(key + ".") for k in known)
            # a key of another choice of a group, such as parts=dataset
            assert key in known or section or owners_of(key), f"{page.name} names the key {key}"


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
