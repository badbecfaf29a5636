"""Class hardness to class counts (HBR, arXiv 2504.07031), without the published code's drift and negative sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import HardtuneWarning, InputError, blamed
from hardtune.resampling.policies import POLICIES, alike

FLOOR = 0.1
"""The share of its samples that every class keeps, whatever is asked for: a class without any cannot improve. Ours."""


def floor_of(size: int) -> int:
    """The fewest of a class's ``size`` samples that undersampling leaves."""
    return math.ceil(FLOOR * size)


def class_counts(
    hardness: NDArray[np.floating],
    sizes: NDArray[np.integer],
    alpha: float,
    policy: str = "paper",
    *,
    low_is_hard: bool = False,
    classes: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """How many samples each class should have: int64 (K,), summing to exactly N = sum of ``sizes``.

    With the policy's ratio R, the class's size n_c and N/ΣnR, which normalises the sum, the target is::

        n_c + alpha · (n_c R_c N/ΣnR - n_c)     alpha = 0: the data itself     alpha = 1: sizes times ratio     and on

    which for equal sizes is the paper's N/K + alpha · (S_c - N/K) with S_c = N R_c/ΣR. For unequal ones, which the
    paper does not have, a class gains or loses a share of *its own* size, which depends on hardness alone; if it were
    a share of N/K, a small class slightly easier than others would vanish. Targets are rounded by largest remainder,
    ties to the lower class number.

    No class shrinks below ``FLOOR`` of its size or one sample: it stops there, and the classes that gain share, in
    proportion, what the others still give up. So, up to one sample of rounding, a class that gains never gains less for
    a larger alpha, and one that loses never loses less; and of two equally large classes the harder never gets fewer
    (except with the control policy ``reversed``). The oversampler says whether a class's source can supply its count.

    Args:
        hardness: (K,), mean score of each class; higher = harder.
        sizes: (K,), how many samples each class has, at least 1.
        alpha: at least 0.
        policy: a name in ``POLICIES``.
        low_is_hard: whether the estimator's textbook form is low for hard samples, ``hardness`` being its negative.
        classes: names for error messages; numbers if None.

    Warns with ``HardtuneWarning`` if the ratio is the same for all classes, and alpha above 0.

    Raises:
        InputError: a hardness that is not finite or that the policy has no ratio for, an empty class, a negative alpha.

    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([100, 100, 100]), alpha=1)
    array([ 75,  75, 150])
    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([100, 100, 100]), alpha=4)
    array([ 10,  10, 280])
    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([800, 100, 100]), alpha=1)
    array([727,  91, 182])
    """
    hardness, sizes = np.asarray(hardness), np.asarray(sizes, dtype=np.int64)
    names = [str(c) for c in range(len(hardness))] if classes is None else classes
    if hardness.ndim != 1 or sizes.shape != hardness.shape or len(names) != len(hardness) or len(hardness) < 2:
        raise InputError(f"hardness and sizes must be (K,) for K of at least 2, got {hardness.shape} and {sizes.shape}")
    if not np.isfinite(hardness).all():
        raise InputError(f"the hardness of class {names[int(np.argmin(np.isfinite(hardness)))]!r} is not finite")
    if (sizes < 1).any():
        raise InputError(f"class {names[int(np.argmin(sizes))]!r} has no samples to resample")
    if not (np.isfinite(alpha) and alpha >= 0):
        raise InputError(f"alpha must be a finite number of at least 0, got {alpha!r}")

    with blamed(f"policy {policy!r} fails"):
        ratio = np.asarray(POLICIES[policy](hardness.astype(np.float64), low_is_hard, names), np.float64)
    if ratio.shape != hardness.shape or not np.isfinite(ratio).all() or ratio.min() < 0:
        raise InputError(f"policy {policy!r} must give every class a finite ratio of at least 0, got {ratio}")
    # Only what they are to one another counts: this changes no digit, but sums of them may not overflow, or vanish.
    ratio = np.ldexp(ratio, -int(np.frexp(ratio.max())[1]))
    if ratio.sum() == 0:
        ratio = np.ones_like(ratio)  # nothing is hard at all, so no class is harder than another
    if alpha > 0 and alike(ratio):
        warnings.warn(
            f"policy {policy!r} finds all classes equally hard, so alpha changes nothing: choose another estimator",
            HardtuneWarning,
            stacklevel=2,
        )
    total = int(sizes.sum())
    change: NDArray[np.float64] = sizes * (ratio * total / (sizes @ ratio) - 1)  # at alpha = 1
    gained = np.maximum(change, 0.0)
    most = sizes - np.array([floor_of(int(size)) for size in sizes])
    lost: NDArray[np.float64] = np.minimum(alpha * np.maximum(-change, 0.0), most)
    if gained.any():
        gained *= lost.sum() / gained.sum()  # times alpha itself, if no class stops at its floor
    return _round_to_sum(sizes + (gained - lost), total)


def _round_to_sum(target: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round to whole numbers that sum to ``total``, each less than 1 from its target: largest remainder."""
    counts = np.floor(target).astype(np.int64)
    first = np.argsort(-(target - counts), kind="stable")
    counts[first[: total - int(counts.sum())]] += 1
    return counts
