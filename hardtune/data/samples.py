"""Labelled images as arrays, and what normalises them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed
from hardtune.read_only import read_only


@dataclass(frozen=True, eq=False)
class Samples:
    """Labelled images: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,) in 0..K-1, of other whole numbers a copy.

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
        if self.labels.dtype.kind not in "iu" or self.labels.shape != self.images.shape[:1]:
            remedy = "classes, labels = np.unique(labels, return_inverse=True) numbers them"
            remedy = f": {remedy}" if self.labels.dtype.kind in "OSTU" else ""
            got = f"{self.labels.dtype} {self.labels.shape}{remedy}"
            raise InputError(f"labels must be whole numbers ({len(self.images)},), got {got}")
        if len(self.labels) and self.labels.min() < 0:
            raise InputError(f"labels must be at least 0, got {self.labels.min()}")
        if len(self.labels) and self.labels.max() > np.iinfo(np.int64).max:
            raise InputError(f"labels must be below 2^63, got {self.labels.max()}")
        object.__setattr__(self, "labels", self.labels.astype(np.int64, copy=False))
        for name in ("images", "labels"):
            object.__setattr__(self, name, read_only(np.ascontiguousarray(getattr(self, name))))

    @classmethod
    def of_labels(cls, labels: ArrayLike) -> Samples:
        """Of data that are no uint8 images in memory, the labels (N,) alone; ``images`` are (N, 0, 0, 0).

        A plan needs no more, unless it makes images, as SMOTE does: its ``indices`` are those of your own file names,
        texts, table or ``torch`` data set. Labels may be a list, an array or a tensor.

        Raises:
            InputError: Labels that are not whole numbers (N,) of at least 0.

        >>> from torch.utils.data import Subset
        >>> from hardtune import Treatment
        >>> from hardtune.resampling.plan import make_plan
        >>> texts, labels, scores = ["a", "b", "c", "d"], [0, 0, 1, 1], np.array([0.1, 0.2, 0.6, 0.7])  # 1 is hard
        >>> treatment = Treatment(alpha=2.0, policy="shift", estimator="el2n", oversample="hard")
        >>> plan = make_plan(treatment, Samples.of_labels(labels), ["pro", "con"], scores=scores, seed=0)
        >>> sorted(Subset(texts, plan.indices))
        ['b', 'c', 'd', 'd']
        """
        with blamed("labels must be an array of whole numbers, and are not"):  # a tensor on a GPU is none
            found = np.asarray(labels)
        return cls(np.empty((found.size, 0, 0, 0), np.uint8), found)

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


def class_names(classes: Iterable[object]) -> tuple[str, ...]:
    """The names of the classes, in the order of the labels; ``InputError`` for what has none in an order."""
    if isinstance(classes, Mapping):  # of id2label, the keys would be taken for the names
        alone = "alone, such as list(id2label.values()) or list(class_to_idx)"
        raise InputError(f"classes must be the names of the classes {alone}, in the order of the labels")
    with blamed("classes must be the names of the classes"):
        return tuple(map(str, classes))


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
