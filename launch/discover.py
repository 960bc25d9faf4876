"""Find the parts of every image: ids, a contact sheet and statistics, without training anything.

    python launch/discover.py data.root=DIR encoder=mobilenetv2_100 encoder.weights=FILE
    python launch/discover.py data=cub data.root=DIR encoder.weights=FILE parts=dataset parts.k=16
    run.name=cub_parts
    torchrun --nproc_per_node 2 launch/discover.py ...        two processes share the images; on GPUs accelerate launch
    python launch/discover.py ... run.png=true                also one palette PNG an image
    python launch/discover.py ... run.fitted=runs/cub_parts/parts data.split=test        the same parts in other images

Killed or stopped, the same command goes on where it was. Ids: runs/NAME/parts (`PartStore.open`),
pictures: runs/NAME/parts.png, numbers: runs/NAME/results.json.
"""

import argparse

from evaluation.tables import format_measure
from ssl_parts.commands.discover import DiscoverConfig, discover, register
from ssl_parts.configuration.compose import command


def act(config: DiscoverConfig, _: argparse.Namespace) -> None:
    results = discover(config)
    if results is None:
        return
    for name, value in results.extra["statistics"].items():
        print(f"{name:>20}  {value:.4g}")
    for row in results.rows:
        for name, measure in row.values.items():
            print(f"{name:>20}  {format_measure(measure)} %")
    print(f"Parts: {config.folder / 'parts'}")
    if config.run.pictures:
        print(f"Pictures: {config.folder / 'parts.png'}")
    print(f"Results: {config.folder / 'results.json'}")


if __name__ == "__main__":
    register()
    command("discover", act, __doc__)
