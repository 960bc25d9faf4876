"""The site of the documentation: pages, packages and section numbers that it names exist.

`.ci/check` builds it, with warnings as errors.
"""

import re
import runpy
from pathlib import Path

import pytest
import yaml

REPO = Path(__file__).resolve().parents[1]
DOCS = REPO / "docs"
CITED = re.compile(r"docs/method\.md,? (?:sections?|§) ?((?:\d+(?:\.\d+)*(?:,? (?:and|to) |, )?)+)")
TEXTS = [
    path
    for folder in ("ssl_parts", "evaluation", "launch", "benchmarks", "configs", "docs", "tests")
    for pattern in ("*.py", "*.yaml", "*.md")
    for path in sorted((REPO / folder).rglob(pattern))
] + sorted(REPO.glob("*.md"))


def pages_of(nav):
    for entry in nav:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else pages_of(value)


@pytest.fixture(scope="module")
def config():
    return yaml.safe_load((REPO / "mkdocs.yml").read_text())


def outside():
    text = (DOCS / "site_pages.py").read_text()
    return dict(re.findall(r'"(\w+\.md)": "([\w/]+\.md)"', text.partition("}")[0]))


def test_every_page_is_in_the_navigation_and_the_other_way_round(config):
    listed = set(pages_of(config["nav"]))
    written = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"README.md"}
    assert listed == written | set(outside())
    assert all((REPO / source).is_file() for source in outside().values())


def test_the_index_in_a_checkout_names_every_page():
    index = (DOCS / "README.md").read_text()
    missing = [page.name for page in DOCS.glob("*.md") if f"({page.name})" not in index]
    assert missing == ["README.md"]


def identifiers():
    pages = (DOCS / "api").glob("*.md")
    return [
        name for page in pages for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.M)
    ]


def test_packages_named_on_the_site_exist():
    for name in identifiers():
        path = REPO / name.replace(".", "/")
        assert (path / "__init__.py").is_file() or path.with_suffix(".py").is_file(), name


def test_every_package_is_on_the_site():
    packages = [path.parent for path in (REPO / "ssl_parts").glob("*/__init__.py")]
    named = {".".join(name.split(".")[:2]) for name in identifiers()}
    assert {f"ssl_parts.{path.name}" for path in packages} <= named and "evaluation" in named


def test_sections_of_the_methods_that_are_cited_exist():
    heads = re.findall(r"^#+ ([\d.]+?)\.? ", (DOCS / "method.md").read_text(), re.M)
    assert len(heads) == len(set(heads)) and {"1.4", "5", "7", "11.5"} <= set(heads)
    for path in TEXTS:
        if path == Path(__file__):
            continue
        for numbers in CITED.findall(path.read_text()):
            for number in re.findall(r"\d+(?:\.\d+)*", numbers):
                assert number in heads, f"{path.relative_to(REPO)} cites section {number}"


def test_no_document_is_cited_that_is_not_in_the_repository():
    absent = re.compile(r"\b(?:METHODS|DESIGN)(?:\.md)?:? ?(?:§ ?)?\d")
    citing = [str(path.relative_to(REPO)) for path in TEXTS if absent.search(path.read_text())]
    assert citing == []


def test_links_are_followed_to_pages_of_the_site():
    pytest.importorskip("mkdocs")
    hook = runpy.run_path(str(DOCS / "site_pages.py"))
    plain = type("Config", (), {"repo_url": ""})()
    hosted = type("Config", (), {"repo_url": "https://host/us/it/"})()

    def followed(text, uri, config=plain):
        page = type("Page", (), {"file": type("File", (), {"src_uri": uri})()})()
        return hook["on_page_markdown"](text, page, config, None)

    assert followed("[a](docs/use.md#timm)", "index.md") == "[a](use.md#timm)"
    assert followed("[a](../README.md#x)", "use.md") == "[a](index.md#x)"
    assert followed("![a](docs/images/floors.svg)", "index.md") == "![a](images/floors.svg)"
    assert followed("[a](../docs/method.md)", "protocols.md") == "[a](method.md)"
    assert followed("[a](../../evaluation/PROTOCOLS.md)", "api/data.md") == "[a](../protocols.md)"
    assert followed("[a](LICENSE)", "index.md") == "a"
    assert (
        followed("[a](LICENSE)", "index.md", hosted) == "[a](https://host/us/it/blob/HEAD/LICENSE)"
    )
    assert followed("[a](#b) [c](https://d/e)", "use.md") == "[a](#b) [c](https://d/e)"
    assert (
        followed("```text\n[a](../README.md)\n```", "use.md") == "```text\n[a](../README.md)\n```"
    )


def test_prior_art_is_cited_and_named_on_the_first_page():
    """DetCon, and the exchange of backgrounds between views: BG_Swaps, DiLo, CVSA."""
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text())["references"]
    urls = {reference.get("url") for reference in cited}
    for number in ("2103.10957", "2103.12719", "2004.06638", "2106.15788"):
        assert f"https://arxiv.org/abs/{number}" in urls
        assert number in (REPO / "README.md").read_text()
