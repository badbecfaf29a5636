"""Principal components of the pixels: an encoder for machines without a pre-trained one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split
from hardtune.errors import InputError
from hardtune.hardness.encoders.encoder import ENCODERS

if TYPE_CHECKING:
    import torch

COMPONENTS = 256
NEGLIGIBLE = 1e-6
SIDE = 32


@dataclass(frozen=True)
class Pixels:
    """Standardised pixels projected on their principal components; not a pre-trained encoder.

    Each pixel of each channel is scaled to mean 0 and variance 1 over the training images, then projected on the
    eigenvectors of their covariance (exact, in float64): at most 256, and none with less than 1e-6 of the largest
    one's variance. Images of more than 32 pixels a side are first reduced to 32 by averaging, since the covariance
    is quadratic in the pixels. All of this is our choice, not a paper's.
    """

    def check(self, dataset: Dataset) -> None:
        """Nothing to check: any images will do."""

    def identity(self) -> dict[str, str]:
        return {"kind": "pixels", "version": "1"}

    def encode(self, split: Split, *, device: str, batch_size: int, progress: Progress | None) -> NDArray[np.float32]:
        images = split.train.images
        mean, basis = _components(images, device)
        features = np.empty((len(images), basis.shape[1]), dtype=np.float32)
        done = 0
        for batch in _rows(images, device):
            features[done : done + len(batch)] = ((batch - mean) @ basis).cpu()
            done += len(batch)
            if progress is not None:
                progress(done, len(images))
        return features


def _components(images: NDArray[np.uint8], device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean image (P,) and the matrix (P, D) that standardises and projects centred images."""
    import torch

    height, width, channels = images.shape[1:]
    pixels = min(height, SIDE) * min(width, SIDE) * channels
    # Sums of whole numbers up to 255² are exact in float64, so one pass gives mean and covariance.
    total = torch.zeros(pixels, dtype=torch.float64, device=device)
    products = torch.zeros(pixels, pixels, dtype=torch.float64, device=device)
    for batch in _rows(images, device):
        total += batch.sum(0)
        products.addmm_(batch.T, batch)
    mean = total / len(images)
    covariance = products / len(images) - torch.outer(mean, mean)
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    varying = deviation > 1e-6 * 255
    if not varying.any():
        raise InputError("the training images are all alike, and pixels have nothing to encode")
    deviation = torch.where(varying, deviation, torch.inf)
    variances, vectors = torch.linalg.eigh(covariance / torch.outer(deviation, deviation))
    kept = torch.nonzero(variances > NEGLIGIBLE * variances[-1])[-COMPONENTS:, 0].flip(0)
    basis = vectors[:, kept]
    # An eigenvector's sign is arbitrary: make its largest entry positive.
    largest = basis.abs().argmax(0, keepdim=True)
    return mean, basis * basis.gather(0, largest).sign() / deviation[:, None]


def _rows(images: NDArray[np.uint8], device: str) -> Iterator[torch.Tensor]:
    """Images as float64 (B, pixels) in 0..255, reduced to at most 32 a side."""
    import torch

    height, width = images.shape[1:3]
    for start in range(0, len(images), 2048):
        batch = torch.tensor(images[start : start + 2048], device=device).double()
        if max(height, width) > SIDE:
            size = (min(height, SIDE), min(width, SIDE))
            batch = torch.nn.functional.adaptive_avg_pool2d(batch.permute(0, 3, 1, 2), size)
        yield batch.flatten(1)


@ENCODERS.register("pixels")
def _pixels(rest: str) -> Pixels:
    if rest:
        raise InputError(f"the encoder 'pixels' takes nothing after its name, got {rest!r}")
    return Pixels()
