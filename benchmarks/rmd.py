"""Relative Mahalanobis distance of 50,000 x 512 features, against two of scikit-learn's EmpiricalCovariance.

    python benchmarks/rmd.py

The ratio is printed only if both give the same distances.
"""

from __future__ import annotations

import numpy as np
from interleaved import compare, describe_machine, take_no_flags
from numpy.typing import NDArray
from sklearn.covariance import EmpiricalCovariance
from threadpoolctl import threadpool_limits

from hardtune.hardness.mahalanobis import relative_mahalanobis

SAMPLES, DIMENSIONS, CLASSES = 50_000, 512, 10


def by_scikit_learn(features: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    means = np.stack([features[labels == label].mean(axis=0) for label in range(CLASSES)])
    own = features - means[labels]
    within = EmpiricalCovariance(assume_centered=True).fit(own)
    return within.mahalanobis(own) - EmpiricalCovariance().fit(features).mahalanobis(features)


if __name__ == "__main__":
    take_no_flags(__doc__)
    describe_machine()
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=SAMPLES)
    mixing = rng.normal(size=(DIMENSIONS, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    features = (0.3 * rng.normal(size=(CLASSES, DIMENSIONS))[labels] + rng.normal(size=(SAMPLES, DIMENSIONS))) @ mixing
    with threadpool_limits(1):
        difference = np.abs(relative_mahalanobis(features, labels, CLASSES) - by_scikit_learn(features, labels)).max()
        print(f"largest difference {difference:.1e}")
        if difference < 1e-6:
            compare(
                f"RMD, {SAMPLES} x {DIMENSIONS}",
                lambda: relative_mahalanobis(features, labels, CLASSES),
                lambda: by_scikit_learn(features, labels),
            )
