"""The table of supervised heads: each against plain fine-tuning and the linear probe, over seeds;
or ablations.

    python launch/heads.py --seeds 0 1 2                             the methods on drawn \

`--help` says more. `ssl-parts heads` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("heads")
