"""Whether a network detects inputs from another distribution.

Every score is higher for a sample that looks more out of distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed
from hardtune.evaluation.metric import Better
from hardtune.evaluation.predictions import Floats, checked_labels, checked_logits, log_softmax, remedy
from hardtune.hardness.within_classes import ROUNDING, chunks, within_classes
from hardtune.read_only import read_only
from hardtune.registry import Registry

_TOO_LARGE = "the features are too large for their distances to be computed: divide them by their largest"

OOD_SCORES: Registry[Callable[[Floats], Floats]] = Registry("OOD score", reserved=("mahalanobis",))
"""Logits (N, K) to scores (N,), higher = more out of distribution."""

OOD_FIGURES: Mapping[str, Better] = {"auroc": "max", "aupr_out": "max", "aupr_in": "max", "fpr95": "min"}
"""What :func:`ood_metrics` reports of each score, and which direction is better."""


@OOD_SCORES.register("msp")
def msp(logits: ArrayLike) -> Floats:
    """1 - the largest softmax probability (Hendrycks & Gimpel 2017), without rounding to 0 where it is tiny."""
    largest_last = np.partition(log_softmax(checked_logits(logits)), -1, axis=1)
    return np.asarray(np.exp(largest_last[:, :-1]).sum(axis=1))


@OOD_SCORES.register("entropy")
def entropy(logits: ArrayLike) -> Floats:
    """Entropy of the softmax, in nats."""
    log_p = log_softmax(checked_logits(logits))
    return np.asarray(-(np.exp(log_p) * log_p).sum(axis=1))


@OOD_SCORES.register("max_logit")
def max_logit(logits: ArrayLike) -> Floats:
    """The largest logit, negated (Hendrycks et al. 2022)."""
    return np.asarray(-checked_logits(logits).max(axis=1))


def ood_score(name: str, logits: Floats) -> Floats:
    """A score (N,) in :data:`OOD_SCORES` of logits (N, K).

    Raises:
        InputError: An unknown score, or one that raises or does not give each sample a finite number.
    """
    with blamed(f"OOD score {name!r} fails"):
        scores = np.asarray(OOD_SCORES[name](read_only(logits)))
    if scores.shape != (len(logits),) or scores.dtype.kind not in "fiub" or not np.isfinite(scores).all():
        raise InputError(
            f"OOD score {name!r} must give each of {len(logits)} samples a finite number, "
            f"got {scores.dtype} {scores.shape}"
        )
    return scores


def mahalanobis(
    features: NDArray[np.floating], train_features: NDArray[np.floating], train_labels: NDArray[np.integer]
) -> Floats:
    """Squared Mahalanobis distance to the nearest class mean, one covariance for all classes (Lee et al. 2018).

    Args:
        features: (N, D), of the layer before the logits, say.
        train_features, train_labels: (N', D) and (N',) in 0..K-1; classes without samples are ignored.

    Returns:
        (N,). The covariance gets a ridge of 1e-6 times its mean variance, so that N' < D is no error (our choice); if
        no feature varies within any class, it is the identity, in the power of 2 above what features differ by.

    Raises:
        InputError: Shapes that do not fit, or features that are not finite, or too large for their distances to be.
    """
    known, asked = (_as_numbers(given, "features") for given in (train_features, features))
    if known.ndim != 2 or asked.ndim != 2 or known.shape[1] != asked.shape[1] or not known.size:
        raise InputError(f"features must be (N, D) with one D, got shapes {asked.shape} and {known.shape}")
    if not (np.isfinite(known).all() and np.isfinite(asked).all()):
        raise InputError("features must be finite, and some are not")
    y = checked_labels(train_labels, len(known))
    classes, y = np.unique(y, return_inverse=True)
    with np.errstate(over="ignore", invalid="ignore"):
        # Centre on the mean of the training features: ‖a‖² - 2ab + ‖b‖² is inaccurate far from the origin.
        origin = known.mean(axis=0, dtype=np.float64)
        largest = np.maximum(known.max(axis=0) - origin, origin - known.min(axis=0)).max()
    if not np.isfinite(largest):
        raise InputError(_TOO_LARGE)
    # Halved or doubled until the largest is about 1, so that no square of a feature overflows, or vanishes.
    scale = 2.0 ** -float(np.clip(np.frexp(largest)[1], -1000, 1000))
    means, covariance = within_classes(known, y, len(classes), origin, scale)
    if (np.sqrt(np.diag(covariance)) <= ROUNDING * np.abs(means).max(axis=0)).all():
        covariance[:] = 0.0
    variance = float(np.trace(covariance)) / len(covariance)
    covariance[np.diag_indices_from(covariance)] += 1e-6 * variance if variance > 0 else 1.0
    whiten = np.linalg.inv(np.linalg.cholesky(covariance)).T
    b = means @ whiten
    nearest = np.empty(len(asked))
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in chunks(len(asked)):
            a = (asked[rows] - origin) * scale @ whiten
            squared = (a**2).sum(axis=1)[:, None] - 2 * a @ b.T + (b**2).sum(axis=1)
            nearest[rows] = np.maximum(squared.min(axis=1), 0.0)
    if not np.isfinite(nearest).all():
        raise InputError(_TOO_LARGE)
    return nearest


def ood_metrics(in_scores: ArrayLike, out_scores: ArrayLike) -> dict[str, float]:
    """How well scores separate in-distribution samples from others.

    Args:
        in_scores, out_scores: (N,) and (N',) of samples inside and outside; higher = more out of distribution.

    Returns:
        ``auroc``: probability that a sample outside scores higher than one inside (ties count half); higher = better.
        ``aupr_out``, ``aupr_in``: average precision with the samples outside, or inside, as positives; higher = better.
        ``fpr95``: positives are the samples *inside*: the share of samples outside that pass at the threshold
        which lets 95 % of those inside pass (Liang et al. 2018, ODIN); lower = better.

    Raises:
        InputError: Either side is empty, or a score is not finite.

    >>> ood_metrics(in_scores=[0.1, 0.2, 0.3], out_scores=[0.25, 0.9])["fpr95"]
    0.5
    """
    inside, outside = (_as_numbers(given, "scores").astype(np.float64, copy=False) for given in (in_scores, out_scores))
    if inside.ndim != 1 or outside.ndim != 1 or not len(inside) or not len(outside):
        raise InputError(f"both sides need one score per sample, got shapes {inside.shape} and {outside.shape}")
    scores = np.concatenate([inside, outside])
    if not np.isfinite(scores).all():
        raise InputError(f"scores must be finite, and {np.count_nonzero(~np.isfinite(scores))} of them are not")
    # How many of each side have each score that occurs, in ascending order: all figures at the cost of one sort.
    # Intervals need them without each part of the images, for every score and network.
    order = np.argsort(scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.inf))
    up_to_out = np.cumsum(order >= len(inside))[last]
    up_to_in = last + 1 - up_to_out
    at_in, at_out = np.diff(up_to_in, prepend=0), np.diff(up_to_out, prepend=0)
    from_in, from_out = len(inside) - up_to_in + at_in, len(outside) - up_to_out + at_out
    passed = 20 * up_to_in >= 19 * len(inside)  # 95 %, in whole numbers
    return {
        "auroc": float(at_out @ (up_to_in - at_in / 2)) / (len(inside) * len(outside)),
        "aupr_out": float(at_out @ (from_out / (from_in + from_out))) / len(outside),
        "aupr_in": float(at_in @ (up_to_in / (up_to_in + up_to_out))) / len(inside),
        "fpr95": float(up_to_out[passed.argmax()]) / len(outside),
    }


def ood_scores(
    test_logits: NDArray[np.floating], ood_logits: NDArray[np.floating], distances: tuple[ArrayLike, ArrayLike]
) -> dict[str, tuple[Floats, Floats]]:
    """One network's scores by name, of samples inside (N,) and outside (N',): ``msp``, ``mahalanobis``, ….

    Args:
        test_logits, ood_logits: (N, K) and (N', K) of samples inside and outside.
        distances: Their :func:`mahalanobis` distances, (N,) and (N',).
    """
    inside, outside = np.asarray(test_logits, np.float64), np.asarray(ood_logits, np.float64)
    scores = {name: (ood_score(name, inside), ood_score(name, outside)) for name in OOD_SCORES}
    near, far = distances
    return {**scores, "mahalanobis": (np.asarray(near, np.float64), np.asarray(far, np.float64))}


def ood_figures(scores: Mapping[str, tuple[Floats, Floats]]) -> dict[str, float]:
    """:func:`ood_metrics` by every score of :func:`ood_scores`: ``msp_auroc``, ``mahalanobis_fpr95``, …."""
    return {f"{name}_{figure}": value for name, pair in scores.items() for figure, value in ood_metrics(*pair).items()}


def _as_numbers(given: ArrayLike, what: str) -> NDArray[Any]:
    with blamed(f"{what} must be an array of numbers, and are not{remedy(given, '.detach().float().cpu()')}"):
        found = np.asarray(given)
        return found if found.dtype.kind in "biuf" else found.astype(np.float64)
