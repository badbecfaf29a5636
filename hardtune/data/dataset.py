"""A training and a test split under one name, where they are from, and the parts that are made of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data.samples import Samples, channel_statistics, class_names
from hardtune.data.split import Split, stratified
from hardtune.errors import InputError, classes_have
from hardtune.numeric import is_number


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
    val: NDArray[np.int64] | None = None
    """Rows of ``train`` that came as a validation split: ``validation="val"`` holds out these, not a random share.
    If you replace ``train`` by samples in another order, replace these as well."""
    origin: Origin | None = None
    """Where the training samples are from, if this was made from another data set."""

    def __post_init__(self) -> None:
        # Lists and numpy numbers are the same data, so they must give the same fingerprint.
        object.__setattr__(self, "classes", class_names(self.classes))
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
        if 0 in shape:
            raise InputError(f"data set {self.name!r} needs images with pixels, and its are {shape}")
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
        if self.val is not None:
            val = np.unique(np.asarray(self.val))
            if len(val) and (val.dtype.kind not in "iu" or val[0] < 0 or val[-1] >= len(self.train)):
                is_mask = val.dtype == np.bool_
                found = "a mask: give np.flatnonzero of it" if is_mask else f"{val.dtype} from {val[0]} to {val[-1]}"
                raise InputError(f"val must be rows of the {len(self.train)} training samples, from 0, got {found}")
            object.__setattr__(self, "val", val.astype(np.int64) if len(val) else None)
        if not len(self.mean) and not len(self.std):
            for name, value in zip(("mean", "std"), channel_statistics(self.train.images), strict=True):
                object.__setattr__(self, name, value)
        if not len(self.mean) == len(self.std) == shape[2]:
            raise InputError(f"mean and std must have one value for each of the {shape[2]} channels")
        if not np.isfinite([*self.mean, *self.std]).all():
            raise InputError(f"mean and std must be finite, got {self.mean} and {self.std}")
        if max(self.mean) > 1:
            raise InputError(
                f"mean and std are those of images in 0..1, so divide them by 255, got a mean of {self.mean}"
            )
        if min(self.std) <= 0:
            raise InputError(f"std must be above 0 in every channel, got {self.std}")

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all splits and the class names: equal content, equal fingerprint, wherever it came from.

        Computed anew each time: whoever made the arrays may have written to them since.
        """
        train, test = (dataclasses.replace(samples).fingerprint for samples in (self.train, self.test))
        own = () if self.val is None else (self.val.tobytes(),)
        content = (train, test, self.classes, self.mean, self.std, *own)
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def hold_out(self, validation: float | str, seed: int) -> Split:
        """Set a part of the training data aside for the search's objectives.

        ``validation`` is the share of every class (at least one sample of each is kept on both sides), drawn at random;
        or ``"val"`` for the data's own validation split; or ``"test"`` to choose on the test split as the papers do:
        then nothing is taken from training.
        """
        if validation == "test":
            return self._split(np.arange(len(self.train)), self.test, np.arange(0))
        if validation == "val":
            held = self._own_validation()
        elif not is_number(validation) or not 0 < validation < 1:
            raise InputError(
                f"validation must be between 0 and 1, 'val', or 'test' to hold none out, got {validation!r}"
            )
        else:
            remedy = ", or hold none out (validation='test')"
            if self.origin is not None:
                remedy += ", or take less imbalance or label noise"
            held = stratified(self.train.labels, self.classes, validation, seed, or_else=remedy)
        return self._split(np.delete(np.arange(len(self.train)), held), self.train.take(held), held)

    def _own_validation(self) -> NDArray[np.int64]:
        if self.val is None:
            raise InputError(
                f"data set {self.name!r} has no validation split of its own, so validation='val' holds none out: give "
                "a share between 0 and 1, or 'test'"
            )
        left = np.bincount(np.delete(self.train.labels, self.val), minlength=self.num_classes)
        if not left.all():
            without = [name for name, size in zip(self.classes, left, strict=True) if not size]
            raise InputError(f"{classes_have(without)} no training samples beside the validation split")
        return self.val

    def part(self, rows: NDArray[np.int64], **changes: Any) -> Dataset:
        """A data set of the training samples at ``rows``, normalised as this one; it knows its origin.

        ``changes``: further fields.
        """
        train, origin = self.train.take(rows), self.traced()
        origin = dataclasses.replace(origin, of=train, rows=origin.rows[rows])
        return dataclasses.replace(
            self, train=train, origin=origin, val=np.flatnonzero(self._of_val()[rows]), **changes
        )

    def _of_val(self) -> NDArray[np.bool_]:
        """(N,) which training samples came as a validation split."""
        return np.isin(np.arange(len(self.train)), () if self.val is None else self.val)

    def traced(self, fingerprint: str | None = None) -> Origin:
        """Where the training samples are from: from here, if this was made from no other data set.

        ``fingerprint``: this data set's, if it is known already.
        """
        here = np.arange(len(self.train))
        return self.origin or Origin(self.train, self.train.labels, here, fingerprint or self.fingerprint)

    def subset(self, *, classes: int, train: int, test: int, seed: int, traced: bool = False) -> Dataset:
        """At most ``train`` and ``test`` samples of each of the first ``classes`` classes, to try things out.

        Beside those, of a validation split of the data's own, as many as of the test split. A data set of its own,
        unless it is ``traced`` to this one: as :meth:`part`.
        """
        rng = np.random.default_rng([seed, 0x5B5E7])

        def some(samples: Samples, size: int, among: NDArray[np.bool_] | bool = True) -> NDArray[np.int64]:
            of_each = (np.flatnonzero((samples.labels == label) & among) for label in range(classes))
            return np.sort(np.concatenate([rng.permutation(rows)[:size] for rows in of_each]))

        of_val = self._of_val()
        rows = np.concatenate([some(self.train, train, ~of_val), some(self.train, test, of_val)])
        rows, test_rows = np.sort(rows), some(self.test, test)
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
