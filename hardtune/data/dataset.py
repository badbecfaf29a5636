"""Images and labels as arrays, their fingerprint, and the one split that every trial shares."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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
            remedy = " (multiply images in 0..1 by 255 first)" if self.images.dtype.kind == "f" else ""
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


@dataclass(frozen=True, eq=False)
class Origin:
    """The training split that a data set's training samples were taken from, or given other labels in."""

    of: Samples
    """These training samples: a data set that is given others forgets where the former were from."""
    labels: NDArray[np.int64]
    """(N',) of all its samples."""
    rows: NDArray[np.int64]
    """(N,) where each of the data set's training samples is in it."""
    fingerprint: str
    """Of the data set that it is of."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A training and a test split, with class names and normalisation.

    To use your own image arrays with :func:`hardtune.run` or, by name, in sweeps::

        from hardtune.data import DATASETS, Dataset, Samples

        @DATASETS.register("mine")
        def mine(data_dir, progress):  # its Path, and what to call with (images read, images), or None
            return Dataset("mine", Samples(images, labels), Samples(test_images, test_labels), ("cat", "dog"))
    """

    name: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    mean: tuple[float, ...] = ()
    """Per channel, for images in [0, 1]; used with ``std`` to normalise. By default from the training images."""
    std: tuple[float, ...] = ()
    origin: Origin | None = None
    """Where the training samples are from, if this was made from another data set."""

    def __post_init__(self) -> None:
        # Lists and numpy numbers are the same data, so they must give the same fingerprint.
        object.__setattr__(self, "classes", tuple(map(str, self.classes)))
        object.__setattr__(self, "mean", tuple(map(float, self.mean)))
        object.__setattr__(self, "std", tuple(map(float, self.std)))
        if self.origin is not None and self.origin.of is not self.train:
            object.__setattr__(self, "origin", None)
        if self.num_classes < 2:
            raise InputError(f"data set {self.name!r} needs at least 2 classes, got {self.num_classes}")
        twice = [name for name, times in Counter(self.classes).items() if times > 1]
        if twice:
            raise InputError(f"classes need different names, and data set {self.name!r} has more than one {twice[0]!r}")
        shape = self.train.images.shape[1:]
        for split, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise InputError(f"data set {self.name!r} has no {split} samples")
            if samples.images.shape[1:] != shape:
                raise InputError(f"test images are {samples.images.shape[1:]}, but training images are {shape}")
            if samples.labels.max() >= self.num_classes:
                raise InputError(
                    f"data set {self.name!r} has a {split} label {samples.labels.max()}, but {self.num_classes} classes"
                )
        if shape[0] <= 4 < min(shape[1:]):  # an image so low would have more than four channels
            raise InputError(
                f"images are (N, H, W, C), channels last, and these look like (N, C, H, W): {self.train.images.shape}; "
                "transpose them by images.transpose(0, 2, 3, 1)"
            )
        # Scaled to 0..1 before the cast, which leaves next to nothing of them; the first few tell nearly always.
        if self.train.images[:100].max(initial=0) <= 1 and self.train.images.max() <= 1:
            raise InputError(
                f"the training images of data set {self.name!r} have no value above 1, and uint8 images are in 0..255: "
                "multiply images in 0..1 by 255 before they become uint8"
            )
        if not len(self.mean) and not len(self.std):
            for name, value in zip(("mean", "std"), channel_statistics(self.train.images), strict=True):
                object.__setattr__(self, name, value)
        if not len(self.mean) == len(self.std) == shape[2]:
            raise InputError(f"mean and std must have one value for each of the {shape[2]} channels")
        if not np.isfinite([*self.mean, *self.std]).all():
            raise InputError(f"mean and std must be finite, got {self.mean} and {self.std}")
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0 in every channel, got {self.std}")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both splits and the class names: equal content, equal fingerprint, wherever it came from.

        Computed anew each time: whoever made the arrays may have written to them since.
        """
        train, test = (dataclasses.replace(samples).fingerprint for samples in (self.train, self.test))
        content = (train, test, self.classes, self.mean, self.std)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def hold_out(self, validation: float | str, seed: int) -> Split:
        """Set a stratified part of the training data aside for the search's objectives.

        ``validation`` is the share of every class (at least one sample of each is kept on both sides), or
        ``"test"`` to choose on the test split as the papers do; then nothing is taken from training.
        """
        if validation == "test":
            return self._split(np.arange(len(self.train)), self.test, np.arange(0))
        if isinstance(validation, str) or not 0 < validation < 1:
            raise InputError(f"validation must be between 0 and 1, or 'test', got {validation!r}")
        remedy = ", or hold none out (validation='test')"
        if self.origin is not None:
            remedy += ", or take less imbalance or label noise"
        held = stratified(self.train.labels, self.classes, validation, seed, or_else=remedy)
        return self._split(np.setdiff1d(np.arange(len(self.train)), held), self.train.take(held), held)

    def part(self, rows: NDArray[np.int64], **changes: Any) -> Dataset:
        """A data set of the training samples at ``rows``, normalised as this one; it knows its origin.

        ``changes``: further fields.
        """
        train, origin = self.train.take(rows), self.traced()
        origin = dataclasses.replace(origin, of=train, rows=origin.rows[rows])
        return dataclasses.replace(self, train=train, origin=origin, **changes)

    def traced(self, fingerprint: str | None = None) -> Origin:
        """Where the training samples are from: from here, if this was made from no other data set.

        ``fingerprint``: this data set's, if it is known already.
        """
        here = np.arange(len(self.train))
        return self.origin or Origin(self.train, self.train.labels, here, fingerprint or self.fingerprint)

    def subset(self, *, classes: int, train: int, test: int, seed: int, traced: bool = False) -> Dataset:
        """At most ``train`` and ``test`` samples of each of the first ``classes`` classes, to try things out.

        A data set of its own, unless it is ``traced`` to this one: as :meth:`part`.
        """
        rng = np.random.default_rng([seed, 0x5B5E7])

        def some(samples: Samples, size: int) -> NDArray[np.int64]:
            picked = [rng.permutation(np.flatnonzero(samples.labels == label))[:size] for label in range(classes)]
            return np.sort(np.concatenate(picked))

        rows, test_rows = some(self.train, train), some(self.test, test)
        few = self.part(rows, test=self.test.take(test_rows), classes=self.classes[:classes])
        return few if traced else dataclasses.replace(few, origin=None)

    def _split(self, kept: NDArray[np.int64], held_out: Samples, held: NDArray[np.int64]) -> Split:
        whole = self.fingerprint
        fingerprint = hashlib.sha256(whole.encode())
        fingerprint.update(np.ascontiguousarray(kept).data)
        train = self.train if len(kept) == len(self.train) else self.train.take(kept)
        origin = self.traced(whole)
        return Split(
            name=self.name,
            train=train,
            held_out=held_out,
            test=self.test,
            kept=origin.rows[kept],
            held=origin.rows[held],
            classes=self.classes,
            mean=self.mean,
            std=self.std,
            fingerprint=fingerprint.hexdigest(),
            dataset_fingerprint=whole,
            origin_size=len(origin.labels),
            origin_fingerprint=origin.fingerprint,
            mislabelled=bool((self.train.labels != origin.labels[origin.rows]).any()),
        )


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

    @property
    def chooses_on_test(self) -> bool:
        """Whether objectives are measured on the test split, as the papers do and this project does not by default."""
        return self.held_out is self.test


def stratified(
    labels: NDArray[np.int64], classes: tuple[str, ...], share: float, seed: int, *, or_else: str = ""
) -> NDArray[np.int64]:
    """Sorted indices of a random ``share`` of every class, at least one sample and never all of them.

    >>> stratified(np.array([0, 0, 0, 0, 1, 1, 1, 1]), ("cat", "dog"), 0.25, seed=0).shape
    (2,)

    Raises ``InputError`` for a class with fewer than 2 samples; ``or_else`` ends it by another way out.
    """
    rng = np.random.default_rng([seed, 0x5917])
    taken: list[NDArray[np.int64]] = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) == 0:
            raise InputError(
                f"class {name!r} has no training samples: number labels from 0 in the order of the classes' names, and "
                f"leave out the names of classes without samples{or_else}"
            )
        if len(members) == 1:
            raise InputError(
                f"class {name!r} has 1 training sample, and setting some aside needs at least 2: leave the class "
                f"out{or_else}"
            )
        size = min(max(1, round(share * len(members))), len(members) - 1)
        taken.append(rng.permutation(members)[:size])
    return np.sort(np.concatenate(taken))


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
