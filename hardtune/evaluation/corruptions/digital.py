"""Digital corruptions."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from hardtune.evaluation.corruptions.geometry import separable
from hardtune.evaluation.corruptions.kinds import CORRUPTIONS, Images


@CORRUPTIONS.register("contrast")
def contrast(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Each channel drawn towards its mean over the image."""
    keep = np.float32((0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1])
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.asarray((images - mean) * keep + mean)


@CORRUPTIONS.register("elastic_transform")
def elastic_transform(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """A random affine map and a smooth random displacement, sampled bilinearly in one pass, edges mirrored."""
    import torch
    from scipy.ndimage import gaussian_filter
    from torch.nn.functional import grid_sample

    amplitude, sigma, corner = (  # as shares of the image's shorter side
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    n, height, width, _ = images.shape
    side = min(height, width)
    where = np.moveaxis(np.mgrid[:height, :width], 0, -1)  # (H, W, 2) as (y, x)
    noise = rng.uniform(-1, 1, (n, height, width, 2)).astype(np.float32)
    smooth = gaussian_filter(noise, (0, sigma * side, sigma * side, 0), mode="reflect", truncate=3)
    moved = where + amplitude * side * smooth
    # The affine map that takes three corners of a central square to randomly displaced ones.
    centre, reach = np.array([height // 2, width // 2]), max(1, side // 3)
    corners = np.array([[reach, reach], [reach, -reach], [-reach, -reach]], dtype=np.float64)
    displaced = corners + rng.uniform(-corner * side, corner * side, (n, 3, 2))
    affine = np.linalg.solve(np.concatenate([corners, np.ones((3, 1))], axis=1), displaced)  # (N, 3, 2)
    moved = (moved - centre) @ affine[:, None, :2] + affine[:, None, None, 2] + centre
    grid = 2 * moved[..., ::-1] / np.array([width - 1, height - 1]) - 1  # grid_sample wants (x, y) in [-1, 1]
    sampled = grid_sample(
        torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))),
        torch.from_numpy(np.ascontiguousarray(grid, dtype=np.float32)),
        padding_mode="reflection",
        align_corners=True,
    )
    return np.asarray(sampled.numpy().transpose(0, 2, 3, 1))


@CORRUPTIONS.register("pixelate")
def pixelate(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Down to fewer pixels, each the mean of what it covers, and back up by repetition."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    rows, columns = (_coarse(size, max(1, int(size * share))) for size in images.shape[1:3])
    return separable(images, rows, columns)


@CORRUPTIONS.register("jpeg_compression")
def jpeg_compression(images: Images, severity: int, rng: np.random.Generator) -> Images:
    """Encoded as JPEG and decoded; one image at a time, since encoders take no batches."""
    from PIL import Image

    quality = (80, 65, 58, 50, 40)[severity - 1]
    pixels = np.rint(images * 255).astype(np.uint8)
    result = np.empty_like(pixels)
    planes = [slice(None)] if images.shape[3] == 3 else [slice(c, c + 1) for c in range(images.shape[3])]
    for source, target in zip(pixels, result, strict=True):
        for plane in planes:
            file = io.BytesIO()
            Image.fromarray(source[..., plane].squeeze()).save(file, "JPEG", quality=quality)
            target[..., plane] = np.asarray(Image.open(file)).reshape(target[..., plane].shape)
    return np.divide(result, 255, dtype=np.float32)


def _coarse(size: int, small: int) -> NDArray[np.float32]:
    """(size, size): the result of Pillow's box filter, to ``small`` and back, on each unit vector."""
    from PIL import Image

    down = Image.fromarray(np.eye(size, dtype=np.float32)).resize((size, small), Image.Resampling.BOX)
    return np.asarray(down.resize((size, size), Image.Resampling.BOX))
