"""Curves and tables behind a trial's figures, small enough to keep for every trial."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hardtune.evaluation.calibration import class_ece, class_overconfidence, reliability
from hardtune.evaluation.predictions import Floats, Predictions
from hardtune.evaluation.selective import risk_coverage
from hardtune.evaluation.summary import averaged_softmax

COVERAGES = np.arange(1, 101) / 100
"""Where risk-coverage curves are read."""


@dataclass(frozen=True, eq=False)
class Curves:
    """What one predictor's calibration and abstention look like."""

    confidence: Floats
    """(B,) mean confidence of each filled bin of the reliability diagram, rising."""
    accuracy: Floats
    """(B,) of the same bins."""
    share: Floats
    """(B,) of the samples that are in each bin; sums to 1."""
    risk: Floats
    """(100,) error rate among the most confident 1 %, 2 %, … 100 % of the samples."""


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Of an ensemble's predictions on labelled samples."""

    members: Curves
    """All members' predictions pooled; risk averaged over members."""
    ensemble: Curves
    """Of the averaged softmax."""
    class_ece: Floats
    """(K,) calibration error of p_k as the probability of class k, mean over members."""
    class_overconfidence: Floats
    """(K,) mean confidence minus recall over each class's samples, mean over members; NaN without samples."""


def diagnose(logits: ArrayLike, labels: ArrayLike) -> Diagnostics:
    """Diagnostics of an ensemble's logits (M, N, K) on labels (N,).

    Raises:
        InputError: As :func:`hardtune.evaluation.evaluate_members`.
    """
    averaged = averaged_softmax(logits)
    members = [Predictions.of(one, labels) for one in np.asarray(logits)]
    pooled = Predictions(
        np.concatenate([one.log_probabilities for one in members]), np.concatenate([one.labels for one in members])
    )
    ensemble = Predictions.of(averaged, labels)
    return Diagnostics(
        _curves(pooled, np.mean([_risk(one) for one in members], axis=0)),
        _curves(ensemble, _risk(ensemble)),
        np.mean([class_ece(one) for one in members], axis=0),
        np.mean([class_overconfidence(one) for one in members], axis=0),
    )


def _curves(predictions: Predictions, risk: Floats) -> Curves:
    bins = reliability(predictions)
    filled = bins.counts > 0
    return Curves(
        bins.confidence[filled], bins.accuracy[filled], bins.counts[filled] / bins.counts.sum(), np.asarray(risk)
    )


def _risk(predictions: Predictions) -> Floats:
    risk = risk_coverage(predictions)[1]
    kept = np.ceil(np.round(COVERAGES * len(risk), 9)).astype(np.int64)
    return np.asarray(risk[kept - 1])
