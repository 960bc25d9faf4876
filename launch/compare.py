"""The table that says what PARTICLE gained: base, control and result over several seeds, with
mean and spread.

    python launch/compare.py --seeds 0 1 2

`--help` says more. `ssl-parts compare` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("compare")
