"""Scores of discovered parts, under the public name of this module."""

from evaluation.agreement import nmi_ari
from evaluation.discovered_parts import PartScores, judge_parts, keypoint_error

__all__ = ["PartScores", "judge_parts", "keypoint_error", "nmi_ari"]
