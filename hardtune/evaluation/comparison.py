"""Whether a treatment differs from the control by more than its members differ among themselves."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from hardtune.errors import InputError, blamed, unknown
from hardtune.evaluation.jackknife import jackknife_error
from hardtune.evaluation.predictions import remedy
from hardtune.numeric import is_number, whole

_LARGEST = 1e150
"""Figures whose squares can be summed."""
_NO_PARTS = "what is left out must be at least 2 parts, and figures without each of them finite numbers (P,)"


@dataclass(frozen=True)
class Difference:
    """A treatment's figure minus the control's, paired by member."""

    mean: float
    low: float
    high: float
    """Bounds of the confidence interval of ``mean``, for this comparison alone."""
    p_value: float
    """Two-sided, of the paired t-test; of the sign test if all members differ by the same amount."""
    p_adjusted: float
    """After Holm's correction for all treatments compared; the p-value itself if only one was."""
    members: int
    confidence: float
    images_share: float | None = None
    """The part of the squared half-width that images account for, members for the rest; None if members for all."""

    @property
    def significant(self) -> bool:
        """Whether it is significant after correction."""
        return self.p_adjusted < 1 - self.confidence


def paired_difference(
    treatment: ArrayLike, control: ArrayLike, *, left_out: ArrayLike | None = None, confidence: float = 0.95
) -> Difference:
    """Mean difference over members with Student's t interval.

    Member i of both shares its seed, so differences are taken per member and the seed's common effect cancels.
    One member has no spread: its interval is unbounded and its p-value 1. That of a few members that all differ by the
    same amount, other than 0, is unbounded, too, unless the sign test is significant; and that of images, if given,
    each part of which says the same, other than 0.

    With ``left_out``, the interval also covers which images happened to be there, the same for both sides: its
    half-width squared is the sum of those of the two sources. It is cautious, since what members make of single images
    counts in both (as in Owen, The pigeonhole bootstrap, Ann. Appl. Stat. 2007).

    Args:
        treatment, control: One figure per member, (M,), in the same order.
        left_out: The mean difference with each part of the images left out in turn, (P,): the difference of what
            :func:`~hardtune.evaluation.jackknife.left_out` gives for the two sides.

    Raises:
        InputError: Not two equally long, finite, non-empty (M,), not at least two finite figures of parts, or a
            confidence outside (0, 1).

    >>> difference = paired_difference([0.82, 0.84, 0.83], [0.80, 0.81, 0.82])
    >>> round(difference.mean, 4), round(difference.low, 4), round(difference.high, 4)
    (0.02, -0.0048, 0.0448)
    """
    with blamed("a paired comparison needs a figure of each member (M,) on both sides"):
        ours, theirs = np.asarray(treatment, np.float64), np.asarray(control, np.float64)
    if ours.ndim != 1 or ours.shape != theirs.shape or not len(ours):
        raise InputError(
            f"a paired comparison needs the same members on both sides, got {ours.shape} and {theirs.shape}"
        )
    if not (np.abs([ours, theirs]) <= _LARGEST).all():  # False for NaN
        raise InputError(f"a paired comparison needs finite figures of at most {_LARGEST:g}")
    _check_confidence(confidence)
    if isinstance(left_out, Mapping):
        raise InputError("left_out takes one metric's (P,), the treatment's minus the control's, got a mapping")
    with blamed(_NO_PARTS):
        parts = None if left_out is None else np.asarray(left_out, np.float64)
    if parts is not None and (parts.ndim != 1 or len(parts) < 2 or not (np.abs(parts) <= _LARGEST).all()):
        raise InputError(_NO_PARTS)
    differences = ours - theirs
    mean, m = float(differences.mean()), len(differences)
    images = [] if parts is None else [_Source(jackknife_error(parts), len(parts) - 1)]
    unbounded = Difference(mean, -math.inf, math.inf, 1.0, 1.0, m, confidence, 0.0 if images else None)
    if m == 1:
        return unbounded

    rounding = 1e-12 * float(np.abs([ours, theirs]).max(initial=1e-300))
    # Of a class's two images, say, both gained: their jackknife's error is 0, and would claim to know all others.
    if parts is not None and np.ptp(parts) <= rounding < abs(mean):
        return dataclasses.replace(unbounded, images_share=1.0)
    error, members, least = float(differences.std(ddof=1)) / math.sqrt(m), [], 0.0
    # No spread beyond rounding: t would be infinite and claim certainty from only two members. The sign test does not:
    # if both signs were equally likely, M equal signs would occur once in 2^(M-1).
    if error <= rounding:
        least = 1.0 if abs(mean) <= error else 0.5 ** (m - 1)
        if abs(mean) > error and least >= 1 - confidence:  # too few equal differences bound nothing
            return dataclasses.replace(unbounded, p_value=least, p_adjusted=least)
    else:
        members = [_Source(error, m - 1)]
    reach = _reach(1 - confidence, members + images)
    p_value = max(least, _p_value(abs(mean), members + images))
    share = (_reach(1 - confidence, images) / reach) ** 2 if reach else 0.0
    return Difference(mean, mean - reach, mean + reach, p_value, p_value, m, confidence, share if images else None)


def _check_confidence(confidence: float) -> None:
    if not is_number(confidence) or not 0 < confidence < 1:
        raise InputError(f"confidence must be a number between 0 and 1, got {confidence!r}")


@dataclass(frozen=True)
class _Source:
    """Something that chance decides: the standard error from it, and the degrees of freedom that it is known with."""

    error: float
    freedom: int


def _reach(p: float, sources: Sequence[_Source]) -> float:
    """Half the width of the interval that leaves out a share ``p``."""
    from scipy.special import stdtrit

    return math.hypot(*(float(stdtrit(source.freedom, p / 2)) * source.error for source in sources))


def _p_value(distance: float, sources: Sequence[_Source]) -> float:
    """The ``p`` whose interval is just as wide as the distance from 0; of one source, that of its t-test."""
    from scipy.optimize import brentq
    from scipy.special import stdtr

    known = [source for source in sources if source.error > 0]
    if len(known) < 2:
        return 2 * float(stdtr(known[0].freedom, -distance / known[0].error)) if known else float(distance == 0)
    # In log p, since p may be tiny; and via args, since brentq keeps all that its function closes over.
    low, high = math.log(1e-300), 0.0
    if _missing(low, distance, known) <= 0:
        return 1e-300
    return math.exp(brentq(_missing, low, high, args=(distance, known), xtol=1e-9))


def _missing(log_p: float, distance: float, sources: Sequence[_Source]) -> float:
    return _reach(math.exp(log_p), sources) - distance


def compare(
    treatments: Mapping[str, ArrayLike],
    control: ArrayLike,
    *,
    left_out: Mapping[str, ArrayLike] | None = None,
    confidence: float = 0.95,
    given_up: int = 0,
) -> dict[str, Difference]:
    """Each treatment against the control, with p-values corrected for multiple comparisons (Holm 1979).

    Holm bounds the probability of even one false discovery, whatever the dependence between comparisons; all of these
    share one control, so they are dependent.

    Args:
        treatments: Figures (M,) per member, by treatment.
        control: (M,), the same members.
        left_out: By treatment, as in :func:`paired_difference`; of treatments that are not there, the intervals cover
            members alone.
        given_up: How many more were tried and stopped before all members were trained, as racing does. They count in
            the correction, as not significant: the others were chosen among them, by networks that are compared here.

    Raises:
        InputError: As :func:`paired_difference`, a name in ``left_out`` that is no treatment's, or a ``given_up`` that
            is no whole number of at least 0.
    """
    if not isinstance(treatments, Mapping):
        raise InputError(f"treatments maps names to figures of each member (M,), got a {type(treatments).__name__}")
    parts = {} if left_out is None else left_out
    if not isinstance(parts, Mapping):
        raise InputError(f"left_out maps treatments to figures without each part (P,), got a {type(parts).__name__}")
    for name in parts:
        if name not in treatments:  # its interval would cover members alone, and so look surer than it is
            raise unknown("treatment in left_out", name, map(str, treatments))
    given_up = whole(given_up, "given_up", least=0)
    found = {
        name: paired_difference(values, control, left_out=parts.get(name), confidence=confidence)
        for name, values in treatments.items()
    }
    adjusted = holm([difference.p_value for difference in found.values()] + [1.0] * given_up)[: len(found)]
    return {
        name: dataclasses.replace(difference, p_adjusted=p)
        for (name, difference), p in zip(found.items(), adjusted, strict=True)
    }


def least_significant(members: int, comparisons: int, *, confidence: float = 0.95) -> float:
    """How large a mean difference must be, in its standard deviations over members, to be significant.

    That is for the largest of so many comparisons, by which Holm's correction begins. Infinite for a single member.

    >>> round(least_significant(5, 1), 1), round(least_significant(5, 48), 1)
    (1.2, 3.8)

    Raises:
        InputError: Members or comparisons that are no whole number of at least 1, or a confidence outside (0, 1).
    """
    from scipy.special import stdtrit

    members, comparisons = whole(members, "members"), whole(comparisons, "comparisons")
    _check_confidence(confidence)
    if members < 2:
        return math.inf
    return float(stdtrit(members - 1, 1 - (1 - confidence) / 2 / comparisons)) / math.sqrt(members)


def holm(p_values: ArrayLike) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]

    Raises:
        InputError: What is no (m,) of numbers in [0, 1].
    """
    with blamed("p-values must be an array of numbers, and are not" + remedy(p_values, ".detach().float().cpu()")):
        p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():  # False for NaN
        raise InputError(f"p-values must be numbers in [0, 1], (m,), got {p_values!r}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
