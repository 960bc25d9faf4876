"""Sections of the report made of what `report_pictures` drew, or one that says that nothing is
drawn yet.
"""

import json
from pathlib import Path
from typing import Any

from ssl_parts.report.content import Picture, Section, plain_table
from ssl_parts.report.images import data_uris
from ssl_parts.report.run_files import RunFiles

VERSION = 1
NOT_DRAWN = (
    "Pictures that need the encoder and the images (part atlas, views, principal components, neighbours, mistakes) are "
    "drawn when a run finishes; they are not there yet."
)


def album_sections(run: RunFiles, budget: int) -> list[Section]:
    """One section for each of pictures/index.json, its pictures together no larger than `budget`
    bytes.
    """
    folder = run.folder / "pictures"
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if index["version"] != VERSION:
            raise ValueError(f"version {index['version']}")
        found = data_uris(
            [folder / p["file"] for s in index["sections"] for p in s["pictures"]], budget
        )
        return [_section(section, folder, found) for section in index["sections"]]
    except FileNotFoundError:
        return [Section("pictures", "Pictures", gaps=[NOT_DRAWN])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = (
            f"pictures/index.json cannot be read ({type(error).__name__}: {error}); "
            "remove the folder to draw it again."
        )
        return [Section("pictures", "Pictures", gaps=[said])]


def _section(
    raw: dict[str, Any], folder: Path, found: dict[Path, tuple[str, int, int] | str]
) -> Section:
    table = raw["table"]
    tables = [plain_table(table["heads"], table["rows"], table["caption"])] if table else []
    pictures = [_picture(p["title"], p["text"], found[folder / p["file"]]) for p in raw["pictures"]]
    return Section(
        raw["anchor"],
        raw["title"],
        raw["texts"],
        tables=tables,
        pictures=pictures,
        gaps=raw["gaps"],
    )


def _picture(title: str, text: str, found: tuple[str, int, int] | str) -> Picture:
    return (
        Picture(title, text, gap=found) if isinstance(found, str) else Picture(title, text, *found)
    )
