"""How well each class is recognised, and how unequally.

A class without samples in the split has no recall: it is NaN in per-class arrays and left out of every summary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed
from hardtune.evaluation.metric import metric
from hardtune.evaluation.predictions import Floats, Predictions


def class_recall(predictions: Predictions) -> Floats:
    """(K,) share of each class's samples that are predicted as it; NaN for a class without samples."""
    return _ratio(predictions.confusion.diagonal(), predictions.confusion.sum(axis=1))


def class_precision(predictions: Predictions) -> Floats:
    """(K,) TP / (TP + FP), the share of what is predicted as each class that is of it.

    NaN for a class that is never predicted, and for one without samples, of which every prediction is wrong.
    """
    confusion = predictions.confusion
    precision = _ratio(confusion.diagonal(), confusion.sum(axis=0))
    return np.where(confusion.sum(axis=1) > 0, precision, np.nan)


def class_f1(predictions: Predictions) -> Floats:
    """(K,) 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall; NaN for a class without samples.

    0 for one that has samples and is never predicted, though it has no precision then.
    """
    confusion = predictions.confusion
    f1 = _ratio(2 * confusion.diagonal(), confusion.sum(axis=0) + confusion.sum(axis=1))
    return np.where(confusion.sum(axis=1) > 0, f1, np.nan)


@metric("accuracy", better="max")
def accuracy(predictions: Predictions) -> float:
    """Share of correct predictions."""
    return float(predictions.correct.mean())


@metric("balanced_accuracy", better="max")
def balanced_accuracy(predictions: Predictions) -> float:
    """Mean recall over the classes that have samples: the accuracy if all classes were equally large."""
    return float(_present_recall(predictions).mean())


@metric("recall_gap", better="min")
def recall_gap(predictions: Predictions) -> float:
    """Population standard deviation of recall over classes: HBR v1's headline (arXiv 2504.07031).

    Chance widens it where classes have few samples, the more so the lower accuracy is, and so hides a part of what a
    treatment changes: see :func:`recall_gap_excess`.
    """
    return float(_present_recall(predictions).std())


@metric("recall_gap_excess", better="min")
def recall_gap_excess(predictions: Predictions) -> float:
    """The recall gap without what chance adds, as on endlessly many samples: sqrt(max(0, gap² - chance²)) (ours).

    chance² = (K - 1)/K mean r (1 - r) / (n - 1) over K classes, r the recall of one on its n samples. Without the
    maximum, the square is right on average, however unequal n and r are. Classes of a single sample are left out of the
    gap, too, since one sample cannot tell how much chance there is in it; 0 without at least two other classes.

    Between equally good classes it is 0 in more than half of all cases and never below, so above 0 on average: by a
    quarter of the gap by chance of 10 classes, and a seventh of that of 100.
    """
    sizes = predictions.confusion.sum(axis=1)
    several = sizes > 1
    if not several.any():
        return 0.0
    recall, n = class_recall(predictions)[several], sizes[several]
    chance = (1 - 1 / len(n)) * (recall * (1 - recall) / (n - 1)).mean()
    return math.sqrt(max(0.0, recall.var() - chance))


@metric("recall_range", better="min")
def recall_range(predictions: Predictions) -> float:
    """Δmax: best minus worst recall (HBR)."""
    return float(np.ptp(_present_recall(predictions)))


@metric("recall_topk_gap", better="min")
def recall_topk_gap(predictions: Predictions) -> float:
    """Δq: mean recall of the k best minus the k worst classes (HBR).

    k is a tenth of the classes, at least 2 and at most half of them: HBR's 2 of 10 and 10 of 100 (the rule is ours).
    """
    recall = np.sort(_present_recall(predictions))
    k = _tenth(recall)
    return float(recall[-k:].mean() - recall[:k].mean())


@metric("recall_mad", better="min")
def recall_mad(predictions: Predictions) -> float:
    """ΔMAD: mean absolute deviation of recall from its mean over classes (HBR names it; this reading is ours)."""
    recall = _present_recall(predictions)
    return float(np.abs(recall - recall.mean()).mean())


@metric("worst_recall", better="max")
def worst_recall(predictions: Predictions) -> float:
    """Recall of the worst class: of many classes mostly of the unluckiest, see :func:`recall_bottom_k`."""
    return float(_present_recall(predictions).min())


@metric("recall_bottom_k", better="max")
def recall_bottom_k(predictions: Predictions) -> float:
    """Mean recall of the k worst classes, k as in :func:`recall_topk_gap` (ours).

    Chance lowers it, too, since it chooses the classes, but it varies less than the worst recall does: of 100 classes
    with recalls around 0.72 ± 0.075 and 50 samples each, the worst one's is 0.53, and 0.46 ± 0.04 is found, mostly of
    another class; the ten worst have 0.59, and 0.55 ± 0.02 is found.
    """
    recall = np.sort(_present_recall(predictions))
    return float(recall[: _tenth(recall)].mean())


@metric("macro_f1", better="max")
def macro_f1(predictions: Predictions) -> float:
    """Mean F1 over the classes that have samples."""
    return float(np.nanmean(class_f1(predictions)))


def recall_hard_easy(predictions: Predictions, hard_classes: Sequence[int] | ArrayLike) -> float:
    """Δhe: mean recall of the easy classes minus that of the hard ones (HBR); 0 if either group is empty.

    A treatment that spoils an easy class brings it nearer to 0, so look at :func:`recall_bottom_k` beside it.

    Args:
        hard_classes: Labels of the hard ones, or a boolean mask (K,). In HBR, whose classes are equally large, those
            that α = 1 gives more than N/K samples.

    Raises:
        InputError: Labels outside 0..K-1 or given twice, as by a mask of 0 and 1, or a mask of another length.
    """
    hard = _mask(hard_classes, predictions.num_classes)
    recall = class_recall(predictions)
    present = ~np.isnan(recall)
    of_easy, of_hard = recall[present & ~hard], recall[present & hard]
    return float(of_easy.mean() - of_hard.mean()) if len(of_easy) and len(of_hard) else 0.0


def gap_by_chance(recall: NDArray[np.floating], sizes: NDArray[np.integer]) -> float:
    """About the recall gap that samples alone make between classes that are recognised equally well.

    sqrt((K - 1)/K p (1 - p) mean 1/n), from the variance of a share of n samples; K classes that have samples, p the
    recall that they would all have.

    Args:
        recall: (K,) of each class.
        sizes: (K,) n, on how many samples it was measured.

    Raises:
        InputError: no class has samples.

    >>> round(gap_by_chance(np.full(10, 0.8), np.full(10, 36)), 3)
    0.063
    """
    n = sizes[sizes > 0]
    if not len(n):
        raise InputError("a recall gap needs samples, and no class has any")
    p = recall[sizes > 0] @ n / n.sum()
    return float(np.sqrt((len(n) - 1) / len(n) * p * (1 - p) * np.mean(1 / n)))


def _tenth(recall: Floats) -> int:
    return max(1, min(max(2, len(recall) // 10), len(recall) // 2))


def _mask(classes: ArrayLike, num_classes: int) -> NDArray[np.bool_]:
    with blamed("hard classes must be a list of labels or a mask of booleans, and are not"):
        given = np.asarray(classes)
    if given.dtype == np.bool_:
        if given.shape != (num_classes,):
            raise InputError(f"a mask of hard classes must have {num_classes} entries, got shape {given.shape}")
        return given
    mask = np.zeros(num_classes, dtype=np.bool_)
    if given.ndim > 1:
        raise InputError(f"hard classes must be a list of labels or a mask of booleans, got shape {given.shape}")
    if given.size and (given.dtype.kind not in "iu" or given.min() < 0 or given.max() >= num_classes):
        raise InputError(f"hard classes must be labels in 0..{num_classes - 1}, got {given.tolist()}")
    mask[given.astype(np.int64)] = True
    if np.count_nonzero(mask) < given.size:
        raise InputError("hard classes must be labels, each once: a mask must be of booleans, not of 0 and 1")
    return mask


def _present_recall(predictions: Predictions) -> Floats:
    recall = class_recall(predictions)
    return np.asarray(recall[~np.isnan(recall)])


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Floats:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
