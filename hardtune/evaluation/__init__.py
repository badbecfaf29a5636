"""Evaluating predictions: recall gaps, calibration, selective prediction, out-of-distribution detection."""

from hardtune.evaluation.calibration import fit_temperature, reliability
from hardtune.evaluation.comparison import Difference, compare, paired_difference
from hardtune.evaluation.diagnostics import Curves, Diagnostics, diagnose
from hardtune.evaluation.jackknife import left_out, recall_left_out
from hardtune.evaluation.metric import CORRUPTION_METRICS, METRICS, Metric, metric
from hardtune.evaluation.predictions import Predictions
from hardtune.evaluation.recall import class_recall
from hardtune.evaluation.selective import risk_coverage
from hardtune.evaluation.summary import MemberSummary, averaged_softmax, check_metrics, evaluate, evaluate_members

__all__ = [
    "CORRUPTION_METRICS",
    "METRICS",
    "Curves",
    "Diagnostics",
    "Difference",
    "MemberSummary",
    "Metric",
    "Predictions",
    "averaged_softmax",
    "check_metrics",
    "class_recall",
    "compare",
    "diagnose",
    "evaluate",
    "evaluate_members",
    "fit_temperature",
    "left_out",
    "metric",
    "paired_difference",
    "recall_left_out",
    "reliability",
    "risk_coverage",
]
