"""Part-aware self-supervised pretraining: discover parts, train, repeat, evaluate, export.

    accelerate launch launch/pretrain.py                # the quickstart: about five minutes on two cores
    accelerate launch launch/pretrain.py data=cub data.root=DIR encoder=mobilenetv2_100
    encoder.weights=FILE accelerate launch launch/pretrain.py --config-name folder data.root=DIR
    accelerate launch launch/pretrain.py --config-name particle_r50_cub data.root=DIR
    encoder.weights=FILE

Killed or stopped, the same command goes on where it was.
"""

from ssl_parts.configuration.compose import command
from ssl_parts.jobs.pretrain import pretrain

if __name__ == "__main__":
    command("quickstart", lambda config, _: pretrain(config), __doc__)
