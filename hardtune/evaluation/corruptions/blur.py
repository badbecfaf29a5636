"""Blur corruptions."""

from __future__ import annotations

import math

import numpy as np

from hardtune.evaluation.corruptions.geometry import smeared, zoomed
from hardtune.evaluation.corruptions.kinds import CORRUPTIONS, Images, pixels


@CORRUPTIONS.register("defocus_blur")
def defocus_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Out of focus: a disk, its edge softened."""
    from scipy.ndimage import correlate, gaussian_filter

    scale = pixels(images)
    radius, soft = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[severity - 1]
    reach = math.ceil(radius * scale) + math.ceil(scale)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= (radius * scale) ** 2).astype(np.float32)
    kernel = gaussian_filter(disk / disk.sum(), soft * scale, radius=math.ceil(scale))
    return np.asarray(correlate(images, kernel[None, :, :, None], mode="mirror"))


@CORRUPTIONS.register("glass_blur")
def glass_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Through frosted glass: pixels are replaced by near ones, between two light blurs."""
    scale = pixels(images)
    sigma, reach, rounds = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))[severity - 1]
    reach = round(reach * scale)
    n, height, width, _ = images.shape
    result = _gaussian(images, sigma * scale)
    for _ in range(rounds):
        dy, dx = rng.integers(-reach, reach, size=(2, n, height, width))
        row = np.clip(np.arange(height)[:, None] + dy, 0, height - 1)
        column = np.clip(np.arange(width) + dx, 0, width - 1)
        result = result[np.arange(n)[:, None, None], row, column]
    return _gaussian(result, sigma * scale)


@CORRUPTIONS.register("motion_blur")
def motion_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """The camera moved, within 45° of sideways."""
    scale = pixels(images)
    radius, sigma = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))[severity - 1]
    return smeared(images, radius * scale, sigma * scale, rng.uniform(-45, 45, len(images)))


@CORRUPTIONS.register("zoom_blur")
def zoom_blur(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """The camera came nearer: the mean of the image and its magnifications in steps of 1 %."""
    # By rounding, the first two include their end points, 1.06 and 1.11, as in the original.
    factors = np.arange(1, (1.06, 1.11, 1.16, 1.21, 1.26)[severity - 1], 0.01)
    total = images + sum(zoomed(images, factor) for factor in factors)
    return np.asarray(total / (len(factors) + 1), dtype=np.float32)


def _gaussian(images: Images, sigma: float) -> Images:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest"))
