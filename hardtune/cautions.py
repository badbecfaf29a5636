"""What one should know about data before one trusts a sweep's figures; none of it stops the sweep."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Samples, Split, files_of
from hardtune.data.copies import Copies, Files, copies_in, copies_of_another_class
from hardtune.evaluation.calibration import ece_by_chance
from hardtune.evaluation.predictions import Predictions
from hardtune.evaluation.recall import gap_by_chance
from hardtune.hardness.estimators import class_hardness
from hardtune.needs import needed_scores, needs_pool
from hardtune.treatment import Treatment

FEW = 10
"""Held-out or test samples of a class, below which one of them moves its recall by more than a tenth."""
UNSURE = 0.05
"""The standard error of a class's recall from which on a search by it follows chance more than treatments."""
UNEQUAL = 10
"""The ratio of class sizes from which on some estimators rank classes by their size (see docs/methods.md)."""
TAIL = 3
"""The ratio of class sizes from which on one would want to know what evening them out does."""
SKEWED = 2
"""The ratio of class sizes in the test split above which it punishes networks that answer for equal classes."""
COPIES = 0.005
"""The share of images that are there twice from which on figures may move by half a point."""
BY_SIZE = {"rmd": "easy", "md": "easy", "kmeans": "hard"}
"""What they call samples of small classes."""
CHANCE = 0.05
"""The p-value above which classes' mean scores differ by no more than those of random classes may."""


def cautions(
    split: Split,
    treatments: Sequence[Treatment],
    copies: Sequence[Copies],
    files: Files = ((), ()),
    *,
    choosing: bool = True,
) -> list[str]:
    """A sentence for each thing that makes figures of these treatments on these data less telling than they look.

    Args:
        copies: :func:`copies_that_matter`.
        files: of the data set's whole training and test split, by which copies are named.
        choosing: whether treatments are chosen by figures on held-out samples, as by a search.
    """
    found = [_few(split, split.test, "test", "add test images")]
    if choosing and not split.chooses_on_test:
        found.insert(0, _few(split, split.held_out, "held-out", "hold out more (--recipe validation=…)"))
    found += [_there_twice(one, split.classes, files) for one in copies if choosing or one.other.part != "held-out"]
    if not split.chooses_on_test:
        found += [_mislabelled(split), _other_shares(split)]
    used = set().union(*map(needed_scores, treatments))
    found += [_called_by_their_size(split, used), _uneven(split, treatments), _evened_out(split, treatments)]
    return [sentence for sentence in found if sentence]


def cautions_about_scores(split: Split, estimators: Collection[str], data: str) -> list[str]:
    """Those of :func:`cautions` that are about these estimators' scores themselves; ``data`` is as for ``load``."""
    twice = copies_of_another_class(split)
    matter = [twice] if _many(twice) else []
    found = [_there_twice(copies, split.classes, known_files(split, data)) for copies in matter]
    return [sentence for sentence in (*found, _called_by_their_size(split, estimators)) if sentence]


def known_files(split: Split, data: str) -> Files:
    """The files of its whole training and test split; none unless ``data`` is a folder, and is as it was when read."""
    files = files_of(data)
    return files if tuple(map(len, files)) == (split.origin_size, len(split.test)) else ((), ())


def copies_that_matter(split: Split, treatments: Sequence[Treatment]) -> list[Copies]:
    """Images that are there twice in a way that moves figures of these treatments, where they are not few."""
    found = copies_in(split, pool=any(map(needs_pool, treatments)))
    return [copies for copies in found if _many(copies)]


def never_recognised(recall: NDArray[np.floating], split: Split, epochs: int) -> str:
    """A sentence if there are classes of which none of the control's networks recognises any sample; else empty.

    Then no treatment can be told from another by such a class, and training may have been too short: a few epochs of
    a small data set are a few steps. A class counts from ``FEW`` predictions on, over its samples and the networks.

    Args:
        recall: (M, K), of each network and class on held-out samples; NaN for a class without samples.
    """
    sizes = np.bincount(split.held_out.labels, minlength=split.num_classes)
    none = np.flatnonzero((recall == 0).all(axis=0) & (len(recall) * sizes >= FEW))
    if len(none) == 0:
        return ""
    such = f"{split.classes[none[0]]!r}{' for one' if len(none) > 1 else ''}"
    return (
        f"the control recognises no {'test' if split.chooses_on_test else 'held-out'} sample of {len(none)} of "
        f"{split.num_classes} classes ({such}), so figures may be of too short a training rather than of hardness: "
        f"train longer than {epochs} epochs of {len(split.train):,} samples (--recipe epochs=…)"
    )


def chance_in_the_gap(gap: float, recall: NDArray[np.floating], split: Split) -> str:
    """A sentence if at least half of the control's recall ``gap`` on held-out samples may be chance; else empty.

    Args:
        recall: (K,), its mean recall of each class there.
    """
    chance = gap_by_chance(recall, np.bincount(split.held_out.labels, minlength=split.num_classes))
    if split.chooses_on_test or chance < gap / 2:
        return ""
    return (
        f"if all classes were recognised equally well, their recall gap on {len(split.held_out):,} held-out samples "
        f"would still be about {chance:.3f}, and the control's is {gap:.3f}: what the search finds fairer may be luck, "
        "so hold out more (--recipe validation=…), see what --confirm says of it, and compare test/recall_gap_excess, "
        "the gap without chance"
    )


def chance_in_the_worst_recall(recall: NDArray[np.floating], split: Split) -> str:
    """A sentence if which samples are held out moves the recall of the control's worst class by ``UNSURE``; else empty.

    By the binomial standard error, of (n p + 1) / (n + 2), since p may be 0.

    Args:
        recall: (K,), its mean recall p of each class on held-out samples; NaN for a class without any.
    """
    if split.chooses_on_test:
        return ""
    worst = int(np.nanargmin(recall))
    n = np.count_nonzero(split.held_out.labels == worst)
    p = (n * recall[worst] + 1) / (n + 2)
    error = np.sqrt(p * (1 - p) / n)
    if error < UNSURE:
        return ""
    return (
        f"the control's worst class is {split.classes[worst]!r}, with a recall of {recall[worst]:.2f} on {n} held-out "
        f"samples, which has a standard error of {error:.2f} from their choice alone: what the search finds better for "
        "the worst class may be luck, so hold out more (--recipe validation=…), and see what --confirm says of it"
    )


def chance_in_the_ece(ece: float, logits: NDArray[np.floating], split: Split) -> str:
    """A sentence if at least half of the control's ``ece`` on held-out samples may be chance; else empty.

    Args:
        ece: the mean over its members.
        logits: (M, N, K), theirs there.
    """
    labels = split.held_out.labels
    if split.chooses_on_test:
        return ""
    chance = float(np.mean([ece_by_chance(Predictions.of(member, labels)) for member in logits]))
    if chance < ece / 2:
        return ""
    return (
        f"if predictions as confident as the control's were perfectly calibrated, their ECE on {len(labels):,} "
        f"held-out samples would still be about {chance:.2g}, and the control's is {ece:.2g}: what the search finds "
        "better calibrated may be luck, so hold out more (--recipe validation=…), and see what --confirm says of it"
    )


def chance_in_hardness(
    split: Split, scores: Mapping[str, NDArray[np.floating]], treatments: Sequence[Treatment]
) -> list[str]:
    """A sentence for each estimator by which random classes may well differ as much in hardness as these do.

    By the F test of a one-way analysis of variance, where treatments go by it with ``shift`` or ``reversed``, which
    make a ratio of 2:1 of any difference.

    Args:
        scores: (N,) of the training samples, by estimator.
    """
    ranges = {one.estimator for one in treatments if one.alpha > 0 and one.policy in ("shift", "reversed")}
    found = [_by_chance(split, name, scores[name]) for name in sorted(ranges & scores.keys())]
    return [sentence for sentence in found if sentence]


def _by_chance(split: Split, estimator: str, scores: NDArray[np.floating]) -> str:
    from scipy.special import fdtrc

    labels, k = split.train.labels, split.num_classes
    sizes = np.bincount(labels, minlength=k)
    if sizes.min() == 0 or len(labels) == k or not np.isfinite(scores).all():
        return ""  # the plan says what is wrong
    mean = class_hardness(scores, labels, k)
    within = float(((scores - mean[labels]) ** 2).sum()) / (len(labels) - k)
    between = float(sizes @ (mean - scores.mean(dtype=np.float64)) ** 2) / (k - 1)
    if within == 0 or fdtrc(k - 1, len(labels) - k, between / within) <= CHANCE:
        return ""
    error = np.sqrt(within / sizes.min())
    return (
        f"by {estimator!r}, classes differ in hardness by no more than chance gives (mean scores of {mean.min():.4g} "
        f"to {mean.max():.4g}, with standard errors of up to {error:.2g}), and policies 'shift' and 'reversed' make "
        "2:1 of it all the same: choose another estimator, or policy 'paper' or 'margin', which go by how large "
        "differences are"
    )


def _few(split: Split, samples: Samples, kind: str, remedy: str) -> str:
    sizes = np.bincount(samples.labels, minlength=split.num_classes)
    least = int(sizes.argmin())
    if sizes[least] >= FEW:
        return ""
    few, none = np.count_nonzero(sizes < FEW), np.count_nonzero(sizes == 0)
    have = "has" if few == 1 else "have"
    worst = f"{split.classes[least]!r} has {sizes[least] or 'none'}"
    if none > 1:
        worst = f"{none} have none, {split.classes[least]!r} for one"
    return (
        f"{few} of {split.num_classes} classes {have} fewer than {FEW} {kind} samples ({worst}), "
        f"so recall there, and the gap between classes, is mostly chance{' or missing' if none else ''}: {remedy}"
    )


def _many(copies: Copies) -> bool:
    return len(copies) >= max(1, COPIES * copies.size)


_TWICE = {
    "training": ("trained on, too", "figures flatter networks that remember"),
    "held-out": ("held-out ones, too, by which treatments are chosen", "the test split flatters these"),
    "pool": (
        "in the pool, too, from which classes gain training samples",
        "figures flatter treatments that draw on it",
    ),
}
"""What images are that are there once more, by where that is, and what follows."""


def _there_twice(copies: Copies, classes: Sequence[str], files: Files) -> str:
    part, other = copies.one.part, copies.other.part
    count, such = f"{len(copies):,} of {copies.size:,} {part} images are", copies.examples(classes, files)
    if part == other:
        return (
            f"{count} there as another class, too ({such}), and no network is right about both: remove the wrong ones"
        )
    what, therefore = _TWICE[other]
    return f"{count} {what} ({such}), so {therefore}: remove the copies"


def _mislabelled(split: Split) -> str:
    said = (
        "held-out samples have wrong labels, too, so objectives are not what they would be on the test split, and "
        "temperatures are fitted to wrong labels, so …_scaled figures say nothing of the test split"
    )
    return said if split.mislabelled else ""


def _other_shares(split: Split) -> str:
    held_out, test = (_shares(samples.labels, split.num_classes) for samples in (split.held_out, split.test))
    if np.abs(held_out - test).sum() / 2 <= 0.1:
        return ""
    recall = "; the recall of a class that is in both does, so recall_gap and balanced_accuracy do, too"
    return (
        "the test split has other shares of the classes than the held-out samples, so accuracy, calibration and "
        f"temperatures (…_scaled) of one do not carry over to the other{'' if split.mislabelled else recall}"
    )


def _called_by_their_size(split: Split, estimators: Collection[str]) -> str:
    sizes = np.bincount(split.train.labels, minlength=split.num_classes)
    used = BY_SIZE.keys() & estimators
    if not used or sizes.max() < UNEQUAL * sizes.min():
        return ""
    called = " and ".join(f"{name!r} calls samples of small classes {BY_SIZE[name]}" for name in sorted(used))
    return (
        f"classes have {sizes.min():,} to {sizes.max():,} training samples, and estimator {called}, "
        "whatever they show: choose 'rmd_balanced', also as entropy_estimator"
    )


def _uneven(split: Split, treatments: Sequence[Treatment]) -> str:
    sizes = np.bincount(split.train.labels, minlength=split.num_classes)
    resampling = [treatment for treatment in treatments if treatment.resamples]
    if not resampling or sizes.max() < TAIL * sizes.min() or any(treatment.balance for treatment in resampling):
        return ""
    return (
        f"classes have {sizes.min():,} to {sizes.max():,} training samples, and no treatment here evens them out, so "
        "figures cannot tell whether that helps more than hardness does: try balance, from 0 to 1"
    )


def _evened_out(split: Split, treatments: Sequence[Treatment]) -> str:
    train, test = (np.bincount(some.labels, minlength=split.num_classes) for some in (split.train, split.test))
    evening = any(treatment.resamples and treatment.balance for treatment in treatments)
    if not evening or train.max() == train.min() or test.max() <= SKEWED * test.min():
        return ""
    return (
        f"classes have {test.min():,} to {test.max():,} test samples, and with balance networks answer as if classes "
        "were equally frequent, so accuracy, nll, ece and temperatures (…_scaled) on the test split get worse by that "
        "alone: look at balanced_accuracy and the recall of each class"
    )


def _shares(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    return np.bincount(labels, minlength=num_classes) / len(labels)
