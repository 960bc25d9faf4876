"""report.html of one run or several; with several also a page and a table that compare them.

    python launch/report.py runs/quickstart

`--help` says more. `ssl-parts report` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("report")
