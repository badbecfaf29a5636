"""Resampling and smearing of whole batches, for several corruptions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from hardtune.evaluation.corruptions.kinds import Images


def zoomed(images: Images, factor: float) -> Images:
    """Magnified bilinearly about the centre, then cropped to size; in whole pixels, like the original."""
    rows, columns = (_zoom_matrix(size, factor) for size in images.shape[1:3])
    return separable(images, rows, columns)


def separable(images: Images, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> Images:
    """Every image's rows mixed by ``rows`` (H', H) and its columns by ``columns`` (W', W)."""
    mixed = np.tensordot(images, rows, axes=(1, 1))  # (N, W, C, H')
    return np.tensordot(mixed, columns, axes=(1, 1)).transpose(0, 2, 3, 1)


def smeared(images: Images, radius: float, sigma: float, angles: NDArray[np.float64]) -> Images:
    """Motion blur: a one-sided Gaussian trail at each image's angle (N,) in degrees; edges repeat.

    ImageMagick's kernel, which the original calls: weights exp(-i²/2σ²) at whole pixels i along the line.
    """
    n, height, width, _ = images.shape
    length = min(2 * round(radius) + 1, 1 + int(4 * sigma))  # the tail beyond 4σ is negligible
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    across, down = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    image = np.arange(n)[:, None, None]
    result = np.zeros_like(images)
    for step, weight in enumerate(weights):
        row = np.clip(np.arange(height) + np.rint(step * down)[:, None], 0, height - 1).astype(np.intp)
        column = np.clip(np.arange(width) + np.rint(step * across)[:, None], 0, width - 1).astype(np.intp)
        result += np.float32(weight) * images[image, row[:, :, None], column[:, None, :]]
    return result


def _zoom_matrix(size: int, factor: float) -> NDArray[np.float32]:
    """(size, size): the result of cropping and zooming each unit vector."""
    from scipy.ndimage import zoom

    kept = math.ceil(size / factor)
    top = (size - kept) // 2
    # The original's mode, "constant", makes the last row black at some sizes other than its 32.
    larger = zoom(np.eye(size, dtype=np.float32)[top : top + kept], (factor, 1), order=1, mode="nearest")
    trimmed = (len(larger) - size) // 2
    return np.asarray(larger[trimmed : trimmed + size])
