"""Distance to the nearest k-means centre in a frozen encoder's feature space (Sorscher 2022, arXiv 2206.14486)."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.hardness.features import as_features

_EXACT = 4_000_000_000  # above this many samples x centres x features, mini-batches are used
_ROWS = 10_000  # float64 copies of all features, or distances of all to every centre, may not fit


def centre_distance(features: NDArray[np.floating], num_centres: int, seed: int) -> NDArray[np.float64]:
    """Euclidean distance (N,) of features (N, D) to the nearest of ``num_centres`` k-means centres; higher = harder.

    Labels are not used. One centre per class and Euclidean distance are our choices. Works on a copy of the features.
    Of up to 4e9 samples x centres x features k-means is exact, the best of 3 runs: 95 s on one core for 50,000 x 100 x
    512. Beyond, it is one run of mini-batches: 50 s for 100,000 x 1000 x 512.

    Raises:
        InputError: features that are not finite, none at all or too large to be subtracted, or no centre.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    features = as_features(features)
    if not len(features) or not isinstance(num_centres, Integral) or num_centres < 1:
        raise InputError(f"k-means needs a sample and a centre at least, got {len(features)} and {num_centres!r}")
    num_centres = min(int(num_centres), len(features))
    state = int(np.random.default_rng(seed).integers(2**32))  # scikit-learn takes no larger seed
    if features.size * num_centres > _EXACT:
        # By default, it would choose the first centres among 3 batches, 12 times as many samples.
        first = min(len(features), max(4096, 3 * num_centres))
        clusters = MiniBatchKMeans(
            num_centres, random_state=state, batch_size=16_384, n_init=1, init_size=first, compute_labels=False
        )
    else:
        clusters = KMeans(num_centres, random_state=state, n_init=3)
    centred, exponent = _centred(features)
    # Threads add in arbitrary order, but a seed should give bit-identical results.
    with threadpool_limits(1):
        clusters.fit(centred)
        parts = np.array_split(centred, max(1, len(centred) // _ROWS))
        nearest = np.concatenate([clusters.transform(part).min(axis=1) for part in parts])
    return np.ldexp(nearest.astype(np.float64), exponent)


def _centred(features: NDArray[np.floating]) -> tuple[NDArray[np.floating], int]:
    """The features minus their mean, halved or doubled until the largest is about 1, and how often they were halved.

    scikit-learn computes ‖a‖² - 2ab + ‖b‖², which is inaccurate far from the origin, and overflows or vanishes for
    very large or small features.
    """
    starts = range(0, len(features), _ROWS)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(features[start : start + _ROWS].sum(axis=0, dtype=np.float64) for start in starts) / len(features)
        largest = np.maximum(features.max(axis=0) - mean, mean - features.min(axis=0)).max()
    if not np.isfinite(largest):
        raise InputError("the features are too large to be subtracted from one another: divide them by their largest")
    exponent = int(np.frexp(largest)[1])
    centred = np.empty(features.shape, np.float32 if features.dtype == np.float32 else np.float64)
    for start in starts:
        np.ldexp(
            features[start : start + _ROWS] - mean, -exponent, out=centred[start : start + _ROWS], casting="same_kind"
        )
    return centred, exponent
