"""One encoder, one data set, one protocol of evaluation/PROTOCOLS.md: a table, and results.json
beside it.

    python launch/evaluate.py protocol=linear data=cub data.root=DIR encoder=resnet50 \

`--help` says more. `ssl-parts evaluate` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("evaluate")
