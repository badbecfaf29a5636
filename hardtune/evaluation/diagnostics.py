"""Curves and tables behind a trial's figures, small enough to keep for every trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.evaluation.calibration import Reliability, class_ece, class_overconfidence
from hardtune.evaluation.predictions import Floats, Predictions, checked_members
from hardtune.evaluation.selective import risk_coverage
from hardtune.evaluation.summary import averaged_softmax

COVERAGES = np.arange(1, 101) / 100
"""Where risk-coverage curves are sampled."""


@dataclass(frozen=True, eq=False)
class Curves:
    """One predictor's reliability and risk-coverage curves."""

    confidence: Floats
    """(B,) mean confidence in each non-empty bin of the reliability diagram, ascending."""
    accuracy: Floats
    """(B,) accuracy in the same bins."""
    share: Floats
    """(B,) share of the samples in each bin; sums to 1."""
    risk: Floats
    """(100,) error rate among the most confident 1 %, 2 %, … 100 % of the samples."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Diagnostics of an ensemble's predictions."""

    members: Curves
    """All members' predictions pooled; risk averaged over members."""
    ensemble: Curves
    """Curves of the averaged softmax."""
    class_ece: Floats
    """(K,) calibration error of p_k as the probability of class k, mean over members."""
    class_overconfidence: Floats
    """(K,) mean confidence minus recall over each class's samples, mean over members; NaN without samples."""


def diagnose(logits: ArrayLike, labels: ArrayLike) -> Diagnostics:
    """Diagnostics of an ensemble's logits (M, N, K) on labels (N,).

    Raises:
        InputError: As :func:`hardtune.evaluation.evaluate_members`.
    """
    confidence, correct, risk, *_ = _said(averaged_softmax(logits), labels)
    ensemble = _curves(confidence, correct, risk)
    # Keep only this of each member: all their predictions take many times the memory of their logits.
    members = zip(*(_said(one, labels) for one in checked_members(logits)), strict=True)
    confidence, correct, risk, ece, overconfidence = (np.stack(part) for part in members)
    return Diagnostics(
        _curves(confidence.ravel(), correct.ravel(), risk.mean(axis=0)),
        ensemble,
        ece.mean(axis=0),
        overconfidence.mean(axis=0),
    )


def _said(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, NDArray[np.bool_], Floats, Floats, Floats]:
    """One predictor's confidence (N,), correct (N,), risk (100,), and class-wise (K,) ECE and overconfidence."""
    one = Predictions.of(logits, labels)
    return one.confidence, one.correct, _risk(one), class_ece(one), class_overconfidence(one)


def _curves(confidence: Floats, correct: NDArray[np.bool_], risk: Floats) -> Curves:
    bins = Reliability.of(confidence, correct)
    filled = bins.counts > 0
    return Curves(bins.confidence[filled], bins.accuracy[filled], bins.counts[filled] / bins.counts.sum(), risk)


def _risk(predictions: Predictions) -> Floats:
    risk = risk_coverage(predictions)[1]
    kept = np.ceil(np.round(COVERAGES * len(risk), 9)).astype(np.int64)
    return np.asarray(risk[kept - 1])
