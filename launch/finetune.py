"""Supervised training with one of the fine-grained heads: linear, tdsa, coarse2fine, scrim, upm.

    accelerate launch launch/finetune.py head=tdsa
    python launch/finetune.py head=scrim data=cub data.root=DIR encoder=mobilenetv2_100
    encoder.weights=FILE python launch/finetune.py head=linear train.frozen=true
    encoder.weights=runs/quickstart run.name=probe

Writes runs/NAME/: results.json (accuracy on all test images, overlap of its evidence with boxes and
parts), localization.png, head.safetensors. Killed or stopped, the same command goes on where it was.
"""

import evaluation.finetuning as finetuning
from evaluation.finetuning.compose import finetune_command

if __name__ == "__main__":
    finetune_command(lambda config, _: finetuning.finetune(config), __doc__)
