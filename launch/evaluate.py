"""One encoder, one data set, one protocol of evaluation/PROTOCOLS.md: a table, and results.json
beside it.

python launch/evaluate.py protocol=linear data=cub data.root=DIR encoder=resnet50
encoder.weights=FILE python launch/evaluate.py protocol=parts data=carparts data.root=DIR
run.name="base + PARTICLE" encoder.weights=FILE python launch/evaluate.py protocol=discovery
protocol.run=runs/quickstart python launch/evaluate.py --show-config protocol=knn
"""

import argparse
import sys

import torch

from evaluation.protocols import run_protocol
from evaluation.results import keep_earlier, save_results
from evaluation.tables import format_table
from ssl_parts.commands.evaluate import EvaluateConfig, register
from ssl_parts.configuration.compose import command
from ssl_parts.engine.run_folder import commit


def act(config: EvaluateConfig, _: argparse.Namespace) -> None:
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    rows = run_protocol(config.protocol, config.bench(), config.run.name, commit())
    path = config.folder / "results.json"
    kept = keep_earlier(path, rows)
    save_results(path, "evaluate", rows, command_line=" ".join(sys.argv))
    print(f"\n{format_table(rows)}\n")
    if kept is not None:
        print(f"Earlier results, measured differently, are kept: {kept}")
    print(f"Results: {path}")


if __name__ == "__main__":
    register()
    command("evaluate", act, __doc__)
