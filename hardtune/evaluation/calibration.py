"""Calibration: whether probabilities match frequencies.

torchmetrics has an ECE too, but importing it takes seconds in every worker, and it puts confidence exactly 1.0 into a
sixteenth bin of its own; these are numpy, in float64, with bins (lower, upper] as Guo et al. 2017 define them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError
from hardtune.evaluation.metric import metric
from hardtune.evaluation.predictions import Floats, Predictions, checked_labels, checked_logits
from hardtune.numeric import whole

BINS = 15
TEMPERATURES = (0.01, 100.0)
"""Search range of :func:`fit_temperature`."""

_NORMAL = 20.0  # the variance above which a count is as good as normal: its mean deviation is off by less than 1 %
_ROUNDED = 0.01  # that probabilities may exceed 1 by which sum to about 1, as those of predictions
_BLOCK = 2**15  # float64 numbers held at a time


@metric("nll", better="min")
def nll(predictions: Predictions) -> float:
    """Mean negative log-likelihood of the labels, in nats: a proper score."""
    return float(-np.take_along_axis(predictions.log_probabilities, predictions.labels[:, None], axis=1).mean())


@metric("brier", better="min")
def brier(predictions: Predictions) -> float:
    """Mean of Σ_k (p_k - [k = y])², in [0, 2]: a proper score (Brier 1950, all classes summed)."""
    p = predictions.probabilities
    p_y = np.take_along_axis(p, predictions.labels[:, None], axis=1)[:, 0]
    return float((np.vecdot(p, p) - 2 * p_y + 1).mean())


@metric("ece", better="min")
def ece(predictions: Predictions) -> float:
    """Expected calibration error: mean |accuracy - confidence| over 15 equal-width bins, weighted by their samples.

    Top-1 confidence, Naeini et al. 2015; Guo et al. 2017, §2.
    """
    return reliability(predictions).error


def ece_by_chance(predictions: Predictions) -> float:
    """The ECE expected of these samples if each were right with exactly the probability of its predicted class (ours).

    Σ_b E|X_b - Σ p| / N over the bins of :func:`ece`, X_b how many of a bin's samples are right, by its exact (Poisson
    binomial) distribution: a normal one is off by a tenth and more for few samples with p near 1, but not where X_b has
    a variance above 20. Labels do not matter.

    >>> round(ece_by_chance(Predictions.of([[2.0, 0.0]] * 100, [0] * 100)), 3)
    0.026
    """
    index = _bin(predictions.confidence, BINS)
    off = [_deviation(predictions.confidence[index == filled]) for filled in np.unique(index)]
    return sum(off) / len(index)


@metric("ece_adaptive", better="min")
def ece_adaptive(predictions: Predictions) -> float:
    """ECE over 15 bins of equal mass instead of equal width (Nguyen & O'Connor 2015), ties broken in expectation."""
    confidence, share_correct = predictions.ranked
    gap = (share_correct - confidence)[::-1]  # ascending, as in torch-uncertainty: decides which bins get one more
    return float(sum(abs(part.sum()) for part in np.array_split(gap, BINS)) / len(gap))


@metric("ece_classwise", better="min")
def ece_classwise(predictions: Predictions) -> float:
    """Mean over classes of the calibration error of p_k as the probability of class k (Kull et al. 2019, eq. 3)."""
    return float(class_ece(predictions).mean())


def class_ece(predictions: Predictions) -> Floats:
    """(K,) calibration error of p_k as the probability of class k, over all samples and 15 equal-width bins."""
    p, labels, k = predictions.probabilities, predictions.labels, predictions.num_classes
    above = p > 1 / BINS  # at most 14 of a sample, of however many classes; those rounded onto the edge are binned back
    where = np.flatnonzero(above)
    high = p.ravel()[where]
    counted = np.bincount(where % k * BINS + _bin(high, BINS), weights=high, minlength=k * BINS)
    says = counted.astype(np.float64).reshape(k, BINS)  # it counts in whole numbers if there is nothing to count
    says[:, 0] += p.sum(axis=0, where=~above)
    own = _bin(np.take_along_axis(p, labels[:, None], axis=1)[:, 0], BINS)
    happens = np.bincount(labels * BINS + own, minlength=k * BINS).reshape(k, BINS)
    return np.asarray(np.abs(happens - says).sum(axis=1) / len(p))


def class_overconfidence(predictions: Predictions) -> Floats:
    """(K,) mean confidence minus recall over each class's samples: > 0 is overconfident; NaN without samples."""
    k, labels = predictions.num_classes, predictions.labels
    excess = np.bincount(labels, weights=predictions.confidence - predictions.correct, minlength=k)
    counts = np.bincount(labels, minlength=k)
    return np.divide(excess, counts, out=np.full(k, np.nan), where=counts > 0)


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: one row per equal-width bin (lower, upper] of top-1 confidence."""

    edges: Floats
    """(B + 1,)."""
    counts: NDArray[np.int64]
    """(B,)."""
    confidence: Floats
    """(B,) mean; NaN where a bin is empty."""
    accuracy: Floats
    """(B,); NaN where a bin is empty."""

    @classmethod
    def of(cls, confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> Reliability:
        """From predictions' confidence (N,) and correctness (N,), whether of one network or several.

        Raises:
            InputError: Confidence outside 0..1 or of other samples, or bins that are no whole number of at least 1.
        """
        bins = whole(bins, "bins")
        if np.shape(confidence) != np.shape(correct):
            got = f"{np.shape(confidence)} and {np.shape(correct)}"
            raise InputError(f"confidence and correctness must be of the same samples (N,), got {got}")
        if not ((confidence >= 0) & (confidence <= 1 + _ROUNDED)).all():  # False for NaN
            raise InputError("confidence must be in 0..1: divide percentages by 100")
        index = _bin(confidence, bins)
        counts = np.bincount(index, minlength=bins)

        def mean(values: NDArray[np.generic]) -> Floats:
            total = np.bincount(index, weights=values, minlength=bins)
            return np.divide(total, counts, out=np.full(bins, np.nan), where=counts > 0)

        return cls(np.linspace(0.0, 1.0, bins + 1), counts, mean(confidence), mean(correct))

    @property
    def error(self) -> float:
        """The expected calibration error."""
        filled = self.counts > 0
        gap = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(gap @ self.counts[filled] / self.counts.sum())


def reliability(predictions: Predictions, bins: int = BINS) -> Reliability:
    """Confidence against accuracy, in so many bins; an InputError unless they are a whole number of at least 1."""
    return Reliability.of(predictions.confidence, predictions.correct, bins)


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """The T that minimises the NLL of softmax(logits / T) (Guo et al. 2017, §4.2).

    T > 1 says that the network was overconfident. Fit it on held-out samples: ``evaluate(test_logits, test_labels,
    temperature=T)`` then reports every calibration figure before and after. The NLL is convex in 1/T, so the optimum
    is the one root of its derivative; if it lies outside [0.01, 100], T is the bound. But without errors it lies at 0,
    which says nothing of other samples, where one error would cost 100 times its margin: T is 1 then, and also if each
    sample's logits are all equal, so that T has no effect.

    Raises:
        InputError: As :meth:`Predictions.of`.

    >>> logits = np.array([[4.0, 0.0]] * 4)
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 3)  # right in 3 of 4: log-odds should be log 3
    3.641
    """
    z = checked_logits(logits)
    y = checked_labels(labels, *z.shape)
    gaps = z.max(axis=1, keepdims=True) - z
    own = float(np.take_along_axis(gaps, y[:, None], axis=1).mean())
    if own == 0:
        return 1.0
    low, high = (1 / t for t in reversed(TEMPERATURES))
    b, tried = 1.0, set[float]()  # b = 1/T
    while True:
        # The derivative is 0 where the mean gap is the labels'. Newton's method, on the logarithms of both: nearly
        # straight in b, as gaps vanish exponentially. A step ends at the root's bounds; none leads to where b has been.
        mean, variance = _gap(gaps, b)
        tried.add(b)
        low, high = (b, high) if mean > own else (low, b)
        if low == high:
            return 1 / b
        step = math.inf if mean > own else -math.inf
        if mean > 0 and variance > 0:
            step = (math.log(mean) - math.log(own)) * mean / variance
        following = min(max(b + step, low), high)
        if abs(following - b) <= 1e-9 * b:
            return 1 / following
        b = math.sqrt(low * high) if following in tried else following


def _gap(gaps: Floats, b: float) -> tuple[float, float]:
    """Mean gap to the largest logit (N, K) under softmax(-b gaps), and the mean of its variances: minus its slope in b.

    In blocks of rows that fit in a CPU's cache.
    """
    rows = max(1, _BLOCK // gaps.shape[1])
    buffer = np.empty((min(rows, len(gaps)), gaps.shape[1]))
    total = spread = 0.0
    for start in range(0, len(gaps), rows):
        gap = gaps[start : start + rows]
        e = np.multiply(gap, -b, out=buffer[: len(gap)])
        weight = np.exp(e, out=e).sum(axis=1)
        e *= gap
        mean = e.sum(axis=1) / weight
        total += float(mean.sum())
        spread += float((np.vecdot(e, gap) / weight - mean**2).sum())
    return total / len(gaps), spread / len(gaps)


def _deviation(p: Floats) -> float:
    """The mean absolute deviation of how many of independent events with probabilities p (n,) happen."""
    variance = float((p * (1 - p)).sum())
    if variance > _NORMAL:
        return math.sqrt(2 * variance / math.pi)
    rare = p if p.mean() < 0.5 else 1 - p
    most = min(len(p), math.ceil(rare.sum() + 12 * math.sqrt(variance) + 30))  # of these no more ever happen
    circle = np.exp(2j * np.pi * np.arange(most + 1) / (most + 1))
    distribution = np.fft.fft([np.prod(1 - rare + rare * z) for z in circle]).real / (most + 1)
    return float(distribution @ np.abs(np.arange(most + 1) - rare.sum()))


def _bin(values: Floats, bins: int) -> NDArray[np.int64]:
    """Which of the bins (lower, upper] each value in [0, 1] lies in; 0 lies in the first.

    In float32: of what lies on an edge, as votes and rounded probabilities do, rounding in float64 puts some above it.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)[1:-1].astype(np.float32)
    return np.searchsorted(edges, np.asarray(values, np.float32), side="left")
