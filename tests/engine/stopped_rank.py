"""Run by tests as one of several processes: launch/pretrain.py in which rank 1 alone is told to
stop at a step.
"""

import os
import signal
import sys

from ssl_parts.jobs.pretrain import pretrain
from ssl_parts.pretraining.phase import Trainer
from ssl_parts.recipes.load import load_recipe

update = Trainer.update


def signalled(self: Trainer, step: int) -> None:
    if self.accelerator.process_index == 1 and step == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGUSR1)
    update(self, step)


Trainer.update = signalled
pretrain(load_recipe("quickstart", sys.argv[2:]))
