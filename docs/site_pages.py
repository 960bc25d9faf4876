"""Hook of mkdocs: pages that live outside docs/ become part of the site, and links are followed.

README.md of the repository is the first page. A link to another page of the site leads there; a
link to a file of the repository that is no page (a configuration, a licence) stays as its text, or
leads to `repo_url` where mkdocs.yml names one. So the same Markdown works here, in a checkout and
in an editor.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPO = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "index.md": "README.md",
    "protocols.md": "evaluation/PROTOCOLS.md",
    "benchmarks.md": "benchmarks/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of OUTSIDE."""
    for page, source in OUTSIDE.items():
        files.append(File.generated(config, page, content=(REPO / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point relative links at pages of the site, outside blocks of code."""
    uri = page.file.src_uri
    source = OUTSIDE.get(uri, f"docs/{uri}")
    pieces = re.split(r"(^```.*?^```)", markdown, flags=re.MULTILINE | re.DOTALL)
    pieces[::2] = [
        LINK.sub(lambda found: follow(found, uri, source, config), text) for text in pieces[::2]
    ]
    return "".join(pieces)


def follow(found: re.Match[str], uri: str, source: str, config: MkDocsConfig) -> str:
    """One link, as it reads on the page `uri` whose Markdown is `source` in the repository."""
    picture, text, link = found.groups()
    path, hash_sign, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", link):
        return found[0]
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = page_of(target)
    if page is not None:
        relative = posixpath.relpath(page, posixpath.dirname(uri) or ".")
        return f"{picture}[{text}]({relative}{hash_sign}{anchor})"
    if not (REPO / target).exists():
        return found[0]  # mkdocs warns of it
    if not config.repo_url:
        return text
    return f"[{text}]({config.repo_url.rstrip('/')}/blob/HEAD/{target})"


def page_of(target: str) -> str | None:
    """Name within the site of a file of the repository; None for one that is no part of it."""
    inside = {source: page for page, source in OUTSIDE.items()} | {"docs/README.md": "index.md"}
    if target in inside:
        return inside[target]
    return target.removeprefix("docs/") if target.startswith("docs/") else None
