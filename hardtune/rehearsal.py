"""A rehearsal of a user's own functions on made-up scores: a mistake in one should cost no network."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Split
from hardtune.errors import InputError, where
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.registry import Registry
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool
from hardtune.resampling.plan import make_plan, preview, pruned_to
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.weights import SCALES, TARGETS, entropy_weights
from hardtune.treatment import Treatment

MOVED = 500
"""About how many samples a rehearsal moves between classes, however many there are."""

_RESAMPLING: Mapping[str, Registry[Any]] = {
    "policy": POLICIES,
    "undersample": UNDERSAMPLERS,
    "oversample": OVERSAMPLERS,
    "prune": PRUNERS,
}
_WEIGHTING: Mapping[str, Registry[Any]] = {"entropy_scale": SCALES, "entropy_target": TARGETS}


def rehearse(
    split: Split, treatments: Sequence[Treatment], scores: Mapping[str, NDArray[np.floating]] | None = None
) -> None:
    """Let each policy, sampler, pruner, entropy scale and target of a user's own do its work once, for one treatment.

    Args:
        scores: (N,) by estimator, of those that are known already; others are made up.

    Raises:
        InputError: one raises, or gives something else than it should. (If it raises an ``InputError`` itself, it may
            just as well be right about scores that are made up.)
    """
    known = scores or {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is made up, one need not be warned
        for field, treatment in _using(_RESAMPLING, treatments):
            with _said_of(treatment.estimator in known):
                _resample(split, treatment, field, known.get(treatment.estimator, _made_up(split, treatment.estimator)))
        for _, treatment in _using(_WEIGHTING, treatments):
            name = treatment.entropy_estimator
            with _said_of(name in known):
                entropy_weights(
                    treatment.entropy_target,
                    known.get(name, _made_up(split, name)),
                    scale=treatment.entropy_scale,
                    temperature=treatment.temperature,
                )


def _using(fields: Mapping[str, Registry[Any]], treatments: Sequence[Treatment]) -> list[tuple[str, Treatment]]:
    """For each of a user's own that has an effect in a treatment, its field and the first of these treatments."""
    first: dict[tuple[str, str], Treatment] = {}
    for treatment in (each.canonical() for each in treatments):
        for field, registry in fields.items():
            name = getattr(treatment, field)
            if registry.is_users(name):
                first.setdefault((field, name), treatment)
    return [(field, treatment) for (field, _), treatment in first.items()]


@contextlib.contextmanager
def _said_of(known: bool) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if known:
            raise
        if not where(error):
            raise InputError(f"tried on made-up scores, {error}") from error


def _resample(split: Split, treatment: Treatment, field: str, scores: NDArray[np.floating]) -> None:
    """Prune, or make a plan whose one unknown is the treatment's ``field``."""
    train = split.train
    if field == "prune":  # alone: of a small class, made-up scores may leave nothing
        pruned_to(treatment.prune, scores, train.labels, treatment.prune_rate)
        return
    rng = np.random.default_rng(0)
    alpha = min(1.0, 6 * MOVED / len(train))  # by ``shift``, 1 would move about a sixth of all
    usual = {"alpha": alpha, "policy": "shift", "undersample": "random", "oversample": "random"}
    tried = Treatment(estimator=treatment.estimator, **{**usual, field: getattr(treatment, field)})
    pool = None
    if split.pool is not None:
        confidence = rng.random(len(split.pool)), rng.random(split.num_classes)
        pool = Pool(split.pool.images, split.pool.labels, *confidence)
    arguments: dict[str, Any] = {
        "scores": scores,
        "low_is_hard": ESTIMATORS[treatment.estimator].low_is_hard,
        "features": rng.standard_normal((len(train), 8), np.float32),
        "pool": pool,
    }
    rows = preview(tried, train, split.classes, **arguments)
    if all(row.infeasible is None for row in rows):  # what is made up may well be
        make_plan(tried, train, split.classes, **arguments, seed=0)


def _made_up(split: Split, name: str) -> NDArray[np.float32]:
    """Scores (N,) in the estimator's range, higher for later classes: in [0, 1], [-1, 0] if low is hard, or centred."""
    estimator = ESTIMATORS[name]
    labels = split.train.labels
    drawn = np.random.default_rng(0).random(len(labels), np.float32)
    scores = (drawn + labels / (split.num_classes - 1)) / 2
    lowered = 1.0 if estimator.low_is_hard else 0.5 if estimator.centred else 0.0
    made: NDArray[np.float32] = (scores - lowered).astype(np.float32)
    return made
