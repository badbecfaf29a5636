"""Images and labels as arrays, their fingerprint, and the one split that every trial shares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError


@dataclass(frozen=True)
class Samples:
    """Labelled images: ``images`` uint8 (N, H, W, C), ``labels`` int64 (N,) in 0..K-1."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise InputError(f"images must be uint8 (N, H, W, C), got {self.images.dtype} {self.images.shape}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(f"labels must be int64 ({len(self.images)},), got {self.labels.dtype} {self.labels.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """A copy of the samples at ``indices``."""
        return Samples(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, and what a network must know of them."""

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    """Per channel, of images in [0, 1]; used with ``std`` to normalise."""
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over both splits and the class names: equal content, equal fingerprint, wherever it came from."""
        digest = hashlib.sha256()
        for part in (self.train, self.test):
            for array in (part.images, part.labels):
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array))
        digest.update(repr((self.classes, self.mean, self.std)).encode())
        return digest.hexdigest()

    def hold_out(self, validation: float | str, seed: int) -> Split:
        """Set a stratified part of the training data aside for the search's objectives.

        ``validation`` is the share of every class (at least one sample of each is kept on both sides), or
        ``"test"`` to choose on the test split as the papers do; then nothing is taken from training.
        """
        if validation == "test":
            return Split(self, np.arange(len(self.train)), None)
        rng = np.random.default_rng([seed, 0x5917])
        held_out: list[NDArray[np.int64]] = []
        for label, name in enumerate(self.classes):
            members = np.flatnonzero(self.train.labels == label)
            if len(members) < 2:
                raise InputError(
                    f"class {name!r} has {len(members)} training samples, and holding some out needs at least 2"
                )
            size = min(max(1, round(float(validation) * len(members))), len(members) - 1)
            held_out.append(rng.permutation(members)[:size])
        held = np.sort(np.concatenate(held_out))
        return Split(self, np.setdiff1d(np.arange(len(self.train)), held), held)


@dataclass(frozen=True)
class Split:
    """A data set with its held-out part: networks train on ``train``, the search reads ``held_out`` only."""

    dataset: Dataset
    train_indices: NDArray[np.int64]
    held_out_indices: NDArray[np.int64] | None
    """None where objectives are measured on the test split."""

    @cached_property
    def train(self) -> Samples:
        return self.dataset.train.take(self.train_indices)

    @cached_property
    def held_out(self) -> Samples:
        if self.held_out_indices is None:
            return self.dataset.test
        return self.dataset.train.take(self.held_out_indices)

    @property
    def test(self) -> Samples:
        return self.dataset.test

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the training part: the data set's content and which of its samples are trained on."""
        digest = hashlib.sha256(self.dataset.fingerprint.encode())
        digest.update(np.ascontiguousarray(self.train_indices))
        return digest.hexdigest()
