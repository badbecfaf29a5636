"""Scores and features as a plan takes them, and what is wrong with others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed
from hardtune.read_only import read_only


def as_arrays(
    scores: ArrayLike | None, features: ArrayLike | None, count: int
) -> tuple[NDArray[np.floating] | None, NDArray[np.floating] | None]:
    """Scores (N,) and features (N, D) of ``count`` training samples, read-only; None stays None."""
    if isinstance(scores, Mapping):
        raise InputError("a plan's scores are of one estimator: pass such as scores['aum']")
    with blamed("scores and features must be arrays of numbers"):  # a tensor on a GPU is none
        found = [None if array is None else read_only(np.asarray(array)) for array in (scores, features)]
        for array in found:
            if array is not None and array.dtype.kind not in "biuf":
                raise TypeError(f"got {array.dtype}")
    for name, array, ndim in zip(("scores", "features"), found, (1, 2), strict=True):
        if array is not None and (array.ndim != ndim or len(array) != count):
            shape = f"({count}{', D' if ndim == 2 else ','})"
            raise InputError(f"{name} must be {shape}, for each training sample, got {array.shape}")
    return found[0], found[1]
