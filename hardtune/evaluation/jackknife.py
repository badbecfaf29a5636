"""How much a figure depends on the images that it is measured on: the delete-a-group jackknife."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import HardtuneWarning, InputError, blamed
from hardtune.evaluation.ood import ood_figures
from hardtune.evaluation.predictions import Floats, Predictions, checked_labels, checked_members, remedy
from hardtune.evaluation.summary import figures_of

PARTS = 20
"""As many as are left out in turn. More would cost more and tell little: t's quantile for 19 degrees of freedom is 7 %
above the normal distribution's."""


def left_out(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    hard_classes: Sequence[int] | ArrayLike | None = None,
    temperatures: Sequence[float] | None = None,
) -> dict[str, list[float]]:
    """Every metric's mean over members with each part of the images left out in turn, (P,).

    The parts depend on the labels alone, so those of two treatments can be paired. There are ``PARTS`` of them, or as
    many as images.

    Beside the logits, takes 10 to 15 times the memory of one member's in float32, with temperatures 20 to 25.

    Args:
        logits: (M, N, K).
        labels: (N,); empty is returned for a single one.
        hard_classes: As in :func:`~hardtune.evaluation.evaluate`.
        temperatures: (M,) of the members, as in :func:`~hardtune.evaluation.evaluate`; they are not fitted again.

    Warns with ``HardtuneWarning`` of a metric of one's own that fails on a part of the images, and leaves it out.

    Raises:
        InputError: As :func:`~hardtune.evaluation.evaluate`.
    """
    stack = checked_members(logits)
    truth = checked_labels(labels, *stack.shape[1:])
    part, count = parts(truth)
    failed: dict[str, InputError] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    for number, member in enumerate(stack):
        whole = Predictions.of(member, truth)
        scaled = None if temperatures is None else whole.at(temperatures[number])
        for one in range(count):
            kept = part != one
            some = figures_of(whole.take(kept), hard_classes, None if scaled is None else scaled.take(kept), failed)
            for name, value in some.items():
                sums.setdefault(name, np.zeros(count))[one] += value / len(stack)
    for error in failed.values():
        said = f"without a part of the images, {error}, so its intervals are over seeds alone"
        warnings.warn(said, HardtuneWarning, stacklevel=2)
    return {name: values.tolist() for name, values in sums.items() if name not in failed}


def recall_left_out(logits: ArrayLike, labels: ArrayLike) -> list[list[float]]:
    """As :func:`left_out`, the recall of each of K classes, in turn without each part that has images of it.

    Args:
        logits: (M, N, K).
        labels: (N,).

    Returns:
        For each class (P,), of at most ``PARTS`` and at most as many as it has images; empty if that is fewer than two.

    >>> recall_left_out([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]], [0, 0, 1])
    [[0.0, 1.0], []]
    """
    stack = checked_members(logits)
    truth, k = checked_labels(labels, *stack.shape[1:]), stack.shape[-1]
    part, _ = parts(truth)
    right = np.mean([Predictions.of(member, truth).correct for member in stack], axis=0)
    cell = truth * PARTS + part
    images, hits = (np.bincount(cell, weights, k * PARTS).reshape(k, PARTS) for weights in (None, right))
    found = []
    for n, h in zip(images, hits, strict=True):
        has = n > 0
        found.append(((h.sum() - h[has]) / (n.sum() - n[has])).tolist() if np.count_nonzero(has) > 1 else [])
    return found


def ood_left_out(
    members: Sequence[Mapping[str, tuple[Floats, Floats]]], labels: NDArray[np.int64]
) -> dict[str, list[float]]:
    """As :func:`left_out`, every figure of how well scores tell images inside the distribution from those outside.

    A part of the images outside goes with each part of those inside: the two were drawn apart, so the error that
    :func:`jackknife_error` finds is that of drawing both.

    Args:
        members: For each, its :func:`~hardtune.evaluation.ood.ood_scores`.
        labels: (N,) of the images inside; without at least two images on each side, empty is returned.
    """
    if not members:
        return {}
    outside = len(next(iter(members[0].values()))[1])
    (part, count), (other, others) = parts(labels), parts(np.zeros(outside, np.int64))
    if not (count and others):
        return {}
    figures = [
        [
            ood_figures({name: (near[part != one], far[other != one]) for name, (near, far) in member.items()})
            for one in range(count)
        ]
        for member in members
    ]
    return {name: np.mean([[some[name] for some in of] for of in figures], axis=0).tolist() for name in figures[0][0]}


def jackknife_error(values: ArrayLike) -> float:
    """The standard error that images, drawn at random, give to a figure: from its values (P,) of :func:`left_out`.

    sqrt((P - 1) / P Σ (v - mean v)²). Shao & Wu, A general theory for jackknife variance estimation, Ann. Stat. 1989.

    >>> right = np.array([1, 1, 1, 0])  # the standard error of a mean is s / sqrt(N)
    >>> without_each = [np.delete(right, i).mean() for i in range(4)]
    >>> round(jackknife_error(without_each), 4), round(float(right.std(ddof=1)) / 2, 4)
    (0.25, 0.25)

    Raises:
        InputError: Not at least two finite numbers.
    """
    with blamed("values must be an array of numbers, and are not" + remedy(values, ".detach().float().cpu()")):
        v = np.asarray(values, np.float64)
    if v.ndim != 1 or len(v) < 2 or not np.isfinite(v).all():
        raise InputError("a jackknife needs at least 2 parts, and the figures without each of them finite numbers (P,)")
    return math.sqrt((len(v) - 1) / len(v) * float(((v - v.mean()) ** 2).sum()))


def parts(labels: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """The part (N,) of each image, and how many there are to leave out: none of a single image.

    Dealt out like cards, class by class, so that each part has its share of every class. Shuffled within a class, since
    neighbours in a folder may be alike; always in the same way.
    """
    labels = np.asarray(labels)
    shuffled = np.random.default_rng(0).permutation(len(labels))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    part = np.empty(len(labels), np.int64)
    part[dealt] = np.arange(len(labels)) % PARTS
    return part, min(PARTS, len(labels)) if len(labels) > 1 else 0
