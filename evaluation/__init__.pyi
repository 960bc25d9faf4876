from .agreement import nmi_ari as nmi_ari
from .discovered_parts import PartScores as PartScores
from .discovered_parts import judge_parts as judge_parts
from .discovered_parts import keypoint_error as keypoint_error
from .features import extract_features as extract_features
from .heads.build import build_head as build_head
from .knn import knn_classify as knn_classify
from .part_segmentation import few_shot_part_segmentation as few_shot_part_segmentation
from .protocols.bench import Bench as Bench
from .protocols.run import run_protocol as run_protocol
from .results import Measure as Measure
from .results import Results as Results
from .results import Row as Row
from .results import read_results as read_results
from .results import save_results as save_results
from .tables import format_table as format_table

__all__ = [
    "Bench",
    "Measure",
    "PartScores",
    "Results",
    "Row",
    "build_head",
    "extract_features",
    "few_shot_part_segmentation",
    "format_table",
    "judge_parts",
    "keypoint_error",
    "knn_classify",
    "nmi_ari",
    "read_results",
    "run_protocol",
    "save_results",
]
