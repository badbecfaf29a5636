"""Distance to the nearest k-means centre in a frozen encoder's feature space (Sorscher 2022, arXiv 2206.14486)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardtune.hardness.features import as_features

_EXACT = 100_000  # above this many samples, mini-batches are used


def centre_distance(features: NDArray[np.floating], num_centres: int, seed: int) -> NDArray[np.float64]:
    """Euclidean distance (N,) of features (N, D) to the nearest of ``num_centres`` k-means centres; higher = harder.

    Labels are not used. One centre per class and Euclidean distance are our choices. Raises ``InputError`` for features
    that are not finite.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    features = as_features(features)
    num_centres = min(num_centres, len(features))
    state = int(np.random.default_rng(seed).integers(2**32))  # scikit-learn takes no larger seed
    if len(features) > _EXACT:
        clusters = MiniBatchKMeans(num_centres, random_state=state, batch_size=16_384, n_init=3)
    else:
        clusters = KMeans(num_centres, random_state=state, n_init=3)
    # Threads add in arbitrary order, but a seed should give bit-identical results.
    with threadpool_limits(1):
        clusters.fit(features)
        parts = np.array_split(features, max(1, len(features) // 10_000))
        return np.concatenate([clusters.transform(part).min(axis=1) for part in parts])
