"""How many members a score needs: how much it still changes, and how far two ensembles agree.

HBR plots how much class sizes and the pruned set change as members are added one by one. These ensembles are nested:
they share j of j + 1 members, so the change shrinks like 1/(j + 1) by arithmetic alone, whether or not the score has
settled. A fair measure compares ensembles that share no member (or bootstrap ones, if members are few).

``members`` is always (J, N): one score per member and sample, higher = harder.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed, unknown
from hardtune.hardness.estimators import class_hardness


def nested_change(
    members: ArrayLike,
    labels: NDArray[np.int64],
    num_classes: int,
    sizes: Callable[[NDArray[np.float64]], NDArray[np.number]] | None = None,
) -> NDArray[np.float64]:
    """d_c(j) = \\|S_c(first j + 1 members) - S_c(first j)\\| for j = 1..J-1: float64 (J-1, K) (HBR v1).

    Args:
        sizes: class hardness (K,) to class sizes S (K,), as ``class_counts`` does; None compares class hardness itself.
    """
    members = _require(members, 2)
    by_class = np.stack([class_hardness(mean, labels, num_classes) for mean in _nested_means(members)])
    if sizes is not None:
        by_class = np.stack([np.asarray(sizes(hardness), dtype=np.float64) for hardness in by_class])
    return np.abs(np.diff(by_class, axis=0))


def nested_pruned_change(members: ArrayLike, rate: float) -> NDArray[np.float64]:
    """The share of the easiest ``rate`` of all samples that changes as member j + 1 joins: float64 (J-1,) (HBR v1)."""
    members = _require(members, 2)
    means = _nested_means(members)
    return np.array([1 - pruned_overlap(a, b, rate) for a, b in itertools.pairwise(means)])


@dataclass(frozen=True)
class Agreement:
    """How far pairs of equally large ensembles agree; one value per pair, 1 = fully."""

    size: int
    """Members in each ensemble."""
    rank_correlation: NDArray[np.float64]
    """(draws,) Spearman's, over samples."""
    pruned_overlap: NDArray[np.float64]
    """(draws,) Share of the easiest samples that both have in common."""


def agreement(
    members: ArrayLike,
    size: int,
    *,
    rate: float = 0.3,
    draws: int = 20,
    seed: int = 0,
    how: Literal["disjoint", "bootstrap"] = "disjoint",
) -> Agreement:
    """Compare random pairs of ensembles of ``size`` members.

    Args:
        rate: the easiest share that ``pruned_overlap`` looks at, in (0, 1).
        draws: how many pairs.
        how: ``disjoint`` ensembles share no member and need 2 · size <= J. ``bootstrap`` ones are drawn with
            replacement from all J: they share members, so they agree more than two new ensembles would.

    Raises:
        InputError: too few members, or a rate outside (0, 1).
    """
    if how not in ("disjoint", "bootstrap"):
        raise unknown("way to draw ensembles", how, ("bootstrap", "disjoint"))
    members = _require(members, 2 * size if how == "disjoint" else 1)
    if size < 1:
        raise InputError(f"an ensemble needs at least 1 member, got {size}")
    rng = np.random.default_rng(seed)
    correlations, overlaps = [], []
    for _ in range(draws):
        if how == "disjoint":
            chosen = rng.permutation(len(members))[: 2 * size].reshape(2, size)
        else:
            chosen = rng.integers(len(members), size=(2, size))
        a, b = (members[group].mean(axis=0, dtype=np.float64) for group in chosen)
        correlations.append(rank_correlation(a, b))
        overlaps.append(pruned_overlap(a, b, rate))
    return Agreement(size, np.array(correlations), np.array(overlaps))


@dataclass(frozen=True)
class Stability:
    """How stable the score of an ensemble of J members is: all measures for growing ensembles."""

    change: NDArray[np.float64]
    """(J-1, K): :func:`nested_change`."""
    pruned_change: NDArray[np.float64]
    """(J-1,): :func:`nested_pruned_change`."""
    disjoint: tuple[Agreement, ...]
    """For ensembles of 1..J/2 members that share none."""
    bootstrap: tuple[Agreement, ...]
    """For ensembles of 1..J members drawn with replacement."""

    def expected_correlation(self, size: int) -> float:
        """Expected correlation of two ensembles of ``size`` members, by the Spearman-Brown formula.

        Based on the largest disjoint ensembles, assuming that members' errors are independent; 0 if these do not agree
        at all.
        """
        one = max(self._single(), 0.0)
        return size * one / (1 + (size - 1) * one)

    def members_for(self, correlation: float) -> int | None:
        """How many members two ensembles each need to reach this correlation; None if no number suffices."""
        one = self._single()
        # Rounded, here and below: what ten members reach may differ from 0.95 by rounding error.
        if round(one, 6) >= correlation:
            return 1
        if one <= 0 or correlation >= 1:
            return None
        return int(np.ceil(round(correlation * (1 - one) / (one * (1 - correlation)), 6)))

    def _single(self) -> float:
        size, together = self.disjoint[-1].size, float(self.disjoint[-1].rank_correlation.mean())
        return together / (size - (size - 1) * together)


def assess(
    members: ArrayLike,
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    sizes: Callable[[NDArray[np.float64]], NDArray[np.number]] | None = None,
    rate: float = 0.3,
    draws: int = 20,
    seed: int = 0,
) -> Stability:
    """Every figure of this module for scores (J, N) of at least 2 members; arguments as in its functions."""
    members = _require(members, 2)
    count = len(members)
    return Stability(
        nested_change(members, labels, num_classes, sizes),
        nested_pruned_change(members, rate),
        tuple(agreement(members, size, rate=rate, draws=draws, seed=seed) for size in range(1, count // 2 + 1)),
        tuple(
            agreement(members, size, rate=rate, draws=draws, seed=seed, how="bootstrap") for size in range(1, count + 1)
        ),
    )


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two scores (N,), ties sharing their mean rank; 0 if either is constant.

    >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 9.0, 4.0])), 3)
    0.5
    """
    return float(_correlate([a, b])[0, 1])


def rank_correlations(scores: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Spearman's rank correlation between every two estimators' scores: float64 (E, E), in the mapping's order."""
    return _correlate(scores.values())


def pruned_overlap(a: ArrayLike, b: ArrayLike, rate: float) -> float:
    """The share of samples that the easiest ``rate`` by a and by b have in common, in [0, 1].

    Ties are broken by index in both, which inflates the overlap of scores with many ties (``forgetting``).

    >>> pruned_overlap(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0]), 0.5)
    0.5
    """
    a, b = _comparable([a, b])
    count = pruned_count(len(a), rate)
    easiest = np.zeros(len(a), np.bool_)
    easiest[np.argsort(a, kind="stable")[:count]] = True
    return float(easiest[np.argsort(b, kind="stable")[:count]].mean())


def pruned_count(samples: int, rate: float) -> int:
    """How many of the samples the easiest ``rate`` are; ``InputError`` if none or all of them."""
    count = round(rate * samples)
    if not 0 < count < samples:
        raise InputError(f"a rate of {rate:g} of {samples} samples prunes none or all of them")
    return count


def _correlate(scores: Iterable[ArrayLike]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(score) for score in _comparable(scores)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(ranks, axis=1)
    products = ranks @ ranks.T
    correlation: NDArray[np.float64] = np.divide(
        products, np.outer(norms, norms), out=np.zeros_like(products), where=products != 0
    )
    return np.clip(correlation, -1, 1, out=correlation)  # beyond it only by rounding


def _comparable(scores: Iterable[ArrayLike]) -> list[NDArray[np.number]]:
    with blamed("scores must be arrays of numbers (N,)"):
        found = [np.asarray(score) for score in scores]
        is_nan = any(np.isnan(score).any() for score in found)
    if not found or not all(score.shape == found[0].shape == (score.size,) for score in found):
        shapes = ", ".join(str(score.shape) for score in found) or "none"
        raise InputError(f"scores (N,) of the same samples are compared, got {shapes}")
    if is_nan:
        raise InputError("scores that are NaN have no rank")
    return found


def _nested_means(members: NDArray[np.floating]) -> NDArray[np.float64]:
    means: NDArray[np.float64] = np.cumsum(members, axis=0, dtype=np.float64)
    means /= np.arange(1, len(members) + 1)[:, None]
    return means


def _require(members: ArrayLike, count: int) -> NDArray[np.floating]:
    with blamed("the members' scores must be an array of numbers (J, N)"):
        found = np.asarray(members)
        is_finite = bool(np.isfinite(found).all())
    if found.ndim != 2 or len(found) < count:
        raise InputError(f"this takes the scores (J, N) of at least {count} members, got {found.shape}")
    if not is_finite:
        raise InputError("the members' scores contain NaN or infinity")
    return found
