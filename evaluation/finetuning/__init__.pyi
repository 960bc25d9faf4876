from .config import AugmentConfig as AugmentConfig
from .config import FinetuneConfig as FinetuneConfig
from .config import FinetuneRun as FinetuneRun
from .config import FinetuneTrain as FinetuneTrain
from .measure import classify as classify
from .measure import measure_classifier as measure_classifier
from .table import ARMS as ARMS
from .table import finetune_table as finetune_table
from .train import Finetuner as Finetuner
from .train import finetune as finetune

__all__ = [
    "ARMS",
    "AugmentConfig",
    "FinetuneConfig",
    "FinetuneRun",
    "FinetuneTrain",
    "Finetuner",
    "classify",
    "finetune",
    "finetune_table",
    "measure_classifier",
]
