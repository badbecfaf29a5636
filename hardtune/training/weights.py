"""How strongly each sample's entropy counts: s in (0, 1], the larger the harder the sample."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import ContractError, HardtuneWarning, InputError, blamed
from hardtune.numeric import is_number
from hardtune.read_only import read_only
from hardtune.registry import Registry

Floats = NDArray[np.float64]

SCALES: Registry[Callable[[Floats], Floats]] = Registry("entropy scale")
"""Maps scores (N,) to a usable scale (N,), keeping their order: T has meaning only on a known scale."""

TARGETS: Registry[Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]]] = Registry(
    "entropy target"
)
"""Maps the difficulty weights (N,) of what an epoch trains on to those used: the method itself, or a control for it."""

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)


@SCALES.register("clipped")
def clipped(scores: Floats) -> Floats:
    """Clip at the 99th percentile, then min-max to [0, 1], so one outlier cannot silence all others (our choice).

    >>> clipped(np.array([0.0, 1.0, 2.0])).round(2)
    array([0.  , 0.51, 1.  ])
    """
    low, high = scores.min(), np.percentile(scores, 99)
    # Over half the samples can share the lowest score (forgetting counts): then the 99th percentile may be that score.
    if high <= low:
        high = scores.max()
    return (np.minimum(scores, high) - low) / (high - low) if high > low else np.zeros_like(scores)


@SCALES.register("raw")
def raw(scores: Floats) -> Floats:
    """The scores themselves, as RMD's formula has them (arXiv 2304.10127)."""
    return scores


@SCALES.register("rank")
def rank(scores: Floats) -> Floats:
    """Ranks in [0, 1], ties sharing their mean rank: the distribution of s no longer depends on the estimator (ours).

    >>> rank(np.array([10.0, -3.0, 10.0]))
    array([0.75, 0.  , 0.75])
    """
    from scipy.stats import rankdata

    return np.asarray((rankdata(scores) - 1) / max(len(scores) - 1, 1))


def difficulty_weights(
    scores: NDArray[np.floating], *, scale: str = "clipped", temperature: float = 0.7
) -> NDArray[np.float32]:
    """s_i = exp((r_i - max r) / T), with r the scaled scores: float32 (N,) in (0, 1], 1 for the hardest.

    The weighting by exp(r / T) is RMD's (Cui et al., NeurIPS 2023, arXiv 2304.10127); dividing by its maximum,
    T = 0.7 and the ``clipped`` scale are our choice.

    Args:
        scores: (N,), higher = harder.
        scale: A name in :data:`SCALES`.
        temperature: T > 0; smaller concentrates the weight on the hardest samples.

    Raises:
        InputError: Scores that are not a non-empty, finite (N,), an unknown scale, or T not above 0.

    Warns:
        HardtuneWarning: The weights are as good as zero, or as good as constant (see :class:`WeightSummary`).

    >>> difficulty_weights(np.array([0.0, 1.0, 2.0]), scale="raw", temperature=1.0).round(3)
    array([0.135, 0.368, 1.   ], dtype=float32)
    """
    weights = _weights(scores, scale, temperature)
    message = summarise(weights).warning
    if message:
        warnings.warn(message, HardtuneWarning, stacklevel=2)
    return weights


def _weights(scores: NDArray[np.floating], scale: str, temperature: float) -> NDArray[np.float32]:
    with blamed("scores must be an array of numbers"):
        if np.iscomplexobj(scores) or np.ma.isMaskedArray(scores):
            raise TypeError("got complex or masked values")
        values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise InputError(f"scores must be one number per sample, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"scores must be finite, and {np.count_nonzero(~np.isfinite(values))} of them are not")
    if not is_number(temperature) or not 0 < temperature < math.inf:
        raise InputError(f"temperature must be a finite number above 0, got {temperature!r}")
    with blamed(f"entropy scale {scale!r} fails"):
        scaled = np.asarray(SCALES[scale](read_only(values)), np.float64)
    if scaled.shape != values.shape:
        raise ContractError(f"entropy scale {scale!r} must give {values.shape} numbers, got {scaled.shape}")
    if not np.isfinite(scaled).all():
        raise InputError(f"entropy scale {scale!r} must give each sample a finite number")
    weights = np.exp((scaled - scaled.max()) / temperature).astype(np.float32)
    return np.maximum(weights, np.finfo(np.float32).tiny)


@TARGETS.register("difficulty")
def difficulty(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """The method: hard samples keep their entropy most."""
    return weights


@TARGETS.register("constant")
def constant(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """s = 1: the constant entropy penalty (Pereyra et al. 2017, arXiv 1701.06548)."""
    return np.ones_like(weights)


@TARGETS.register("shuffled")
def shuffled(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Control: the same weights on the wrong samples (ours)."""
    return rng.permutation(weights)


@TARGETS.register("mean")
def mean(weights: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Control: the same total strength, no difficulty (ours)."""
    return np.full_like(weights, weights.mean(dtype=np.float64))


CONTROLS = (shuffled, mean)
"""Of the same total strength as the method."""


def entropy_weights(
    target: str,
    scores: NDArray[np.floating],
    *,
    scale: str = "clipped",
    temperature: float = 0.7,
    seed: int = 0,
    trained: NDArray[np.int64] | None = None,
    counting: NDArray[np.floating] | None = None,
) -> NDArray[np.float32]:
    """The weights s (N,) by which training multiplies each sample's entropy; 0 for samples that are not trained on.

    A control is of the same strength as the method over what an epoch trains on, which is harder than all samples if
    hard classes are oversampled, or easy samples pruned.

    Nothing is warned of, as controls may well be constant: a trial says so by its :class:`WeightSummary`.

    Args:
        target: A name in :data:`TARGETS`.
        scores: (N,), higher = harder. ``constant`` reads only their number.
        seed: Decides the permutation of ``shuffled``.
        trained: (P,) the sample that each image of an epoch is, or is made from; by default every sample once. The mean
            s of those of a sample is the sample's.
        counting: (P,) what each of these counts in the mean that is minimised; by default the same.

    Raises:
        InputError: As :func:`difficulty_weights`, or an unknown target.
    """
    transform = TARGETS[target]
    if transform is constant:
        with blamed("scores must be an array of numbers"):
            return np.ones(len(scores), dtype=np.float32)
    weights = _weights(scores, scale, temperature)
    method = weights if trained is None else weights[trained]
    with blamed(f"entropy target {target!r} fails"):
        used = np.asarray(transform(method, np.random.default_rng([seed, 0xE27])), np.float32)
    if used.shape != method.shape:
        raise ContractError(f"entropy target {target!r} must give {method.shape} weights, got {used.shape}")
    if not ((used >= 0) & (used <= 1)).all():  # False for NaN
        raise InputError(f"entropy target {target!r} must give each sample a weight from 0 to 1")
    if counting is not None and np.ptp(counting) > 0 and transform in CONTROLS:
        strength, has = (np.average(each, weights=counting) for each in (method, used))
        used = np.minimum(used * (strength / has), 1).astype(np.float32)
    if trained is None:
        return used
    times, total = (np.bincount(trained, each, minlength=len(weights)) for each in (None, used))
    return np.divide(total, times, out=np.zeros(len(weights)), where=times > 0).astype(np.float32)


@dataclass(frozen=True)
class WeightSummary:
    """A summary of one trial's weights."""

    mean: float
    std: float
    quantiles: dict[float, float]
    """By probability, for each of :data:`QUANTILES`."""
    histogram: NDArray[np.int64]
    """(20,) samples per bin of width 0.05 over [0, 1]."""

    @property
    def warning(self) -> str | None:
        """One sentence if difficulty cannot matter with such weights, else None."""
        if self.quantiles[0.5] < 1e-3:
            return (
                f"the median entropy weight is {self.quantiles[0.5]:.1e}, so most samples get the plain loss: "
                "raise the temperature or use the scale 'clipped'"
            )
        if self.quantiles[0.0] == self.quantiles[1.0]:
            return (
                "the entropy weights are all equal, so this is a constant entropy penalty: choose another estimator if "
                "its scores are all equal too, and otherwise the scale 'clipped'"
            )
        if self.std < 1e-2:
            return (
                f"the entropy weights barely differ (std {self.std:.1e}), so this is a constant entropy penalty: "
                "lower the temperature or use the scale 'clipped'"
            )
        return None

    def metrics(self) -> dict[str, float]:
        """Flat figures for a tracker: mean, std, q00 … q100."""
        return {"mean": self.mean, "std": self.std} | {f"q{100 * p:02.0f}": v for p, v in self.quantiles.items()}


def summarise(weights: NDArray[np.floating]) -> WeightSummary:
    """Mean, standard deviation, quantiles and histogram of weights (N,) in [0, 1]; an ``InputError`` for others.

    >>> summarise(np.array([0.0, 0.5, 1.0])).metrics()["q50"]
    0.5
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not ((values >= 0) & (values <= 1)).all():  # False for NaN
        raise InputError(f"weights to be summarised must be numbers in [0, 1], one per sample, got {values.shape}")
    return WeightSummary(
        mean=float(values.mean()),
        std=float(values.std()),
        quantiles={p: float(v) for p, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)},
        histogram=np.histogram(values, bins=20, range=(0.0, 1.0))[0].astype(np.int64),
    )
