"""The runs below a folder, one line each: state, time, result.

    python launch/runs.py

`--help` says more. `ssl-parts runs` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("runs")
