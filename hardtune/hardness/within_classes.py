"""What Mahalanobis distances are taken from: the means of classes, and the covariance within them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_ROWS = 4096
"""Float64 features held at a time: a million would not fit."""
ROUNDING = 1e-13
"""Largest share of a feature's spread between classes that the rounding of their means makes up (1e-15 is seen)."""


def within_classes(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    num_classes: int,
    origin: NDArray[np.float64],
    scale: float = 1.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Class means (K, D), 0 for a class without samples, and the covariance within classes (D, D), divided by N.

    Args:
        features, labels: (N, D) and (N,) in 0..num_classes-1.
        origin, scale: (D,) and a factor; both results are of (features - origin) * scale.
    """
    means = np.zeros((num_classes, features.shape[1]))
    for rows in chunks(len(features)):
        order = np.argsort(labels[rows], kind="stable")
        present, starts = np.unique(labels[rows][order], return_index=True)
        means[present] += np.add.reduceat((features[rows][order] - origin) * scale, starts, axis=0)
    means /= np.maximum(np.bincount(labels, minlength=num_classes), 1)[:, None]
    covariance = np.zeros((features.shape[1], features.shape[1]))
    for rows in chunks(len(features)):
        centred = (features[rows] - origin) * scale - means[labels[rows]]
        covariance += centred.T @ centred
    return means, covariance / len(features)


def chunks(count: int) -> Iterator[slice]:
    """Slices of ``count`` rows, of so many at a time that float64 copies fit."""
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))
