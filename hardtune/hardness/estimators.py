"""Hardness estimators by name, where their scores come from, and how they are aggregated.

A score is a float32 per training sample and **higher is harder, always**. Estimators whose textbook form runs the other
way are negated where they are computed; ``low_is_hard`` only records this, for formulas that need the textbook value.

To add one, or scores that you have already, see :func:`estimator`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.data import Split
from hardtune.errors import InputError, blamed
from hardtune.hardness.features import as_labelled, as_labels
from hardtune.hardness.kmeans import centre_distance
from hardtune.hardness.mahalanobis import mahalanobis, relative_mahalanobis
from hardtune.numeric import whole
from hardtune.read_only import read_only
from hardtune.registry import Registry

FeatureScores = Callable[[NDArray[np.floating], NDArray[np.int64], int, int], NDArray[np.floating]]
"""(features (N, D), labels (N,), num_classes, seed) to scores (N,), higher = harder."""
DataScores = Callable[[Split], NDArray[np.floating]]
"""A split to scores (N,) of its training samples, higher = harder."""
Computed = TypeVar("Computed", bound=Callable[..., Any])


@dataclass(frozen=True)
class Estimator:
    """One way to say how hard a sample is."""

    name: str
    source: Literal["dynamics", "gradients", "features", "data"]
    """``dynamics``: from :class:`~hardtune.hardness.dynamics.Dynamics`; ``gradients``: from per-sample gradient norms;
    both are averaged over the scoring ensemble. ``features``: from a frozen encoder's features; ``data``: from the data
    themselves, or from a file of scores."""
    low_is_hard: bool = False
    """Whether the textbook form is low for hard samples, so that the score is its negative."""
    in_probabilities: bool = False
    """Whether that form is in [-1, 1], as a difference of probabilities is."""
    centred: bool = False
    """Whether scores are centred near 0, so that a ratio of class means says nothing."""
    nonnegative: bool = False
    """Whether scores cannot be below 0, as norms and counts cannot."""
    version: int = 1
    """Incremented whenever the scores change: it is part of their store key. Scores from features or data are not
    stored, and networks are stored under a digest of the very scores that they were trained with."""
    from_features: FeatureScores | None = None
    """How a ``features`` estimator is computed."""
    from_data: DataScores | None = None
    """How a ``data`` estimator is computed."""

    @property
    def measured(self) -> bool:
        """Whether its scores are measured while the scoring ensemble trains."""
        return self.source in ("dynamics", "gradients")


ESTIMATORS: Registry[Estimator] = Registry("estimator")


def _measured(
    name: str, source: Literal["dynamics", "gradients"], *, low_is_hard: bool = False, in_probabilities: bool = False
) -> None:
    # Those that are not negated are norms, counts, losses and variances.
    ESTIMATORS.register(name)(Estimator(name, source, low_is_hard, in_probabilities, nonnegative=not low_is_hard))


# Formulas and papers are in docs/methods.md.
_measured("aum", "dynamics", low_is_hard=True)
_measured("margin", "dynamics", low_is_hard=True, in_probabilities=True)
_measured("el2n", "dynamics")
_measured("el2n_mean", "dynamics")
_measured("forgetting", "dynamics")
_measured("confidence", "dynamics", low_is_hard=True, in_probabilities=True)
_measured("variability", "dynamics")
_measured("dataiq", "dynamics")
_measured("loss", "dynamics")
_measured("grand", "gradients")
# A network that has seen no data knows no hard samples: Kirsch 2023 (arXiv 2303.14753) could not reproduce this one.
_measured("grand_init", "gradients")


def estimator(
    name: str, *, of: Literal["features", "data"] = "features", centred: bool = False, nonnegative: bool = False
) -> Callable[[Computed], Computed]:
    """Register a function of an encoder's features, or of the data, as an estimator of hardness::

        @estimator("norm")
        def norm(features, labels, num_classes, seed):  # (N, D), (N,) to (N,), higher = harder
            return np.linalg.norm(features, axis=1)

        @estimator("human", of="data")  # scores that you have
        def human(split):  # a Split to (N,), of split.train: rows split.kept of the data set's training split
            return np.load("disagreement-of-annotators.npy")[split.kept]

    All that they are given is read-only. In a sweep's script, or a module that it imports, this is enough: workers get
    it, too.

    Args:
        centred: whether scores are centred near 0, so that the policies ``paper`` and ``margin`` have no ratio.
        nonnegative: whether scores cannot be below 0, so that plans refuse negated ones.
    """

    register = ESTIMATORS.register(name)
    if of not in ("features", "data"):
        raise InputError(f"an estimator is of 'features' or of 'data', got {of!r}")

    def add(compute: Computed) -> Computed:
        if not callable(compute):
            raise InputError(f"estimator {name!r} must be a function, got {compute!r:.80}")
        given: dict[str, Any] = {f"from_{of}": compute}
        register(Estimator(name, of, centred=centred, nonnegative=nonnegative, **given))
        return compute

    return add


@estimator("rmd", centred=True)
def _rmd(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int
) -> NDArray[np.floating]:
    return relative_mahalanobis(features, labels, num_classes)


@estimator("rmd_balanced", centred=True)
def _rmd_balanced(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int
) -> NDArray[np.floating]:
    return relative_mahalanobis(features, labels, num_classes, balanced=True)


@estimator("md", nonnegative=True)
def _md(features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int) -> NDArray[np.floating]:
    return mahalanobis(features, labels, num_classes)


@estimator("kmeans", nonnegative=True)
def _kmeans(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int
) -> NDArray[np.floating]:
    return centre_distance(features, num_classes, seed)


MEASURED = frozenset(name for name, estimator in ESTIMATORS.items() if estimator.measured)
"""Those measured while the scoring ensemble trains; users cannot add any."""


def check_estimator(name: str) -> None:
    """Raise ``InputError`` for an estimator that does not exist, or that nothing computes."""
    if ESTIMATORS[name].measured and name not in MEASURED:
        raise InputError(
            f"nothing computes the scores of estimator {name!r}: register a function of features or data by "
            "@estimator; those of training dynamics and gradients cannot be added to"
        )


def feature_scores(
    name: str, features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int
) -> NDArray[np.float32]:
    """Score samples by the features (N, D) that a frozen encoder gives them; float32 (N,), higher = harder.

    Args:
        name: an estimator whose source is ``features``.
        labels: int64 (N,), the given labels in 0..num_classes-1.
        seed: for estimators that draw (``kmeans``).

    Raises:
        InputError: not such an estimator, or it raises or does not give one score per sample; features that are not
            finite or do not match the labels; a seed below 0 or None.
    """
    compute = ESTIMATORS[name].from_features
    if compute is None:
        valid = ", ".join(sorted(e.name for e in ESTIMATORS.values() if e.from_features))
        raise InputError(f"estimator {name!r} is not computed from features: choose from {valid}")
    seed = whole(seed, "seed", least=0)
    features, labels = as_labelled(features, labels, num_classes)
    with blamed(f"estimator {name!r} fails on features {features.shape}"):
        return _scores(name, compute(read_only(features), read_only(labels), num_classes, seed), len(labels))


def data_scores(name: str, split: Split) -> NDArray[np.float32]:
    """Score a split's training samples by an estimator whose source is ``data``; float32 (N,), higher = harder.

    Raises:
        InputError: not such an estimator, or it raises or does not give one score per sample.
    """
    compute = ESTIMATORS[name].from_data
    if compute is None:
        raise InputError(f"estimator {name!r} is not computed from the data")
    with blamed(f"estimator {name!r} fails"):
        return _scores(name, compute(split), len(split.train), whole=split.origin_size)


def _scores(name: str, found: ArrayLike, count: int, whole: int | None = None) -> NDArray[np.float32]:
    """What an estimator, perhaps a user's, gives ``count`` samples; ``whole``: how many there were to choose from."""
    given = np.asarray(found)
    if given.dtype.kind not in "biuf" or np.ma.isMaskedArray(found):
        kind = "masked values" if np.ma.isMaskedArray(found) else given.dtype
        raise InputError(f"estimator {name!r} must give a number for each sample, got {kind}")
    with np.errstate(over="ignore"):
        scores = given.astype(np.float32)
    if scores.shape != (count,):
        of_all = scores.shape == (whole,)
        hint = ": of these, split.kept are the training samples" if of_all else "; it must give a score each"
        raise InputError(f"estimator {name!r} gives {scores.shape} for {count} samples{hint}")
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise InputError(
            f"estimator {name!r} gives scores that are not finite (float32), first for training sample {bad[0]}"
        )
    return scores


def ensemble_scores(members: Sequence[NDArray[np.floating]] | NDArray[np.floating]) -> NDArray[np.float32]:
    """The ensemble's score of each sample: the plain mean over members (HBR). Members (J, N) to float32 (N,).

    Higher is harder in both. Of each member it takes the scores of one estimator::

        ensemble_scores([dynamics.scores()["aum"] for dynamics in members])

    Raises:
        InputError: no members, one that has no number for each of the same samples, or scores, or a mean as float32,
            that are not finite.
    """
    arrays: list[NDArray[np.floating]] = []
    with blamed("an ensemble's score needs an array of numbers (N,) from each member"):
        for scores in members:
            if isinstance(scores, Mapping):
                raise InputError("an ensemble's score is of one estimator: pass such as [m['aum'] for m in members]")
            arrays.append(np.asarray(scores))
            if arrays[-1].dtype.kind not in "biuf" or np.ma.isMaskedArray(scores):
                raise TypeError(f"got {'masked values' if np.ma.isMaskedArray(scores) else arrays[-1].dtype}")
    if not arrays:
        raise InputError("an ensemble's score needs at least one member's")
    shapes = dict.fromkeys(scores.shape for scores in arrays)
    if [len(shape) for shape in shapes] != [1]:
        got = ", ".join(map(str, shapes))
        raise InputError(f"an ensemble's score needs scores (N,) of the same samples from each member, got {got}")
    with np.errstate(over="ignore"):
        mean: NDArray[np.float32] = np.asarray(np.mean(arrays, axis=0, dtype=np.float64)).astype(np.float32)
    if not np.isfinite(mean).all():
        raise InputError("the members' scores contain NaN or infinity (float32)")
    return mean


def class_hardness(scores: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """The hardness of each class, float64 (K,): the mean score of its training samples (HBR); higher = harder.

    Raises:
        InputError: a class has no samples, or a score is not finite.

    >>> class_hardness(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), num_classes=2)
    array([2., 5.])
    """
    with blamed("scores must be an array of numbers"):
        scores = np.asarray(scores, np.float64)
    labels = as_labels(labels, num_classes)
    if scores.shape != labels.shape:
        raise InputError(f"there must be one score for each of {len(labels)} samples, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("the scores contain NaN or infinity")
    sizes = np.bincount(labels, minlength=num_classes)
    if (sizes == 0).any():
        raise InputError(f"class {int(np.argmin(sizes))} has no training samples, so it has no hardness")
    return np.bincount(labels, weights=scores, minlength=num_classes) / sizes
