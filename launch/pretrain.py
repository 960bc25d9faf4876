"""Part-aware self-supervised pretraining: discover parts, train, repeat, evaluate, export.

    accelerate launch launch/pretrain.py

`--help` says more. `ssl-parts pretrain` is the same command.
"""

from ssl_parts.commands.main import run

if __name__ == "__main__":
    run("pretrain")
