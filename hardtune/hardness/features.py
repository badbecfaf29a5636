"""Features and labels as everything that scores by them takes them, and what is wrong with others."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed


def as_features(features: ArrayLike, count: int | None = None) -> NDArray[np.floating]:
    """(N, D), finite; N is ``count`` if that is given."""
    with blamed("features must be an array of numbers"):  # a tensor on a GPU is none
        found = np.asarray(features)
        if found.ndim != 2 or found.shape[1] == 0 or count not in (None, len(found)):
            rows = "N" if count is None else count
            raise InputError(f"features must be ({rows}, D), one row for each sample, got {found.shape}")
        # A sum is finite only if all are, and needs no array as large as they are.
        with np.errstate(all="ignore"):
            finite = np.isfinite(found.sum(dtype=np.float64)) or np.isfinite(found).all()
        if not finite:
            raise InputError("the features contain NaN or infinity")
    return found


def as_labels(labels: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """(N,), in 0..num_classes-1."""
    with blamed("labels must be an array of whole numbers"):
        found = np.asarray(labels)
    if found.ndim != 1 or (len(found) and found.dtype.kind not in "iub"):
        raise InputError(f"labels must be whole numbers (N,), got {found.dtype} {found.shape}")
    if len(found) and not (found.min() >= 0 and found.max() < num_classes):
        raise InputError(f"labels must be in 0..{num_classes - 1}, got {found.min()}..{found.max()}")
    return found.astype(np.int64, copy=False)


def as_labelled(
    features: ArrayLike, labels: ArrayLike, num_classes: int
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Features (N, D) and the given labels (N,) of the same samples."""
    labels = as_labels(labels, num_classes)
    return as_features(features, len(labels)), labels
