"""Remove samples first: the easiest, globally or by class (HBR's case study), the hardest, or random ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.registry import Registry
from hardtune.resampling.counts import round_to_sum
from hardtune.treatment import Treatment

Pruner = Callable[[NDArray[np.floating], NDArray[np.int64], float, np.random.Generator], NDArray[np.int64]]
"""(scores (N,) with higher = harder, labels (N,), rate in [0, 1), generator) to the indices that stay, ascending.

The generator is the member's, so what is drawn from it differs between members."""

PRUNERS: Registry[Pruner] = Registry("pruning")


@PRUNERS.register("none")
def none(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Keep everything."""
    return np.arange(len(labels))


@PRUNERS.register("dataset")
def dataset(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Remove the easiest round(rate · N) of all samples (HBR's DLP), which leaves easy classes smaller.

    Ties are broken at random with a fixed seed: by index, data stored class by class would lose their first classes
    whenever many scores tie (most forgetting counts are 0).

    >>> dataset(np.array([0.1, 0.9, 0.2, 0.8]), np.array([0, 0, 1, 1]), 0.5, np.random.default_rng(0))
    array([1, 3])
    """
    order = np.lexsort((_lots(len(scores)), scores))
    return np.sort(order[round(rate * len(scores)) :])


@PRUNERS.register("class")
def per_class(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Remove the easiest round(rate · n_c) of each class (HBR's CLP), which keeps balanced data balanced.

    Every class keeps at least one sample; ties are broken at random, as in :func:`dataset`.

    >>> per_class(np.array([0.1, 0.9, 0.2, 0.3]), np.array([0, 0, 1, 1]), 0.5, np.random.default_rng(0))
    array([1, 3])
    """
    sizes = np.bincount(labels)
    removed = np.minimum(np.rint(rate * sizes).astype(np.int64), np.maximum(sizes - 1, 0))
    return _last(sizes - removed, np.lexsort((_lots(len(scores)), scores, labels)), sizes)


@PRUNERS.register("hardest")
def hardest(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Remove the hardest round(rate · N) of all samples, where mislabelled ones gather (ours).

    The easiest sample of each class stays; ties are broken at random, as in :func:`dataset`.

    >>> hardest(np.array([0.1, 0.9, 0.2, 0.8]), np.array([0, 0, 1, 1]), 0.5, np.random.default_rng(0))
    array([0, 2])
    """
    order = np.lexsort((_lots(len(scores)), scores))  # from easy to hard
    _, easiest = np.unique(labels[order], return_index=True)
    last = np.delete(order, easiest)[::-1][: round(rate * len(scores))]
    stays = np.ones(len(scores), np.bool_)
    stays[last] = False
    return np.flatnonzero(stays)


@PRUNERS.register("random")
def random(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Remove a random round(rate · n_c) of each class, whatever the scores: the baseline of any pruning.

    Each member loses others, so that intervals over members cover which ones; every class keeps at least one sample.
    With the same seed, a larger rate removes the same ones and others.

    >>> labels = np.repeat([0, 1], 50)
    >>> np.bincount(labels[random(np.zeros(100), labels, 0.3, np.random.default_rng(0))])
    array([35, 35])
    """
    return per_class(rng.permutation(len(labels)).astype(np.float64), labels, rate, rng)


@PRUNERS.register("quotas")
def quotas(
    scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Remove random samples, round(rate · N) in all, so that the share that a class keeps follows its mean score.

    DRoP (Vysogorets et al., ICLR 2025, arXiv 2404.05579), which takes for that a class's error on validation data; the
    mean score, of which ``el2n_mean`` is closest to an error, is ours. What a class cannot take, as it keeps all of its
    samples, goes to the others by the same rule; every class keeps at least one. Each member loses others.

    Raises:
        InputError: a score is below 0, so that shares of class means mean nothing.

    >>> scores, labels = np.repeat([0.1, 0.3], 50), np.repeat([0, 1], 50)
    >>> np.bincount(labels[quotas(scores, labels, 0.5, np.random.default_rng(0))])
    array([13, 37])
    """
    if len(scores) and scores.min() < 0:
        raise InputError(f"it needs scores of at least 0, and the lowest is {scores.min():.4g}: {_nonnegative()}")
    sizes = np.bincount(labels)
    hardness = np.bincount(labels, weights=scores) / np.maximum(sizes, 1)
    kept = np.zeros(len(sizes))  # the share of each class
    left = len(labels) - round(rate * len(labels))
    while (over := left - kept @ sizes) > 1e-6:
        unsaturated = kept < 1
        rising = np.where(unsaturated, hardness, 0.0)
        if not rising @ sizes:  # those that are left are not hard at all
            rising = unsaturated.astype(np.float64)
        kept = np.minimum(kept + over * rising / (rising @ sizes), 1.0)
    counts = np.maximum(round_to_sum(kept * sizes, left), np.minimum(sizes, 1))
    return _last(counts, np.lexsort((rng.permutation(len(labels)), labels)), sizes)


def check_pruning(treatment: Treatment) -> None:
    """Raise ``InputError`` if the scores of the treatment's estimator are none that its pruning can use."""
    it = treatment.canonical()
    if it.prune != "quotas" or it.estimator not in ESTIMATORS:
        return
    estimator = ESTIMATORS[it.estimator]
    if estimator.low_is_hard or estimator.centred:
        raise InputError(
            f"pruning 'quotas' needs scores of at least 0, and those of {it.estimator!r} are not: {_nonnegative()}"
        )


def _nonnegative() -> str:
    return f"choose estimator {', '.join(sorted(e.name for e in ESTIMATORS.values() if e.nonnegative))}"


def _last(counts: NDArray[np.int64], order: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The last ``counts`` (K,) of each class, ascending, of all samples in an ``order`` (N,) class by class."""
    position = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within the class
    return np.sort(order[position >= np.repeat(sizes - counts, sizes)])


def _lots(count: int) -> NDArray[np.int64]:
    """A permutation (count,) that breaks ties: the same for every member, and for a plan and its preview."""
    return np.random.default_rng(0).permutation(count)
