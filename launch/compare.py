"""The table that says what PARTICLE gained: base, control and result over several seeds, with mean and spread.

    python launch/compare.py --seeds 0 1 2
    python launch/compare.py run.name=cub data=cub data.root=DIR encoder=mobilenetv2_100 encoder.weights=FILE

Each seed is a whole run (another base, other batches, other label draws) in runs/NAME/seed_S and is continued where it
stopped. Writes runs/NAME/results.json and table.md.
"""

import argparse

from ssl_parts.config import command
from ssl_parts.training.compare import compare


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")


if __name__ == "__main__":
    command("quickstart", lambda config, arguments: compare(config, arguments.seeds), __doc__, add_options)
