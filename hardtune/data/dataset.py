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
            return self._split(np.arange(len(self.train)), self.test)
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
        return self._split(np.setdiff1d(np.arange(len(self.train)), held), self.train.take(held))

    def _split(self, kept: NDArray[np.int64], held_out: Samples) -> Split:
        fingerprint = hashlib.sha256(self.fingerprint.encode())
        fingerprint.update(np.ascontiguousarray(kept))
        train = self.train if len(kept) == len(self.train) else self.train.take(kept)
        return Split(
            name=self.name,
            train=train,
            held_out=held_out,
            test=self.test,
            kept=kept,
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            fingerprint=fingerprint.hexdigest(),
        )


@dataclass(frozen=True)
class Split:
    """A data set as trials see it: networks train on ``train``, the search reads ``held_out``, the report ``test``."""

    name: str
    train: Samples
    held_out: Samples
    """Training data set aside; the test split itself under ``validation="test"``."""
    test: Samples
    kept: NDArray[np.int64]
    """Where each of ``train`` stands in the data set's whole training split."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Of the data set's content and of which samples are trained on."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def chooses_on_test(self) -> bool:
        """Whether objectives are measured on the test split, as the papers do and this project does not by default."""
        return self.held_out is self.test
