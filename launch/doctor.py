"""Is the data what it should be? Counts against the published ones, what is missing, what does not decode.

    python launch/doctor.py data=cub data.root=DIR
    python launch/doctor.py data=folder data.root=DIR --decode          # decode every image
    python launch/doctor.py data=carparts data.root=DIR --sheet parts.png

Ends with status 1 where something is missing or damaged.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from ssl_parts.config import Config, command
from ssl_parts.doctor import examine


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--decode", action="store_true", help="decode every image and read its annotations")
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write a contact sheet of 24 images with annotations"
    )
    parser.add_argument("--workers", type=int, default=2, help="decoding threads (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("doctor"), help="folder of results.json (default: %(default)s)"
    )


def act(config: Config, options: argparse.Namespace) -> None:
    report = examine(config.data, options.decode, options.sheet, options.workers)
    print(report)
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    results.write_text(json.dumps(asdict(report) | {"sound": report.sound}, indent=1))
    print(f"written: {results}" + (f", {options.sheet}" if options.sheet else ""))
    sys.exit(0 if report.sound else 1)


if __name__ == "__main__":
    command("quickstart", act, __doc__, add_options)
