"""What one should know about data before one trusts a sweep's figures; none of it stops the sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Split
from hardtune.member import needed_scores
from hardtune.treatment import Treatment

FEW = 10
"""Held-out samples of a class, below which one of them moves its recall by more than a tenth."""
UNEQUAL = 10
"""The ratio of class sizes from which on ``rmd`` ranks classes by their size (see docs/methods.md)."""


def cautions(split: Split, treatments: Sequence[Treatment]) -> list[str]:
    """A sentence for each thing that makes figures of these treatments on these data less telling than they look."""
    found = [] if split.chooses_on_test else [_few_held_out(split), _other_shares(split)]
    found.append(_small_classes_called_easy(split, treatments))
    return [sentence for sentence in found if sentence]


def _few_held_out(split: Split) -> str:
    held_out = np.bincount(split.held_out.labels, minlength=split.num_classes)
    least = int(held_out.argmin())
    if held_out[least] >= FEW:
        return ""
    return (
        f"{np.count_nonzero(held_out < FEW)} of {split.num_classes} classes have fewer than {FEW} held-out samples "
        f"({split.classes[least]!r} has {held_out[least]}), so their recall, and the gap between classes, is mostly "
        "chance: hold out more (--recipe validation=…)"
    )


def _other_shares(split: Split) -> str:
    held_out, test = (_shares(samples.labels, split.num_classes) for samples in (split.held_out, split.test))
    if np.abs(held_out - test).sum() / 2 <= 0.1:
        return ""
    return (
        "the test split has other shares of the classes than the held-out samples, so accuracy, calibration and "
        "temperatures (…_scaled) of one do not carry over to the other; recalls do"
    )


def _small_classes_called_easy(split: Split, treatments: Sequence[Treatment]) -> str:
    sizes = np.bincount(split.train.labels, minlength=split.num_classes)
    by_size = any("rmd" in needed_scores(treatment) for treatment in treatments)
    if not by_size or sizes.max() <= UNEQUAL * sizes.min():
        return ""
    return (
        f"classes have {sizes.min():,} to {sizes.max():,} training samples, and estimator 'rmd' calls samples of small "
        "classes easy: choose 'rmd_balanced', also as entropy_estimator"
    )


def _shares(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    return np.bincount(labels, minlength=num_classes) / len(labels)
