"""report.html of one run or several; with several also a page and a table that compare them.

    python launch/report.py runs/quickstart
    python launch/report.py runs/* --out comparison.html

Works on a run that is still going on. A folder of launch/compare.py stands for all its seeds.
"""

import argparse
import sys
from pathlib import Path

from ssl_parts.errors import SslPartsError
from ssl_parts.report import compared_as_text, runs_below, write_comparison, write_report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        help="page of several runs (default: %(default)s)",
    )
    arguments = parser.parse_args()
    folders = [run for folder in arguments.runs for run in runs_below(folder)]
    try:
        for folder in folders:
            print(f"Report: {write_report(folder)}")
        if len(folders) > 1:
            print(
                f"\n{compared_as_text(folders)}\n\nComparison: {write_comparison(folders, arguments.out)}"
            )
    except (SslPartsError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
