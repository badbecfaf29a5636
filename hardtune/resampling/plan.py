"""A treatment's training set, as indices, synthesised images and what classes count; and a preview by class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data.samples import Samples, class_names
from hardtune.data.split import by_class
from hardtune.errors import ContractError, InputError, blamed, classes_named
from hardtune.hardness.estimators import class_hardness
from hardtune.numeric import whole
from hardtune.read_only import read_only
from hardtune.resampling.arrays import as_arrays
from hardtune.resampling.class_plan import ClassPlan
from hardtune.resampling.counts import class_counts
from hardtune.resampling.keeping import KEEPING
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool, Request, checked_added
from hardtune.resampling.policies import check_policy, check_scores, textbook_direction
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.treatment import Treatment


@dataclass(frozen=True, eq=False)
class Plan:
    """A training set: training samples by index, and synthesised images."""

    indices: NDArray[np.int64]
    """(M,) indices of training samples: those that stay, ascending, then those that are added."""
    images: NDArray[np.uint8]
    """(S, H, W, C), synthesised."""
    labels: NDArray[np.int64]
    """(S,), of the synthesised images."""
    parents: NDArray[np.int64]
    """(S,): the training sample that each synthesised image comes from, whose entropy weight it gets."""
    classes: tuple[ClassPlan, ...]
    """What happens to each class."""

    def __len__(self) -> int:
        return len(self.indices) + len(self.labels)

    @property
    def class_weights(self) -> NDArray[np.float32]:
        """(K,) w: what is minimised is the mean of w (loss - λ s H) over the samples; 1 unless reweighted."""
        return np.array([row.weight for row in self.classes], np.float32)

    @property
    def class_offsets(self) -> NDArray[np.float32]:
        """(K,) b: the loss is that of the logits - b, while predictions and entropy are of the logits; 0 by default."""
        return np.array([row.offset for row in self.classes], np.float32)

    @property
    def class_posthoc(self) -> NDArray[np.float32]:
        """(K,) what predictions add to a calibrated network's logits, which is trained without; 0 by default."""
        return np.array([row.posthoc for row in self.classes], np.float32)


def make_plan(
    treatment: Treatment,
    train: Samples,
    classes: Sequence[str],
    *,
    scores: NDArray[np.floating] | None,
    low_is_hard: bool | None = None,
    seed: int,
    features: NDArray[np.floating] | None = None,
    pool: Pool | None = None,
) -> Plan:
    """The training set that a treatment makes from ``train``: prune, then move class counts.

    A class's hardness is the mean over all its training samples, pruned ones included. The total stays what pruning
    left, unless under- or oversampling is ``none``: then one half of the exchange is missing, and the set grows or
    shrinks. With ``reweight``, classes keep their samples, whose losses count in proportion; with ``adjust`` too, but
    the odds of their labels do (logit adjustment), and with ``posthoc`` those of predictions. The control uses every
    sample once.

    Args:
        train: ``Samples.of_labels(labels)`` for data of your own that are no uint8 images in memory.
        scores: (N,) of the treatment's estimator, higher = harder; None unless ``treatment.needs_scores``.
        low_is_hard: of an estimator that is not registered: whether its textbook form is low for hard samples.
        seed: for all random draws; each class has its own generator, so that they do not affect each other.
        features: (N, D) for ``smote_encoder``.
        pool: for the ``pool_*`` oversamplers.

    Raises:
        InputError: an unknown name, scores that are not finite, a policy or ``low_is_hard`` that does not fit the
            estimator, a ratio that does not exist, a seed below 0, or a class for which it cannot be done.
    """
    seed = whole(seed, "seed", least=0)
    draft = _draft(treatment, train, classes, scores, low_is_hard, features, pool, seed)
    check_feasible({row.name: row.infeasible for row in draft.rows})
    treatment = draft.treatment
    kept: list[NDArray[np.int64]] = []
    added: list[NDArray[np.int64]] = []
    images: list[NDArray[np.uint8]] = [np.empty((0, *train.images.shape[1:]), np.uint8)]
    parents: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
    for request, row in zip(draft.requests, draft.rows, strict=True):
        rng = np.random.default_rng([seed, request.label])
        members = request.members
        if row.dropped:
            own = np.zeros(len(members)) if request.scores is None else request.scores[members]
            what = f"undersampling {treatment.undersample!r}"
            with blamed(f"{what} fails on class {row.name!r}"):
                stay = UNDERSAMPLERS[treatment.undersample](own, row.dropped, rng)
            members = members[_checked(stay, len(members), what, exactly=len(members) - row.dropped)]
        kept.append(members)
        if row.added:
            with blamed(f"oversampling {treatment.oversample!r} fails on class {row.name!r}"):
                gain = OVERSAMPLERS[treatment.oversample].draw(request, rng)
            repeated, synthesised, origins = checked_added(gain, request, treatment.oversample)
            added.append(repeated)
            images.append(synthesised)
            parents.append(origins)
    made = np.concatenate(parents)
    return Plan(
        indices=np.concatenate([np.sort(np.concatenate(kept)), *added]),
        images=np.concatenate(images),
        labels=train.labels[made],
        parents=made,
        classes=draft.rows,
    )


def preview(
    treatment: Treatment,
    train: Samples,
    classes: Sequence[str],
    *,
    scores: NDArray[np.floating] | None,
    low_is_hard: bool | None = None,
    features: NDArray[np.floating] | None = None,
    pool: Pool | None = None,
) -> tuple[ClassPlan, ...]:
    """What :func:`make_plan` would do to each class, without looking at an image or drawing anything.

    Raises:
        InputError: an unknown name, or no counts exist at all; a single class's problem is in its ``infeasible``.
    """
    return _draft(treatment, train, classes, scores, low_is_hard, features, pool, seed=0).rows


def check_feasible(reasons: Mapping[str, str | None], fewest: int = 1) -> None:
    """Raise ``InputError`` if at least the ``fewest`` classes have a reason why they cannot gain what they should.

    It tells the first reason, and names the other classes that have one.
    """
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(found) < fewest:
        return
    first = next(iter(found.values()))
    others = [name for name, reason in found.items() if reason != first]  # what is of no class needs no classes
    raise InputError(f"{first}; {classes_named(others)} cannot gain samples, either" if others else first)


@dataclass(frozen=True)
class _Draft:
    treatment: Treatment
    requests: tuple[Request, ...]
    rows: tuple[ClassPlan, ...]


def _draft(
    treatment: Treatment,
    train: Samples,
    classes: Sequence[str],
    scores: NDArray[np.floating] | None,
    low_is_hard: bool | None,
    features: NDArray[np.floating] | None,
    pool: Pool | None,
    seed: int,
) -> _Draft:
    if not isinstance(train, Samples):
        such = "such as a data set's .train or Samples.of_labels(labels)"
        raise InputError(f"train must be Samples, {such}, got {type(train).__name__}")
    classes = class_names(classes)
    scores, features = as_arrays(scores, features, len(train))
    PRUNERS[treatment.prune], UNDERSAMPLERS[treatment.undersample]  # raises if there is none
    oversample = OVERSAMPLERS[treatment.oversample]
    treatment = treatment.canonical()
    check_policy(treatment)
    low_is_hard = textbook_direction(treatment, low_is_hard)
    if len(train) and train.labels.max() >= len(classes):
        found = f"a training sample has the label {train.labels.max()}, and there are {len(classes)} classes"
        raise InputError(f"{found}: number labels from 0")
    if scores is not None:
        check_scores(treatment, scores)
    elif treatment.needs_scores:
        raise InputError(f"{treatment} needs the scores of estimator {treatment.estimator!r}")

    kept = np.arange(len(train))
    if treatment.prunes:
        seen = np.zeros(len(train), np.float32) if scores is None else scores
        rng = np.random.default_rng([seed, len(classes)])  # none of the classes' own
        kept = pruned_to(treatment.prune, seen, train.labels, treatment.prune_rate, rng)
    gone = np.setdiff1d(np.arange(len(train)), kept, assume_unique=True)
    members, pruned = (
        [read_only(some[rows]) for rows in by_class(train.labels[some], len(classes))] for some in (kept, gone)
    )
    sizes = np.array([len(indices) for indices in members])
    if (sizes == 0).any():
        empty = int(np.argmin(sizes))
        why = "pruning removes all of them" if len(pruned[empty]) else "there are none"
        raise InputError(f"class {classes[empty]!r} has no training samples: {why}")
    hardness = None
    if treatment.needs_scores:
        assert scores is not None
        hardness = class_hardness(scores, train.labels, len(classes))
    targets = sizes
    if treatment.resamples:
        targets = class_counts(
            hardness if hardness is not None and treatment.alpha > 0 else np.zeros(len(classes)),
            sizes,
            treatment.alpha,
            treatment.policy,
            balance=treatment.balance,
            low_is_hard=low_is_hard,
            classes=classes,
        )

    requests: list[Request] = []
    rows: list[ClassPlan] = []
    for label, name in enumerate(classes):
        size, target = int(sizes[label]), int(targets[label])
        how = treatment.undersample if target < size else treatment.oversample
        moved = 0 if how in KEEPING else target - size
        dropped, added = max(-moved, 0), max(moved, 0)
        weight = target / size if how == "reweight" else 1.0
        offset, posthoc = (math.log(target / size) if how == name else 0.0 for name in ("adjust", "posthoc"))
        request = Request(name, label, added, members[label], pruned[label], train, scores, features, pool)
        requests.append(request)
        infeasible = oversample.infeasible(request) if added else None
        source = treatment.oversample if added else ""
        lost = len(pruned[label])
        mean = None if hardness is None else float(hardness[label])
        row = ClassPlan(
            name, mean, size + lost, lost, dropped, added, target, weight, offset, posthoc, source, infeasible
        )
        rows.append(row)
    return _Draft(treatment, tuple(requests), tuple(rows))


def pruned_to(
    name: str, scores: NDArray[np.floating], labels: NDArray[np.int64], rate: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The indices that stay by the pruning ``name``, checked, as it may be a user's."""
    with blamed(f"pruning {name!r} fails"):
        kept = PRUNERS[name](read_only(scores), read_only(labels), rate, rng)
    return _checked(kept, len(labels), f"pruning {name!r}")


def _checked(stay: Any, among: int, what: str, exactly: int | None = None) -> NDArray[np.int64]:
    """The positions that stay; ``InputError`` for anything else, or too few or many: a plug-in may be user code."""
    positions = np.asarray(stay)
    if positions.shape == (0,):
        positions = positions.astype(np.int64)  # that of a list is float64
    if positions.ndim != 1 or positions.dtype.kind not in "iu":
        raise ContractError(f"{what} must give positions (n,), got {positions.dtype} {positions.shape}")
    inside = not len(positions) or (positions.min() >= 0 and positions.max() < among)
    if not inside or (len(positions) and np.bincount(positions).max() > 1):
        raise ContractError(f"{what} must give different positions of 0..{among - 1}")
    if exactly is not None and len(positions) != exactly:
        raise ContractError(f"{what} must keep {exactly} of {among} samples, and kept {len(positions)}")
    return positions.astype(np.int64)
