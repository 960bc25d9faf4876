"""The table of supervised heads: each against plain fine-tuning and the linear probe, over seeds;
or ablations.

    python launch/heads.py --seeds 0 1 2                             the methods on drawn birds at 96 px
    python launch/heads.py --seeds 0 1 2 --arms ablations            each method whole, then without one thing at a time
    python launch/heads.py --seeds 0 1 2 --config-name cub10 data.root=DIR encoder.weights=FILE

Every arm and seed is a run of its own in runs/NAME/ARM/seed_S; finished ones are not done again, a
killed one goes on where it was. Writes runs/NAME/table.md and results.json after each seed.
"""

import argparse

from evaluation.finetuning.compose import finetune_command
from evaluation.finetuning.table import ABLATIONS, METHODS, finetune_table


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["methods"],
        help=f"methods ({', '.join(METHODS)}), ablations ({', '.join(ABLATIONS)}), or any of their names",
    )


if __name__ == "__main__":
    finetune_command(
        lambda _, given: finetune_table(
            given.config_name, given.overrides, given.arms, given.seeds
        ),
        __doc__,
        add_options,
    )
