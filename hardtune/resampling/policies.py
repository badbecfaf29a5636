"""From class hardness to the ratio of class sizes: one function per policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.registry import Registry
from hardtune.treatment import Treatment

Policy = Callable[[NDArray[np.float64], bool, Sequence[str]], NDArray[np.float64]]
"""(hardness (K,), low_is_hard, class names) to the ratio R (K,): at least 0, not all 0, larger for harder classes (but
for ``reversed``, the control)."""

POLICIES: Registry[Policy] = Registry("policy")


@POLICIES.register("paper")
def paper(hardness: NDArray[np.float64], low_is_hard: bool, classes: Sequence[str]) -> NDArray[np.float64]:
    """R = 1/h for estimators whose textbook mean h is low for hard classes, R = H for the others (HBR).

    Raises:
        InputError: a class's h is not above 0 or its H is below 0: the published formula then gives that class nearly
            all samples, or a negative number of them.
    """
    if low_is_hard:
        _refuse(hardness >= 0, hardness, low_is_hard, classes)
        return -1 / hardness
    _refuse(hardness < 0, hardness, low_is_hard, classes)
    return hardness


@POLICIES.register("shift")
def shift(hardness: NDArray[np.float64], low_is_hard: bool, classes: Sequence[str]) -> NDArray[np.float64]:
    """R = 1 + (H - min H) / (max H - min H): the hardest class gets twice the easiest (ours).

    Hardness is shifted and scaled to [1, 2], so any estimator works, whatever its sign and unit; at alpha = 1 the
    hardest class is twice as large as the easiest, and equally hard classes stay equal.
    """
    if alike(hardness):
        return np.ones_like(hardness)
    ratio: NDArray[np.float64] = 1 + (hardness - hardness.min()) / np.ptp(hardness)
    return ratio


@POLICIES.register("reversed")
def reversed_shift(hardness: NDArray[np.float64], low_is_hard: bool, classes: Sequence[str]) -> NDArray[np.float64]:
    """R = 1 + (max H - H) / (max H - min H): the *easiest* class gets twice the hardest (ours).

    The control for ``shift``: as much resampling, in the wrong direction. If hardness is what helps, this must hurt.
    """
    return shift(-hardness, low_is_hard, classes)


@POLICIES.register("margin")
def margin(hardness: NDArray[np.float64], low_is_hard: bool, classes: Sequence[str]) -> NDArray[np.float64]:
    """R = 1 - h for an h in probabilities, such as the estimators ``margin`` and ``confidence``; else R = H (ours).

    With the probability margin, p of the given class minus p of its strongest rival, R is between 0 (certain and right)
    and 2 (certain and wrong), so a mostly misclassified class, whose mean AUM is below 0, has a finite ratio.

    Raises:
        InputError: h is not in [-1, 1], as AUM on logits is not.
    """
    if not low_is_hard:
        return paper(hardness, low_is_hard, classes)
    worst = int(np.argmax(np.abs(hardness)))
    if abs(hardness[worst]) > 1 + 1e-6:
        raise InputError(
            f"policy 'margin' needs an estimator in probabilities, and class {classes[worst]!r} has a mean of "
            f"{-hardness[worst]:.4g}: choose estimator 'margin' or 'confidence', or policy 'shift'"
        )
    return np.maximum(1 + hardness, 0.0)


def check_policy(treatment: Treatment) -> None:
    """Raise ``InputError`` if the scores of the treatment's estimator have no ratio by its policy.

    Of an estimator that is not registered, such as a name for scores of one's own, nothing is known.
    """
    if treatment.alpha == 0 or treatment.estimator not in ESTIMATORS:
        return
    estimator = ESTIMATORS[treatment.estimator]
    if estimator.centred and treatment.policy in ("paper", "margin"):
        others = [e.name for e in ESTIMATORS.values() if e.source == estimator.source and not e.centred]
        or_else = f", or an estimator such as {' or '.join(map(repr, others))}" if others else ""
        raise InputError(
            f"policy {treatment.policy!r} needs hardness above 0, and the scores of estimator {estimator.name!r} are "
            f"centred near 0, where ratios of class means say nothing: choose policy 'shift'{or_else}"
        )
    if treatment.policy == "margin" and estimator.low_is_hard > estimator.in_probabilities:
        fit = [e.name for e in ESTIMATORS.values() if e.in_probabilities]
        raise InputError(
            f"policy 'margin' needs an estimator in probabilities, and {estimator.name!r} is in logits: choose "
            f"estimator {' or '.join(map(repr, fit))}, or policy 'shift'"
        )


def textbook_direction(treatment: Treatment, low_is_hard: bool | None) -> bool:
    """Whether the textbook form of the treatment's estimator is low for hard samples.

    It is known of an estimator that is registered; of another, ``low_is_hard`` says it, and None is False.

    Raises:
        InputError: ``low_is_hard`` says otherwise, and class counts follow hardness, which would be reversed.
    """
    if treatment.estimator not in ESTIMATORS:
        return bool(low_is_hard)
    known = ESTIMATORS[treatment.estimator].low_is_hard
    if low_is_hard is not None and bool(low_is_hard) != known and treatment.alpha > 0:
        raise InputError(
            f"low_is_hard={low_is_hard}, and estimator {treatment.estimator!r} is {'low' if known else 'high'} for "
            "hard samples in its textbook form: leave low_is_hard out, or name the estimator whose scores these are"
        )
    return known


def check_scores(treatment: Treatment, scores: NDArray[np.floating]) -> None:
    """Raise ``InputError`` for scores not finite, or that cannot be the estimator's: of the wrong sign."""
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise InputError(f"scores must be finite, and {len(bad)} of them are not (training sample {bad[0]} for one)")
    if not treatment.needs_scores or treatment.estimator not in ESTIMATORS:
        return
    above = np.flatnonzero(scores > 1e-6)
    if treatment.estimator == "confidence" and len(above):
        raise InputError(
            "scores of estimator 'confidence' are negated probabilities, higher = harder, and training sample "
            f"{above[0]} has {scores[above[0]]:.4g}: negate them"
        )
    below = np.flatnonzero(scores < -1e-6)
    # With both signs they are perhaps standardised, and the right way round.
    if ESTIMATORS[treatment.estimator].nonnegative and len(below) and not len(above):
        raise InputError(
            f"scores of estimator {treatment.estimator!r} are at least 0, higher = harder, none here is above 0, and "
            f"training sample {below[0]} has {scores[below[0]]:.4g}: negate them, or name "
            "the estimator otherwise if they are right (logarithms, say)"
        )


def alike(values: NDArray[np.float64]) -> bool:
    """Whether those of all classes are equal, but for the rounding of means."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _refuse(wrong: NDArray[np.bool_], hardness: NDArray[np.float64], low_is_hard: bool, classes: Sequence[str]) -> None:
    if not wrong.any():
        return
    first = int(np.argmax(wrong))
    mean, why = hardness[first], "and the paper's ratio needs it to be at least 0"
    if low_is_hard:
        why = f"which is {-mean:.4g} in its estimator's textbook form, and the paper's ratio 1/mean needs that above 0"
    instead = "choose policy 'shift', or estimator 'margin' with policy 'margin'"
    if 2 * wrong.sum() > len(wrong):  # perhaps the scores have the wrong sign, with which 'shift' would be reversed
        longer = "train the scoring networks longer, " if low_is_hard else ""
        sign = "so AUM and margins are negated" if low_is_hard else "or say low_is_hard=True if they are negated"
        instead = f"{longer}{instead}, or, if these scores are your own, check their sign (higher = harder, {sign})"
    raise InputError(f"class {classes[first]!r} has a mean score of {mean:.4g}, {why}: {instead}")
