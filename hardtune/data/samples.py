"""Labelled images as arrays, and what normalises them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled images: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,) in 0..K-1.

    Contiguous arrays are not copied; strided views (mirrored images, say) are, since torch does not accept negative
    strides. Neither can be written to through here, since everything that trains shares them.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        for name in ("images", "labels"):
            if not isinstance(getattr(self, name), np.ndarray):
                raise InputError(f"{name} must be a numpy array, got {type(getattr(self, name)).__name__}")
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            how = "np.rint(255 * images).astype(np.uint8) of images in 0..1, images.astype(np.uint8) of those in 0..255"
            remedy = f" (take {how})" if self.images.dtype.kind == "f" else ""
            got = f"{self.images.dtype} {self.images.shape}{remedy}"
            raise InputError(f"images must be uint8 (N, H, W, C), got {got}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(f"labels must be int64 ({len(self.images)},), got {self.labels.dtype} {self.labels.shape}")
        if len(self.labels) and self.labels.min() < 0:
            raise InputError(f"labels must be at least 0, got {self.labels.min()}")
        for name in ("images", "labels"):
            shared = np.ascontiguousarray(getattr(self, name)).view()
            shared.flags.writeable = False
            object.__setattr__(self, name, shared)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over images and labels, computed once: ``dataclasses.replace(samples)`` forgets it."""
        digest = hashlib.sha256()
        for array in (self.images, self.labels):
            digest.update(f"{array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """A copy of the samples at ``indices``."""
        return Samples(self.images[indices], self.labels[indices])


def channel_statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of each channel of uint8 (N, H, W, C), in [0, 1].

    A channel that never varies gets a deviation of 1, so that normalising it is harmless.
    """
    channels = images.shape[-1]
    total, squares = np.zeros(channels), np.zeros(channels)
    # Integer sums, chunk by chunk: exact, and without a copy of the data in a larger type.
    size = max(1, 2**22 // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), size):
        chunk = images[start : start + size].reshape(-1, channels)
        total += chunk.sum(0, dtype=np.uint64)
        squares += np.square(chunk, dtype=np.uint32).sum(0, dtype=np.uint64)
    count = images.size // channels
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0)) / 255
    std[std < 1e-8] = 1
    return tuple((mean / 255).tolist()), tuple(std.tolist())
