"""Class hardness to class counts (HBR, arXiv 2504.07031), without the published code's drift and negative sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import ContractError, HardtuneWarning, InputError, blamed
from hardtune.numeric import is_number
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
    balance: float = 0.0,
    low_is_hard: bool = False,
    classes: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """How many samples each class should have: int64 (K,), summing to exactly N = sum of ``sizes``.

    ``balance`` evens out the sizes n_c of the K classes, and ``alpha`` then follows their hardness, by the policy's
    ratio R; N/ΣeR normalises the sum::

        e_c = n_c + balance · (N/K - n_c)           balance = 0: the data's own sizes      balance = 1: equal ones
        e_c + alpha · (e_c R_c N/ΣeR - e_c)         alpha = 0: sizes whatever hardness     alpha = 1: e_c times ratio

    For equal e_c this is the paper's N/K + alpha · (S_c - N/K) with S_c = N R_c/ΣR. For unequal ones, which the paper
    does not have, a class gains or loses a share of *its own* size, which depends on hardness alone; if it were a share
    of N/K, a small class slightly easier than others would vanish. Targets are rounded by largest remainder, ties to
    the lower class number.

    No class shrinks below ``FLOOR`` of its size or one sample: it stops there, and the classes that gain share, in
    proportion, what the others still give up. So, up to one sample of rounding, a class that gains by hardness never
    gains less for a larger alpha, and one that loses never loses less; and of two equally large classes the harder
    never gets fewer (except with the control policy ``reversed``). The oversampler says whether a class's source can
    supply its count.

    Args:
        hardness: (K,), mean score of each class; higher = harder. With alpha = 0 it changes nothing.
        sizes: (K,), how many samples each class has, at least 1.
        alpha: at least 0.
        policy: a name in ``POLICIES``.
        balance: 0 to 1.
        low_is_hard: whether the estimator's textbook form is low for hard samples, ``hardness`` being its negative.
        classes: names for error messages; numbers if None.

    Warns with ``HardtuneWarning`` if the ratio is the same for all classes, and alpha above 0.

    Raises:
        InputError: a hardness that is not finite or that the policy has no ratio for, an empty class, an alpha or a
            balance out of range.

    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([100, 100, 100]), alpha=1)
    array([ 75,  75, 150])
    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([100, 100, 100]), alpha=4)
    array([ 10,  10, 280])
    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([800, 100, 100]), alpha=1)
    array([727,  91, 182])
    >>> class_counts(np.array([1.0, 1.0, 2.0]), np.array([800, 100, 100]), alpha=1, balance=1)
    array([250, 250, 500])
    """
    with blamed("hardness and sizes must be arrays of numbers"):
        hardness, given = np.asarray(hardness, np.float64), np.asarray(sizes)
        sizes = given.astype(np.int64)
    if (sizes != given).any():
        raise InputError(f"sizes must be whole numbers, got {given}")
    names = [str(c) for c in range(hardness.size)] if classes is None else classes
    if hardness.ndim != 1 or sizes.shape != hardness.shape or len(names) != hardness.size or hardness.size < 2:
        raise InputError(f"hardness and sizes must be (K,) for K of at least 2, got {hardness.shape} and {sizes.shape}")
    if not np.isfinite(hardness).all():
        raise InputError(f"the hardness of class {names[int(np.argmin(np.isfinite(hardness)))]!r} is not finite")
    if (sizes < 1).any():
        raise InputError(f"class {names[int(np.argmin(sizes))]!r} has no samples to resample")
    if not is_number(alpha) or not 0 <= alpha < math.inf:
        raise InputError(f"alpha must be a finite number of at least 0, got {alpha!r}")
    if not is_number(balance) or not 0 <= balance <= 1:
        raise InputError(f"balance must be from 0 to 1, got {balance!r}")

    total = int(sizes.sum())
    least = np.array([floor_of(int(size)) for size in sizes])
    target = _moved(sizes, balance * (total / len(sizes) - sizes), least)
    if alpha > 0:
        ratio = _ratio(hardness, policy, low_is_hard, names)
        with np.errstate(over="ignore", invalid="ignore"):
            change = alpha * target * (ratio * total / (target @ ratio) - 1)
            if not np.isfinite(np.abs(change).sum()):
                raise InputError(f"alpha={alpha:g} is too large to compute counts with")
        if not alike(ratio):  # else the change is what was rounded, times alpha
            target = _moved(target, change, least)
    return round_to_sum(target, total)


def _ratio(hardness: NDArray[np.floating], policy: str, low_is_hard: bool, names: Sequence[str]) -> NDArray[np.float64]:
    """(K,) what the policy makes of hardness, checked, as it may be a user's, and scaled to a maximum of about 1."""
    with blamed(f"policy {policy!r} fails"):
        ratio = np.asarray(POLICIES[policy](hardness.astype(np.float64), low_is_hard, names), np.float64)
    if ratio.shape != hardness.shape:
        raise ContractError(f"policy {policy!r} must give a ratio for each class, {hardness.shape}, got {ratio.shape}")
    if not np.isfinite(ratio).all() or ratio.min() < 0:
        raise InputError(f"policy {policy!r} must give every class a finite ratio of at least 0, got {ratio}")
    # Only what they are to one another counts: this changes no digit, but sums of them may not overflow, or vanish.
    ratio = np.ldexp(ratio, -int(np.frexp(ratio.max())[1]))
    if ratio.sum() == 0:
        ratio = np.ones_like(ratio)  # nothing is hard at all, so no class is harder than another
    if alike(ratio):
        warnings.warn(
            f"policy {policy!r} finds all classes equally hard, so alpha changes nothing: choose another estimator",
            HardtuneWarning,
            stacklevel=3,
        )
    return ratio


def _moved(start: NDArray[np.number], change: NDArray[np.floating], least: NDArray[np.int64]) -> NDArray[np.float64]:
    """``start`` and ``change``, which sums to 0; who would get below ``least`` stops there, and gains are scaled to it.

    All are (K,).
    """
    lost = np.minimum(np.maximum(-change, 0.0), start - least)
    gained = np.maximum(change, 0.0)
    if not gained.any():  # then what the others lose is rounding
        return start.astype(np.float64)
    return start + gained * (lost.sum() / gained.sum()) - lost


def round_to_sum(target: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Round to whole numbers that sum to ``total``, each less than 1 from its target: largest remainder."""
    target = target.round(6)  # targets that differ by errors of arithmetic alone are a tie
    counts = np.floor(target).astype(np.int64)
    first = np.argsort(-(target - counts), kind="stable")
    counts[first[: total - int(counts.sum())]] += 1
    return counts
