"""Evaluating a trained network: its outputs (the answers) are kept, its weights never are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split, load_ood
from hardtune.errors import DivergedError, InputError, unknown
from hardtune.evaluation import CORRUPTION_METRICS, Predictions
from hardtune.evaluation.calibration import Reliability, fit_temperature
from hardtune.evaluation.corruptions import CIFAR10_C, CORRUPTIONS, SEVERITIES, checked_severity, corrupt
from hardtune.evaluation.jackknife import parts
from hardtune.evaluation.ood import mahalanobis
from hardtune.registry import Digests
from hardtune.store import Store
from hardtune.training.features import penultimate
from hardtune.training.fit import predict
from hardtune.training.images import DeviceImages

Floats = NDArray[np.float32]
Entries = dict[str, dict[str, Any]]
"""Each part of a member's answers, by name, with its identity in the store."""

OOD_VERSION = 1
CORRUPTION_VERSION = 3


@dataclass(frozen=True, eq=False)
class Answers:
    """Everything that is kept of a trained member, in float32. Parts not asked for are None.

    Out-of-distribution features would take most of the space (10,000 x 512 of them are 20 MB, and the training samples'
    five times that), so only the distances computed from them are kept: a few hundred kB.
    """

    held_out: Floats
    """Logits (H, K) of the held-out samples."""
    test: Floats
    """Logits (N, K) of the test samples."""
    ood: Floats | None = None
    """Logits (N', K) of the out-of-distribution images."""
    mahalanobis_test: Floats | None = None
    """(N,) Mahalanobis distance of each test sample to the nearest class of the training samples."""
    mahalanobis_ood: Floats | None = None
    """(N',) the same for the out-of-distribution images."""
    corrupted: Floats | None = None
    """(C, 2): accuracy and ECE on the test samples under each of the split's corruptions."""
    corrupted_left_out: Floats | None = None
    """(P, 2): their means over corruptions, with each part of the test samples left out in turn, for intervals."""

    @property
    def distances(self) -> tuple[Floats, Floats] | None:
        """Mahalanobis distances of test samples (N,) and out-of-distribution ones (N',)."""
        if self.mahalanobis_test is None or self.mahalanobis_ood is None:
            return None
        return self.mahalanobis_test, self.mahalanobis_ood

    def shifted(self, shift: Floats) -> Answers:
        """With ``shift`` (K,) added to all logits."""
        if not shift.any():
            return self
        ood = None if self.ood is None else self.ood + shift
        return dataclasses.replace(self, held_out=self.held_out + shift, test=self.test + shift, ood=ood)


_PARTS = {
    "member": ("held_out", "test"),
    "ood": ("ood", "mahalanobis_test", "mahalanobis_ood"),
    "corruptions": ("corrupted", "corrupted_left_out"),
}


def corruption_pairs(kinds: Sequence[str], severities: Sequence[int] = SEVERITIES) -> tuple[tuple[str, int], ...]:
    """Every kind at every severity, checked; the kind ``all`` stands for the 15 of CIFAR-10-C.

    Raises:
        InputError: An unknown kind, or a severity outside 1..5.

    >>> corruption_pairs(["fog", "frost"], [1, 5])
    (('fog', 1), ('fog', 5), ('frost', 1), ('frost', 5))
    """
    if isinstance(kinds, str) or not isinstance(severities, Iterable):
        raise InputError(f"corruptions and severities must be lists, got {kinds!r} and {severities!r}")
    names = list(dict.fromkeys(name for kind in kinds for name in (CIFAR10_C if kind == "all" else (kind,))))
    for name in names:
        if name not in CORRUPTIONS:
            raise unknown("corruption", name, (*CORRUPTIONS, "all"))
    asked = sorted(set(map(checked_severity, severities)))
    if names and not asked:
        raise InputError("corruptions need at least one severity from 1 to 5")
    return tuple((name, severity) for name in names for severity in asked)


def with_shifts(
    split: Split,
    dataset: Dataset,
    *,
    ood: str | Path | NDArray[np.uint8] | None,
    corruptions: Sequence[str],
    severities: Sequence[int],
    data_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Split:
    """The split with what its members are asked besides: out-of-distribution images and corruptions, as in a sweep.

    Raises:
        InputError: As :func:`hardtune.data.load_ood` and :func:`corruption_pairs`.
    """
    pairs = corruption_pairs(corruptions, severities)
    images = None if ood is None else load_ood(ood, dataset, data_dir, progress=progress)
    return dataclasses.replace(split, ood=images, corruptions=pairs)


def entries(network: dict[str, Any], split: Split, seed: int, posthoc: Floats | None = None) -> Entries:
    """The store identity of each part of a member's answers that the split asks for: all that determines that part.

    Parts are stored separately, so a sweep that measures less, or something else, still finds the logits. What is added
    to these after training, ``posthoc`` (K,), decides only the figures on corrupted images.
    """
    parts: Entries = {"member": network}
    if split.ood is not None:
        parts["ood"] = {"kind": "ood", "version": OOD_VERSION, "images": split.ood_digest, "network": network}
    if split.corruptions:
        code: Digests = {}
        for kind, _ in split.corruptions:
            code |= CORRUPTIONS.code(kind)
        parts["corruptions"] = {
            "kind": "corruptions",
            "version": CORRUPTION_VERSION,
            "corruptions": [list(pair) for pair in split.corruptions],
            "seed": seed,
            "network": network,
            **({"code": code} if code else {}),
            **({"posthoc": posthoc.tolist()} if posthoc is not None and posthoc.any() else {}),
        }
    return parts


def find(store: Store, parts: Entries) -> Answers | None:
    """The answers from the store, or None if any part is missing."""
    arrays: dict[str, Floats] = {}
    for identity in parts.values():
        found = store.get(identity)
        if found is None:
            return None
        arrays |= found
    return Answers(**arrays)


def keep(store: Store, parts: Entries, answers: Answers) -> None:
    """Store every part, even those already stored: answers of one network belong together."""
    arrays = {field.name: getattr(answers, field.name) for field in dataclasses.fields(answers)}
    for part, identity in parts.items():
        store.put(identity, {name: arrays[name] for name in _PARTS[part]})


def shift_of(posthoc: Floats, held_out: Floats, split: Split) -> Floats:
    """What to add to a network's logits so that the odds of its classes are multiplied by exp(``posthoc``): (K,).

    That is ``posthoc`` (K,) times the temperature at which its ``held_out`` logits (H, K) are calibrated: those of an
    overconfident network are so far apart that it would hardly move them. Where choices are made on the test split,
    nothing is held out to fit a temperature on, and it is 1.
    """
    if split.chooses_on_test or not posthoc.any():
        return posthoc
    return posthoc * np.float32(fit_temperature(held_out, split.held_out.labels))


def question(model: torch.nn.Module, split: Split, *, seed: int, device: str, posthoc: Floats | None = None) -> Answers:
    """Evaluate a trained network on all that the split asks for.

    Corrupted images are made, evaluated and dropped one (kind, severity) at a time; ``seed`` sets their noise, and
    :func:`shift_of` ``posthoc`` (K,) is added to their logits; all other logits are the network's own.

    Raises:
        DivergedError: The outputs contain NaN or infinity, as when the very last step diverges: the fit loop sees only
            the losses, which precede the steps.
    """

    def ask(images: NDArray[np.uint8]) -> Floats:
        return predict(model, _on(split, images, device), _all(images, device)).cpu().numpy()

    held_out = ask(split.held_out.images)
    test = held_out if split.chooses_on_test else ask(split.test.images)
    if not (np.isfinite(held_out).all() and np.isfinite(test).all()):
        raise DivergedError(
            "training diverged in its last step: the network's answers are no finite numbers; "
            "a lower learning rate or entropy weight may help"
        )
    answers = Answers(held_out, test)
    if split.ood is not None:
        answers = dataclasses.replace(answers, **_out_of_distribution(model, split, split.ood, device))
    if split.corruptions:
        shift = 0 if posthoc is None else shift_of(posthoc, held_out, split)
        answers = dataclasses.replace(answers, **_corrupted(ask, split, seed, shift))
    return answers


def _out_of_distribution(
    model: torch.nn.Module, split: Split, images: NDArray[np.uint8], device: str
) -> dict[str, Floats]:
    def features(of: NDArray[np.uint8]) -> tuple[Floats, Floats]:
        logits, penultimate_features = penultimate(model, _on(split, of, device), _all(of, device))
        return logits.cpu().numpy(), penultimate_features.cpu().numpy()

    logits, outside = features(images)
    inside = features(split.test.images)[1]
    known = features(split.train.images)[1]
    distances = mahalanobis(np.concatenate([inside, outside]), known, split.train.labels).astype(np.float32)
    return {"ood": logits, "mahalanobis_test": distances[: len(inside)], "mahalanobis_ood": distances[len(inside) :]}


def _corrupted(
    ask: Callable[[NDArray[np.uint8]], Floats], split: Split, seed: int, shift: Floats | int
) -> dict[str, Floats]:
    part, count = parts(split.test.labels)
    figures = np.empty((len(split.corruptions), 1 + count, len(CORRUPTION_METRICS)), dtype=np.float32)
    for row, (kind, severity) in enumerate(split.corruptions):
        logits = ask(corrupt(split.test.images, kind, severity, seed=seed)) + shift
        shown = Predictions.of(logits, split.test.labels)
        for column, one in enumerate(range(-1, count)):
            kept = part != one  # none is left out first
            right = shown.correct[kept]
            figures[row, column] = right.mean(), Reliability.of(shown.confidence[kept], right).error
    return {
        "corrupted": figures[:, 0],
        "corrupted_left_out": figures[:, 1:].mean(axis=0, dtype=np.float64).astype(np.float32),
    }


def _on(split: Split, images: NDArray[np.uint8], device: str) -> DeviceImages:
    return DeviceImages(images, mean=split.mean, std=split.std, device=device)


def _all(images: NDArray[np.uint8], device: str) -> torch.Tensor:
    return torch.arange(len(images), device=device)
