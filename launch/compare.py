"""The table that says what PARTICLE gained: base, control and result over several seeds, with mean
and spread.

    python launch/compare.py --seeds 0 1 2
    python launch/compare.py --seeds 0 1 2 3 --jobs 2
    python launch/compare.py --arms instance instance_views detcon one_round
    python launch/compare.py run.name=cub data=cub data.root=DIR encoder=mobilenetv2_100
    encoder.weights=FILE

Arms: instance (contrast of whole images; the default), instance_views (the same with PARTICLE's
exchanged backgrounds), simclr, moco, byol, dino, detcon (on Felzenszwalb masks), one_round
(PARTICLE without a second discovery). All start from the same base and take as many steps as all
rounds together, with the same learning rate.

Each seed is a whole run (another base, other batches, other label draws) in runs/NAME/seed_S and
is continued where it stopped. With --jobs, so many seeds run at once, each in a process of its own
that shares the cores (or the GPU) and writes to runs/NAME/seed_S.log. Writes runs/NAME/table.md,
table.png and results.json.
"""

import argparse

from ssl_parts.comparison.compare import compare
from ssl_parts.configuration.compose import command


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that run at once (default: 1)")
    parser.add_argument(
        "--arms",
        nargs="*",
        metavar="ARM",
        help="beside base and PARTICLE; default: those of the recipe",
    )


if __name__ == "__main__":
    command(
        "quickstart",
        lambda config, given: compare(config, given.seeds, given.arms, given.jobs),
        __doc__,
        add_options,
    )
