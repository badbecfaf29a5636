"""What is gained by abstaining where confidence is low.

Confidence is the largest softmax probability; ties are broken at random, in expectation.
"""

from __future__ import annotations

import math

import numpy as np

from hardtune.errors import InputError
from hardtune.evaluation.metric import metric
from hardtune.evaluation.predictions import Floats, Predictions
from hardtune.numeric import is_number


def risk_coverage(predictions: Predictions) -> tuple[Floats, Floats]:
    """The risk-coverage curve: coverage i/N, and the error rate among the i most confident samples, both (N,)."""
    _, share_correct = predictions.ranked
    kept = np.arange(1, len(share_correct) + 1)
    return kept / len(kept), np.cumsum(1 - share_correct) / kept


@metric("aurc", better="min")
def aurc(predictions: Predictions) -> float:
    """Area under the risk-coverage curve: its mean over coverages 1/N … 1 (Geifman & El-Yaniv 2017)."""
    return float(risk_coverage(predictions)[1].mean())


@metric("eaurc", better="min")
def eaurc(predictions: Predictions) -> float:
    """AURC in excess of the best possible at this error rate r, r + (1-r) ln(1-r) (Geifman et al. 2019, eq. 6); ≥ 0."""
    r = 1 - float(predictions.correct.mean())
    best = r + (1 - r) * math.log1p(-r) if r < 1 else 1.0
    return max(0.0, aurc(predictions) - best)  # below it only by rounding


def accuracy_at(predictions: Predictions, coverage: float) -> float:
    """Accuracy on the ceil(coverage · N) most confident samples; an InputError for a coverage outside (0, 1]."""
    if not is_number(coverage) or not 0 < coverage <= 1:
        raise InputError(f"coverage must be a share of the samples, above 0 and at most 1, got {coverage!r}")
    _, share_correct = predictions.ranked
    # Rounded first: 0.07 * 100 is 7.000000000000001, whose ceiling is 8.
    kept = max(1, math.ceil(round(coverage * len(share_correct), 9)))
    return float(share_correct[:kept].mean())


@metric("accuracy_at_80", better="max")
def accuracy_at_80(predictions: Predictions) -> float:
    """Accuracy on the most confident 80 %."""
    return accuracy_at(predictions, 0.80)


@metric("accuracy_at_90", better="max")
def accuracy_at_90(predictions: Predictions) -> float:
    """Accuracy on the most confident 90 %."""
    return accuracy_at(predictions, 0.90)


@metric("accuracy_at_95", better="max")
def accuracy_at_95(predictions: Predictions) -> float:
    """Accuracy on the most confident 95 %."""
    return accuracy_at(predictions, 0.95)


@metric("misclassification_auroc", better="max")
def misclassification_auroc(predictions: Predictions) -> float:
    """Probability that a correct prediction is more confident than a wrong one (Hendrycks & Gimpel 2017).

    If all are right or all are wrong, there is nothing to separate, and it is 0.5, as by guessing.
    """
    if predictions.correct.all() or not predictions.correct.any():
        return 0.5
    _, share_correct = predictions.ranked
    # For each rank, how many correct ones lie above it; those of equal confidence count half (Mann and Whitney 1947).
    above = np.cumsum(share_correct) - share_correct / 2
    share_wrong = 1 - share_correct
    return float(share_wrong @ above / (share_correct.sum() * share_wrong.sum()))
