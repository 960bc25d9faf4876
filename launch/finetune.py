"""Supervised training with one of the fine-grained heads: linear, tdsa, coarse2fine, scrim, upm.

    accelerate launch launch/finetune.py head=tdsa

`--help` says more. `ssl-parts finetune` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("finetune")
