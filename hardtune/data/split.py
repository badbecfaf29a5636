"""The one split of a data set that every trial shares, and how samples are set aside for it."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hardtune.data.samples import Samples
from hardtune.errors import InputError, classes_have
from hardtune.numeric import is_number
from hardtune.read_only import read_only

_BYTES = 2**24
"""Of images that are hashed at a time."""


@dataclass(frozen=True, eq=False)
class Split:
    """A data set as trials see it: networks train on ``train``, the search reads ``held_out``, the report ``test``."""

    name: str
    train: Samples
    held_out: Samples
    """Training data set aside; the test split itself under ``validation="test"``."""
    test: Samples
    kept: NDArray[np.int64]
    """Row of each sample of ``train`` in the data set's training split: that of its origin, if it has one."""
    held: NDArray[np.int64]
    """The same of each sample of ``held_out``; empty under ``validation="test"``."""
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    """Hash of the data set's content and of which samples are trained on."""
    dataset_fingerprint: str
    origin_size: int
    """Samples in the training split that ``kept`` and ``held`` are rows of."""
    origin_fingerprint: str
    mislabelled: bool = False
    """Whether labels are wrong on purpose, held-out samples' too."""
    ood: NDArray[np.uint8] | None = None
    """(N', H, W, C) images of none of the classes, which trained networks should detect; None if not measured."""
    pool: Samples | None = None
    """Synthetic images of the classes, which a treatment may add to the training samples; None for no pool."""
    corruptions: tuple[tuple[str, int], ...] = ()
    """(kind, severity) of each corruption of the test images to evaluate networks under."""

    def __post_init__(self) -> None:
        if self.pool is None:
            return
        shape, has = self.train.images.shape[1:], self.pool.images.shape[1:]
        if has != shape:
            raise InputError(f"the pool's images are {has}, and the training images {shape}")
        if len(self.pool) and self.pool.labels.max() >= self.num_classes:
            raise InputError(f"the pool has a label {self.pool.labels.max()}, and the data {self.num_classes} classes")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @cached_property
    def ood_digest(self) -> str | None:
        """What stands for ``ood`` in the identity of what is stored, as ``store.digest`` has it; None if there is none.

        Computed once, whatever the number of networks: ``dataclasses.replace(split)`` forgets it.
        """
        if self.ood is None:
            return None
        sha = hashlib.sha256(f"{self.ood.dtype.str}{self.ood.shape}".encode())
        sha.update(np.ascontiguousarray(self.ood).data)
        return sha.hexdigest()

    @property
    def chooses_on_test(self) -> bool:
        """Whether objectives are measured on the test split, as the papers do and this project does not by default."""
        return self.held_out is self.test

    @cached_property
    def images_digest(self) -> str:
        """What stands for the images of ``undivided().train`` in the identity of what is stored: without labels.

        Computed once, as ``ood_digest`` is, and without a copy of the images.
        """
        order, shape = self._by_row(), self.train.images.shape[1:]
        sha = hashlib.sha256(f"{(len(order), *shape)}".encode())
        some = max(1, _BYTES // max(1, int(np.prod(shape))))
        for start in range(0, len(order), some):
            sha.update(self._images(order[start : start + some]).data)
        return sha.hexdigest()

    def undivided(self) -> Split:
        """The split with the samples that are held out among ``train`` again, by their rows.

        Its images, a copy, are the same whatever the seed and the share that is held out.
        """
        order = self._by_row()
        rows, held_labels = np.concatenate([self.kept, self.held]), self.held_out.labels[: len(self.held)]
        labels = np.concatenate([self.train.labels, held_labels])[order]
        return dataclasses.replace(
            self,
            train=Samples(self._images(order), labels),
            held_out=self.test,
            kept=rows[order],
            held=rows[:0],
            fingerprint=f"{self.dataset_fingerprint}-undivided",
        )

    def places(self) -> NDArray[np.int64]:
        """Where each sample of ``train`` (N,) is in ``undivided().train``."""
        return np.searchsorted(np.sort(np.concatenate([self.kept, self.held])), self.kept)

    def _by_row(self) -> NDArray[np.int64]:
        """The places, in ``train`` and then ``held``, of all samples that are in either, by their rows."""
        return np.argsort(np.concatenate([self.kept, self.held]), kind="stable")

    def _images(self, places: NDArray[np.int64]) -> NDArray[np.uint8]:
        """A copy of the images at places in ``train`` and then ``held``."""
        trained_on = places < len(self.train)
        images = np.empty((len(places), *self.train.images.shape[1:]), np.uint8)
        images[trained_on] = self.train.images[places[trained_on]]
        images[~trained_on] = self.held_out.images[places[~trained_on] - len(self.train)]
        return images


def by_class(labels: NDArray[np.int64], num_classes: int) -> list[NDArray[np.int64]]:
    """The rows of each class, ascending; read-only."""
    ends = np.cumsum(np.bincount(labels, minlength=num_classes))
    return np.split(read_only(np.argsort(labels, kind="stable")), ends[:-1])


def stratified(
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    share: float,
    seed: int,
    *,
    what: str = "training sample",
    or_else: str = "",
) -> NDArray[np.int64]:
    """Sorted indices of a random ``share`` of every class, at least one sample and never all of them.

    >>> stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1]), ("cat", "dog"), 0.25, seed=0).shape
    (2,)

    Raises ``InputError`` for a share outside (0, 1), and classes with fewer than 2 samples; ``what`` calls these, and
    ``or_else`` ends it by another way out.
    """
    if not is_number(share) or not 0 < share < 1:
        raise InputError(f"the share of every class must be between 0 and 1, got {share!r}")
    members = by_class(labels, len(classes))
    none, single = ([name for name, own in zip(classes, members, strict=True) if len(own) == size] for size in (0, 1))
    if none:
        raise InputError(
            f"{classes_have(none)} no {what}s: number labels from 0 in the order of the classes' names, and leave out "
            f"the names of classes without any{or_else}"
        )
    if single:
        each, them = ("", "the class") if len(single) == 1 else (" each", "these classes")
        raise InputError(
            f"{classes_have(single)} 1 {what}{each}, and setting some aside needs at least 2: leave {them} out{or_else}"
        )
    rng = np.random.default_rng([seed, 0x5917])
    taken: list[NDArray[np.int64]] = []
    for own in members:
        size = min(max(1, round(share * len(own))), len(own) - 1)
        taken.append(rng.permutation(own)[:size])
    return np.sort(np.concatenate(taken))
