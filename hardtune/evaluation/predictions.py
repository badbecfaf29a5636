"""A network's predictions on labelled samples: the sole input of every metric."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import HardtuneWarning, InputError, blamed
from hardtune.numeric import is_number
from hardtune.read_only import read_only

Floats = NDArray[np.float64]

LARGEST_LOGIT = 1e300
"""Far above anything a float32 network can output, yet float64 sums of such logits are still finite."""

_COLDEST = 1e-300
"""The lowest temperature that is divided by: a lower one changes no probability, and the largest would overflow too."""

_FEW = 16
"""Samples whose probabilities are summed: whoever takes logits for their logarithms does so for all samples."""

_NO_NUMBERS = "logits must be an array of numbers, and are not"
"""Ragged lists, say; tensors in bfloat16, with gradients or on a GPU: ``remedy`` is for these."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels and the log of the predicted probabilities; derived values are computed once, in float64.

    Every metric is given the same arrays, so they are all read-only. From logits, :meth:`of` makes them.

    Raises:
        InputError: What is no (N, K) of numbers, no samples, probabilities of the first samples that do not sum to 1,
            or labels that are not N whole numbers in 0..K-1.
    """

    log_probabilities: Floats
    """(N, K); a float64 array is not copied."""
    labels: NDArray[np.int64]
    """(N,) in 0..K-1."""

    def __post_init__(self) -> None:
        instead = remedy(self.log_probabilities, ".detach().float().cpu()")
        with blamed(f"log-probabilities must be an array of numbers, and are not{instead}"):
            log_p = np.asarray(self.log_probabilities, dtype=np.float64)
        if log_p.ndim != 2 or not log_p.size:
            raise InputError(f"log-probabilities must be (samples, classes), at least 1 each, got shape {log_p.shape}")
        with np.errstate(over="ignore"):
            off = np.abs(np.exp(log_p[:_FEW]).sum(axis=-1) - 1)
        if not (off < 0.01).all():
            raise InputError("these are no log-probabilities: from logits, make them by Predictions.of(logits, labels)")
        object.__setattr__(self, "log_probabilities", read_only(log_p))
        object.__setattr__(self, "labels", read_only(checked_labels(self.labels, *log_p.shape)))

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike) -> Predictions:
        """From logits (N, K) and the labels (N,).

        Raises:
            InputError: Shapes that do not fit, fewer than 2 classes, no samples, labels that are not whole numbers
                in 0..K-1, or logits that are not finite numbers.
        """
        return cls(log_softmax(checked_logits(logits)), labels)  # type: ignore[arg-type]  # which checks them

    def take(self, which: NDArray[np.bool_]) -> Predictions:
        """Those of some samples, by a mask (N,)."""
        some = object.__new__(Predictions)  # to copy is cheaper than to check and to compute again
        for name in ("log_probabilities", "labels", "probabilities", "predicted", "confidence", "correct"):
            some.__dict__[name] = read_only(getattr(self, name)[which])
        return some

    def at(self, temperature: float) -> Predictions:
        """Those of the logits divided by the temperature; an InputError unless it is a finite number above 0."""
        if not is_number(temperature) or not 0 < temperature < math.inf:
            raise InputError(f"temperature must be a finite number above 0, got {temperature!r}")
        with np.errstate(over="ignore"):
            divided = self.log_probabilities / max(float(temperature), _COLDEST)
        return Predictions(log_softmax(divided), self.labels)

    @property
    def num_classes(self) -> int:
        return int(self.log_probabilities.shape[1])

    @cached_property
    def probabilities(self) -> Floats:
        """(N, K)."""
        return read_only(np.exp(self.log_probabilities))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(N,) the most probable class; the first if tied."""
        return read_only(self.log_probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> Floats:
        """(N,) the probability of the predicted class."""
        return read_only(self._of_predicted(self.probabilities))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the predicted class is the label."""
        return read_only(np.equal(self.predicted, self.labels))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(K, K) samples by label (row) and predicted class (column)."""
        k = self.num_classes
        return read_only(np.bincount(self.labels * k + self.predicted, minlength=k * k).reshape(k, k))

    @cached_property
    def ranked(self) -> tuple[Floats, Floats]:
        """Confidence (N,), descending, and the accuracy (N,) of samples with exactly that confidence.

        Giving tied samples their common accuracy equals breaking ties at random, in expectation: no metric then
        depends on the order of the samples. Its logarithm tells confidences apart that round to 1, and float32 makes
        equal ones equal that summing other classes in another order has made differ.
        """
        key = self._of_predicted(self.log_probabilities).astype(np.float32)
        falling = np.argsort(-key)
        group = np.cumsum(np.diff(key[falling], prepend=key[falling[0]]) != 0)
        share = np.bincount(group, weights=self.correct[falling]) / np.bincount(group)
        return read_only(self.confidence[falling]), read_only(share[group])

    def _of_predicted(self, values: Floats) -> Floats:
        """Those (N,) of the predicted classes, of values (N, K)."""
        return np.asarray(np.take_along_axis(values, self.predicted[:, None], axis=1)[:, 0])


def log_softmax(logits: Floats) -> Floats:
    """Over the last axis; finite for any logits that :func:`checked_logits` accepts.

    That of the largest is exact even where its probability rounds to 1: it is minus log(1 + what the others sum to).
    """
    largest = logits.argmax(axis=-1)[..., None]
    shifted = logits - np.take_along_axis(logits, largest, axis=-1)
    others = np.exp(shifted)
    np.put_along_axis(others, largest, 0.0, axis=-1)
    return np.asarray(shifted - np.log1p(others.sum(axis=-1, keepdims=True)))


def checked_logits(logits: ArrayLike) -> Floats:
    """Logits (N, K) as float64, or an InputError that says what is wrong with them."""
    with blamed(_NO_NUMBERS + remedy(logits, ".detach().float().cpu()")):
        values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise InputError(f"logits must be (samples, classes) with at least 1 and 2 of them, got shape {values.shape}")
    usable = np.abs(values) <= LARGEST_LOGIT  # False for NaN
    if not usable.all():
        bad = np.count_nonzero(~usable.all(axis=1))
        raise InputError(
            f"logits must be finite, and those of {bad} of {len(values)} samples are not: has it diverged?"
        )
    if values.min() >= 0 and np.allclose(values.sum(axis=1), 1, rtol=0, atol=0.01):  # of bfloat16, or rounded
        message = "these look like probabilities, and logits are asked for: pass their logarithms, zeros clipped"
        warnings.warn(message, HardtuneWarning, stacklevel=4)
    return values


def checked_members(logits: ArrayLike) -> NDArray[np.floating]:
    """Logits (M, N, K) of an ensemble as an array, or an InputError; those of each member are yet to be checked."""
    with blamed(_NO_NUMBERS + remedy(logits, ".detach().float().cpu()")):
        stack = np.asarray(logits)
    if stack.ndim != 3 or not len(stack):
        raise InputError(f"logits must be (members, samples, classes), got shape {stack.shape}")
    return stack


def checked_labels(labels: ArrayLike, samples: int, classes: int | None = None) -> NDArray[np.int64]:
    """Labels (N,) as int64, or an InputError that says what is wrong with them; None is any number of classes."""
    with blamed("labels must be an array of whole numbers, and are not" + remedy(labels, ".cpu()")):
        values = np.asarray(labels)
    if values.shape != (samples,) or values.dtype.kind not in "iu":
        raise InputError(f"labels must be {samples} whole numbers, got {values.dtype} of shape {values.shape}")
    classes = int(values.max(initial=0)) + 1 if classes is None else classes
    if len(values) and (values.min() < 0 or values.max() >= classes):
        raise InputError(f"labels must be in 0..{classes - 1}, got {values.min()}..{values.max()}")
    return values.astype(np.int64)


def remedy(given: object, call: str) -> str:
    """What makes an array of a tensor, or of a list of them, that numpy does not take; torch is not imported for it."""
    first = given[0] if isinstance(given, (list, tuple)) and given else given
    return f", so pass the tensor's {call}" if hasattr(first, "detach") else ""
