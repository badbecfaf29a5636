"""Noise corruptions."""

from __future__ import annotations

import numpy as np

from hardtune.evaluation.corruptions.kinds import CORRUPTIONS, Images


@CORRUPTIONS.register("gaussian_noise")
def gaussian_noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """As in low light."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + np.float32(scale) * rng.standard_normal(images.shape, dtype=np.float32)


@CORRUPTIONS.register("shot_noise")
def shot_noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Poisson noise, as from counting photons."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    return (rng.poisson(images * photons) / photons).astype(np.float32)


@CORRUPTIONS.register("impulse_noise")
def impulse_noise(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Salt and pepper, as from bit errors."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    draw = rng.random(images.shape, dtype=np.float32)
    return np.where(draw < share / 2, np.float32(0), np.where(draw < share, np.float32(1), images))
