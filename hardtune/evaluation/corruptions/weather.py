"""Weather corruptions."""

from __future__ import annotations

import numpy as np

from hardtune.evaluation.corruptions.geometry import smeared, zoomed
from hardtune.evaluation.corruptions.kinds import CORRUPTIONS, Images, pixels


@CORRUPTIONS.register("snow")
def snow(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Falling flakes in front of a whitened scene."""
    mean, spread, size, threshold, radius, sigma, keep = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95),
        (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )[severity - 1]
    scale = pixels(images)
    flakes = mean + spread * rng.standard_normal((*images.shape[:3], 1), dtype=np.float32)
    flakes = zoomed(flakes, size * scale)
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1).astype(np.float32)
    flakes = smeared(flakes, radius * scale, sigma * scale, rng.uniform(-135, -45, len(images)))
    white = np.maximum(images, 1.5 * _grey(images) + 0.5)
    return np.asarray(keep * images + (1 - keep) * white + flakes + flakes[:, ::-1, ::-1])


@CORRUPTIONS.register("frost")
def frost(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Ice on the lens: the ridges of a fractal, bluish in colour (ours; the original pastes photographs)."""
    keep, ice = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))[severity - 1]
    ridges = 1 - np.abs(2 * plasma(images, 1.5, rng) - 1)
    tint = np.array([0.85, 0.95, 1.0], dtype=np.float32) if images.shape[3] == 3 else np.float32(1)
    return np.asarray(keep * images + ice * ridges * tint, dtype=np.float32)


@CORRUPTIONS.register("fog")
def fog(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """A bright veil of uneven thickness; the scene's brightest spot keeps its brightness."""
    strength, decay = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))[severity - 1]
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    veiled = images + strength * plasma(images, decay, rng)
    return np.asarray(veiled * brightest / (brightest + strength), dtype=np.float32)


@CORRUPTIONS.register("brightness")
def brightness(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """More light: HSV's value goes up, hue and saturation stay."""
    more = np.float32((0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1])
    value = images.max(axis=3, keepdims=True)
    brighter = np.minimum(value + more, 1)
    # Scaling RGB changes only the value. Black has no hue and becomes grey.
    return np.asarray(np.where(value > 0, images * (brighter / np.where(value > 0, value, 1)), brighter))


def plasma(images: Images, decay: float, rng: np.random.Generator) -> Images:
    """A plasma fractal in [0, 1] for each image, (N, H, W, 1), by the diamond-square algorithm on a torus.

    From one octave to the next the amplitude shrinks by ``decay`` squared, as in the original: larger is smoother.
    """
    n, height, width, _ = images.shape
    size = 1 << (max(height, width) - 1).bit_length()
    field = np.zeros((n, size, size), dtype=np.float32)
    step, amplitude = size, 1.0

    def perturbed(four: Images) -> Images:
        return four / 4 + np.float32(amplitude) * rng.uniform(-1, 1, four.shape).astype(np.float32)

    while step >= 2:
        half = step // 2
        corner = field[:, ::step, ::step]
        pair = corner + np.roll(corner, -1, axis=1)
        centre = perturbed(pair + np.roll(pair, -1, axis=2))
        field[:, half::step, half::step] = centre
        across = corner + np.roll(corner, -1, axis=2) + centre + np.roll(centre, 1, axis=1)
        field[:, ::step, half::step] = perturbed(across)
        down = corner + np.roll(corner, -1, axis=1) + centre + np.roll(centre, 1, axis=2)
        field[:, half::step, ::step] = perturbed(down)
        step, amplitude = half, amplitude / decay**2
    low, high = field.min(axis=(1, 2), keepdims=True), field.max(axis=(1, 2), keepdims=True)
    return np.asarray(((field - low) / (high - low))[:, :height, :width, None])


def _grey(images: Images) -> Images:
    """(N, H, W, 1) luma of RGB images, the mean of other channels."""
    if images.shape[3] == 3:
        return (images @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return np.asarray(images.mean(axis=3, keepdims=True))
