"""Is the machine ready, and is the data what it should be? Versions, devices, two processes that
talk to each other; counts against the published ones, what is missing, what does not decode; where
the time of a training step goes.

    python launch/doctor.py --machine                                   # no data is looked at
    python launch/doctor.py --speed data=cub data.root=DIR encoder=resnet50   # loading, views and step by themselves
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

from ssl_parts.configuration.compose import Config, command
from ssl_parts.doctor.data import examine
from ssl_parts.doctor.machine import examine_machine
from ssl_parts.doctor.speed import measure_throughput


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--machine", action="store_true", help="look at the machine only")
    parser.add_argument(
        "--speed", action="store_true", help="time loading, views and step of training on the data"
    )
    parser.add_argument(
        "--decode", action="store_true", help="decode every image and read its annotations"
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="FILE",
        help="write a contact sheet of 24 images with annotations",
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="decoding threads (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("doctor"),
        help="folder of results.json (default: %(default)s)",
    )


def act(config: Config, options: argparse.Namespace) -> None:
    machine = examine_machine()
    print(machine)
    found = {"machine": asdict(machine), "sound": machine.sound}
    if not options.machine:
        report = examine(config.data, options.decode, options.sheet, options.workers)
        print(report)
        found = asdict(report) | {
            "machine": asdict(machine),
            "sound": report.sound and machine.sound,
        }
        if options.speed:
            speed = measure_throughput(config)
            print(
                f"Training {config.encoder.name} on it, {config.train.batch} pairs a step\n{speed}"
            )
            found["speed"] = asdict(speed) | {"bottleneck": speed.bottleneck}
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    results.write_text(json.dumps(found, indent=1))
    drawn = f", {options.sheet}" if not options.machine and options.sheet else ""
    print(f"written: {results}{drawn}")
    sys.exit(0 if found["sound"] else 1)


if __name__ == "__main__":
    command("quickstart", act, __doc__, add_options)
