"""(Relative) Mahalanobis distance of samples in a frozen encoder's feature space (RMD, arXiv 2304.10127, section 3).

With z the features, y the given label, mu_k the class means, mu the overall mean, Sigma the covariance within classes
(tied, divided by N) and Sig_a the covariance around mu::

    MD_i = (z_i - mu_y)ᵀ Sigma⁻¹ (z_i - mu_y)          RM_i = MD_i - (z_i - mu)ᵀ Sig_a⁻¹ (z_i - mu)

On data with a long tail, mu and Sig_a are those of the large classes, from which every sample of a small one is far:
RM calls it easy whatever it shows. ``balanced`` gives each class the same weight in both (ours).

Libraries for out-of-distribution detection use the nearest class's mean instead of the given one's, which hides
exactly the mislabelled and hard samples; hence our own implementation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError, blamed
from hardtune.hardness.features import as_labelled, as_labels
from hardtune.hardness.within_classes import ROUNDING, chunks, within_classes

ENOUGH_SAMPLES = 4
"""How many samples per feature, besides one per class, make a ridge unnecessary (our choice).

Sigma has full rank from N - K = D on, but near that, single samples still dominate some directions, and RM
is little better than noise. The AUROC of finding flipped labels, without a ridge and with it: digits' pixels, D = 55,
.68 and .93 at N = 70, .94 and .98 at N = 120, .98 and .98 at N = 300; Gaussian classes, D = 128, .56 and .98 at
N - K = 1.02 D, .986 and .997 at 2 D, .999 and 1 at 4 D. Beyond that a ridge gains little, and it hurts where classes
differ only in directions of little variance, which it hides (.999 and .95 at 4 D, among variances that fall like 1/i²).
"""
FEW_SAMPLES_RIDGE = 0.1
"""ε if there are fewer (our choice: with a smaller one Sigma overfits single samples, and planted label errors are
harder to find)."""
DEPENDENT_RIDGE = 1e-9
"""ε if there are enough samples but some features are linearly dependent: just enough to invert Sigma."""


@dataclass(frozen=True)
class ClassGaussians:
    """One Gaussian per class with a tied covariance, and one for all data, as fitted by :func:`fit`.

    Since Sig_a = Sigma + the covariance between class means, both agree except in at most K-1 directions, those of
    linear discriminant analysis. RM is computed there: in all others its two terms cancel.
    """

    mean: NDArray[np.float64]
    """mu (D,)."""
    class_means: NDArray[np.float64]
    """mu_k - mu, (K, D); zero for a class without samples."""
    cholesky: NDArray[np.float64]
    """L (D, D), lower triangular, with L Lᵀ = Sigma + ridge."""
    directions: NDArray[np.float64]
    """(D, J), J < K: maps z - mu to coordinates u in which Sigma is the identity and Sig_a is diag(1 + spread)."""
    spread: NDArray[np.float64]
    """(J,): the variance between class means along each direction."""
    own: NDArray[np.float64]
    """(K,): a class's factor for squared distances to its mean, which lies nearer to the n samples that it was taken
    from than to others: n / (n - 1) if ``balanced``, else 1 as in the paper, which has large classes only."""
    ridge: float
    """Added to the diagonal of both covariances; 0 with enough samples and independent features."""

    def distance(self, features: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """MD (N,): squared Mahalanobis distance to the mean of the given label's class; higher = harder."""
        from scipy.linalg import solve_triangular

        result = np.empty(len(features))
        for rows in chunks(len(features)):
            centred = features[rows] - self.mean - self.class_means[labels[rows]]
            whitened = solve_triangular(self.cholesky, centred.T, lower=True, check_finite=False)
            result[rows] = np.einsum("dn,dn->n", whitened, whitened)
        return result

    def relative_distance(self, features: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """RM (N,): MD minus the distance to all data; higher = harder.

        Its mean over the fitted data is 0, or negative with a ridge, unless ``balanced``. There, a class's only sample
        counts as 1, the variance within classes, in each direction.
        """
        class_means = self.class_means @ self.directions
        result = np.empty(len(features))
        for rows in chunks(len(features)):
            u = (features[rows] - self.mean) @ self.directions
            own = u - class_means[labels[rows]]
            factor = self.own[labels[rows], None]
            squares = np.multiply(own**2, factor, where=np.isfinite(factor), out=np.ones_like(own))
            result[rows] = (squares - u**2 / (1 + self.spread)).sum(1)
        return result


def fit(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    ridge: float | None = None,
    balanced: bool = False,
) -> ClassGaussians:
    """Fit the Gaussians to features (N, D) and labels int64 (N,), in float64.

    Args:
        ridge: ε; ε · tr(Sigma)/D is added to the diagonal of both covariances. None means ``FEW_SAMPLES_RIDGE`` if
            N - K < ``ENOUGH_SAMPLES`` · D, K counting classes with samples; else 0 if Sigma has full rank, and
            ``DEPENDENT_RIDGE`` if not.
        balanced: whether all classes count alike in mu and Sig_a, however many samples they have.

    Raises:
        InputError: features that are not finite or do not match the labels, no samples, a label out of range, or
            features that do not vary within the classes, are too large, or depend on one another while ``ridge`` is 0.
    """
    features, labels = as_labelled(features, labels, num_classes)
    samples, dimensions = features.shape
    if not samples:
        raise InputError("there are no samples to fit Gaussians to")
    sizes = np.bincount(labels, minlength=num_classes)
    mean = _row_mean(features)
    class_means, within = within_classes(features, labels, num_classes, mean)
    constant = np.sqrt(np.diag(within)) <= ROUNDING * np.abs(class_means).max(axis=0)
    within[constant] = within[:, constant] = 0.0
    average = float(np.trace(within)) / dimensions
    if not math.isfinite(average):
        raise InputError("the features are too large for their squares to be summed: divide them by their largest")
    if not average > 0:
        raise InputError("the features do not vary within any class, so they have no Mahalanobis distance")

    if ridge is None:
        enough = samples - np.count_nonzero(sizes) >= ENOUGH_SAMPLES * dimensions
        ridge = (0.0 if _has_full_rank(within) else DEPENDENT_RIDGE) if enough else FEW_SAMPLES_RIDGE
    within[np.diag_indices(dimensions)] += ridge * average
    with blamed(f"the features' covariance cannot be inverted (ridge {ridge:g})"):
        cholesky = np.asarray(np.linalg.cholesky(within), np.float64)
    shares, own = sizes / samples, np.ones(num_classes)
    if balanced:
        shares = (sizes > 0) / np.count_nonzero(sizes)
        centre = shares @ class_means
        mean, class_means = mean + centre, np.where(sizes[:, None] > 0, class_means - centre, 0.0)
        own = np.divide(sizes, sizes - 1, out=np.full(num_classes, np.inf), where=sizes != 1)
    directions, spread = _discriminants(cholesky, class_means, shares)
    return ClassGaussians(mean, class_means, cholesky, directions, spread, own, ridge * average)


def relative_mahalanobis(
    features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int, *, balanced: bool = False
) -> NDArray[np.float64]:
    """RM (N,) of the data that the Gaussians are fitted to; higher = harder. Raises as :func:`fit` does."""
    gaussians = fit(features, labels, num_classes, balanced=balanced)
    return gaussians.relative_distance(np.asarray(features), as_labels(labels, num_classes))


def mahalanobis(features: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float64]:
    """MD (N,) of the data that the Gaussians are fitted to; higher = harder. Raises as :func:`fit` does."""
    gaussians = fit(features, labels, num_classes)
    return gaussians.distance(np.asarray(features), as_labels(labels, num_classes))


def _discriminants(
    cholesky: NDArray[np.float64], class_means: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from scipy.linalg import solve_triangular

    whitened = solve_triangular(cholesky, (class_means * np.sqrt(weights)[:, None]).T, lower=True)
    axes, singular, _ = np.linalg.svd(whitened, full_matrices=False)
    kept = singular > singular[0] * 1e-12  # the weighted class means sum to zero, so at least one direction is empty
    return solve_triangular(cholesky, axes[:, kept], lower=True, trans="T"), singular[kept] ** 2


def _has_full_rank(covariance: NDArray[np.float64]) -> bool:
    """Whether the correlation matrix is numerically positive definite, whatever the features' scales."""
    scale = np.sqrt(np.diag(covariance))
    if not (scale > 0).all():
        return False
    eigenvalues = np.linalg.eigvalsh(covariance / np.outer(scale, scale))
    return bool(eigenvalues[0] > len(scale) * np.finfo(np.float64).eps * eigenvalues[-1] * 100)


def _row_mean(features: NDArray[np.floating]) -> NDArray[np.float64]:
    total = np.zeros(features.shape[1])
    for rows in chunks(len(features)):
        total += features[rows].sum(axis=0, dtype=np.float64)
    return total / len(features)
