"""Hardness estimators by name, where their scores come from, and how they are aggregated.

A score is a float32 per training sample and **higher is harder, always**. Estimators whose textbook form runs the other
way are negated where they are computed; ``low_is_hard`` only records this, for formulas that need the textbook value.

To add one that reads features, see :func:`estimator`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError, blamed
from hardtune.hardness.features import as_labelled, as_labels
from hardtune.hardness.kmeans import centre_distance
from hardtune.hardness.mahalanobis import mahalanobis, relative_mahalanobis
from hardtune.registry import Registry

FeatureScores = Callable[[NDArray[np.floating], NDArray[np.int64], int, int], NDArray[np.floating]]
"""(features (N, D), labels (N,), num_classes, seed) to scores (N,), higher = harder."""


@dataclass(frozen=True)
class Estimator:
    """One way to say how hard a sample is."""

    name: str
    source: Literal["dynamics", "features", "gradients"]
    """``dynamics``: from :class:`~hardtune.hardness.dynamics.Dynamics`; ``features``: from a frozen encoder's
    features; ``gradients``: from per-sample gradient norms. All but ``features`` are averaged over the ensemble."""
    low_is_hard: bool = False
    """Whether the textbook form is low for hard samples, so that the score is its negative."""
    in_probabilities: bool = False
    """Whether that form is in [-1, 1], as a difference of probabilities is."""
    centred: bool = False
    """Whether scores are centred near 0, so that a ratio of class means says nothing."""
    version: int = 1
    """Incremented whenever the scores change: it is part of their store key. Scores computed from features are not
    stored, and networks are stored under a digest of the very scores that they were trained with."""
    from_features: FeatureScores | None = None
    """How a ``features`` estimator is computed."""


ESTIMATORS: Registry[Estimator] = Registry("estimator")


def _measured(
    name: str, source: Literal["dynamics", "gradients"], *, low_is_hard: bool = False, in_probabilities: bool = False
) -> None:
    ESTIMATORS.register(name)(Estimator(name, source, low_is_hard, in_probabilities))


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


def estimator(name: str, *, centred: bool = False) -> Callable[[FeatureScores], FeatureScores]:
    """Register a function of an encoder's features as an estimator of hardness::

        @estimator("norm")
        def norm(features, labels, num_classes, seed):  # (N, D), (N,) to (N,), higher = harder
            return np.linalg.norm(features, axis=1)  # features and labels are read-only

    In a sweep's script, or a module that it imports, this is enough: workers get it, too.

    Args:
        centred: whether scores are centred near 0, so that the policies ``paper`` and ``margin`` have no ratio.
    """

    register = ESTIMATORS.register(name)

    def add(compute: FeatureScores) -> FeatureScores:
        register(Estimator(name, "features", centred=centred, from_features=compute))
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


@estimator("md")
def _md(features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int) -> NDArray[np.floating]:
    return mahalanobis(features, labels, num_classes)


@estimator("kmeans")
def _kmeans(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, seed: int
) -> NDArray[np.floating]:
    return centre_distance(features, num_classes, seed)


MEASURED = frozenset(name for name, estimator in ESTIMATORS.items() if estimator.source != "features")
"""Those measured while the scoring ensemble trains; users cannot add any."""


def check_estimator(name: str) -> None:
    """Raise ``InputError`` for an estimator that does not exist, or that nothing computes."""
    if ESTIMATORS[name].from_features is None and name not in MEASURED:
        raise InputError(
            f"nothing computes the scores of estimator {name!r}: register a function of features by @estimator; those "
            "of training dynamics and gradients cannot be added to"
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
            finite or do not match the labels.
    """
    compute = ESTIMATORS[name].from_features
    if compute is None:
        valid = ", ".join(sorted(e.name for e in ESTIMATORS.values() if e.from_features))
        raise InputError(f"estimator {name!r} is not computed from features: choose from {valid}")
    features, labels = as_labelled(features, labels, num_classes)
    features, labels = features.view(), labels.view()
    features.flags.writeable = labels.flags.writeable = False  # others are scored by them as well
    with blamed(f"estimator {name!r} fails on features {features.shape}"), np.errstate(over="ignore"):
        scores = np.asarray(compute(features, labels, num_classes, seed), dtype=np.float32)
    if scores.shape != labels.shape:
        raise InputError(
            f"estimator {name!r} gives {scores.shape} for {len(labels)} samples; it must give a score each"
        )
    if not np.isfinite(scores).all():
        bad = np.flatnonzero(~np.isfinite(scores))
        raise InputError(
            f"estimator {name!r} gives scores that are not finite (float32), first for training sample {bad[0]}"
        )
    return scores


def ensemble_scores(members: Sequence[NDArray[np.floating]] | NDArray[np.floating]) -> NDArray[np.float32]:
    """The ensemble's score of each sample: the plain mean over members (HBR). Members (J, N) to float32 (N,)."""
    if len(members) == 0:
        raise InputError("an ensemble's score needs at least one member's")
    mean: NDArray[np.float64] = np.mean(members, axis=0, dtype=np.float64)
    return mean.astype(np.float32)


def class_hardness(scores: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """The hardness of each class, float64 (K,): the mean score of its training samples (HBR); higher = harder.

    Raises:
        InputError: a class has no samples, or a score is not finite.

    >>> class_hardness(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]), num_classes=2)
    array([2., 5.])
    """
    scores, labels = np.asarray(scores), as_labels(labels, num_classes)
    if scores.shape != labels.shape:
        raise InputError(f"there must be one score for each of {len(labels)} samples, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise InputError("the scores contain NaN or infinity")
    sizes = np.bincount(labels, minlength=num_classes)
    if (sizes == 0).any():
        raise InputError(f"class {int(np.argmin(sizes))} has no training samples, so it has no hardness")
    return np.bincount(labels, weights=scores, minlength=num_classes) / sizes
