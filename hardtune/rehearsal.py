"""A rehearsal of a user's own functions on made-up scores: a mistake in one should cost no network."""

from __future__ import annotations

import contextlib
import dataclasses
import pickle
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Split
from hardtune.errors import ContractError, HardtuneWarning, InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.registry import Registry
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool
from hardtune.resampling.plan import make_plan, pruned_to
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.weights import SCALES, TARGETS, entropy_weights
from hardtune.treatment import Treatment

MISTAKES = (TypeError, AttributeError, NameError, ImportError)
"""What code raises that is wrong whatever it is given; a ``ValueError``, say, may be right about made-up scores."""
MOVED = 500
"""About how many samples a rehearsal moves between classes at most."""

_RESAMPLING: Mapping[str, Registry[Any]] = {
    "policy": POLICIES,
    "undersample": UNDERSAMPLERS,
    "oversample": OVERSAMPLERS,
    "prune": PRUNERS,
}
_WEIGHTING: Mapping[str, Registry[Any]] = {"entropy_scale": SCALES, "entropy_target": TARGETS}


def rehearse(split: Split, treatments: Sequence[Treatment]) -> None:
    """Let each policy, sampler, pruner, entropy scale and target of a user's own do its work once, for one treatment.

    Raises:
        InputError: one gives something of another kind or size than it must, or raises one of ``MISTAKES``. Whatever
            else goes wrong may be due to the scores, and is left to those that are real.

    Warns with ``HardtuneWarning`` of one that draws from or seeds a global generator of random numbers.
    """
    careless = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is made up, one need not be warned
        for field, name, treatment in _using({**_RESAMPLING, **_WEIGHTING}, treatments):
            before = _global_generators()
            with _mistakes_alone():
                _weigh(split, treatment) if field in _WEIGHTING else _resample(split, treatment, field)
            if _global_generators() != before:
                careless.append(f"{field} {name!r}")
    for who in careless:
        warnings.warn(
            f"{who} draws from or seeds a global generator of random numbers (np.random.…, random.…), which all code "
            "shares, so networks of equal treatment and seed may differ: use the generator that it is given",
            HardtuneWarning,
            stacklevel=2,
        )


def _global_generators() -> bytes:
    return pickle.dumps((random.getstate(), np.random.get_state()))  # noqa: NPY002


def _using(fields: Mapping[str, Registry[Any]], treatments: Sequence[Treatment]) -> list[tuple[str, str, Treatment]]:
    """For each of a user's own that has an effect in a treatment, its field, name and the first of these treatments."""
    first: dict[tuple[str, str], Treatment] = {}
    for treatment in (each.canonical() for each in treatments):
        for field, registry in fields.items():
            name = getattr(treatment, field)
            if registry.is_users(name):
                first.setdefault((field, name), treatment)
    return [(field, name, treatment) for (field, name), treatment in first.items()]


@contextlib.contextmanager
def _mistakes_alone() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        if isinstance(error, ContractError) or isinstance(error.__cause__, MISTAKES):
            raise InputError(f"tried on made-up scores, {error}") from error


def _resample(split: Split, treatment: Treatment, field: str) -> None:
    """Prune, or make a plan whose one unknown is the treatment's ``field``."""
    train, scores = split.train, _made_up(split, treatment.estimator)
    rng = np.random.default_rng(0)
    if field == "prune":  # alone: of a small class, made-up scores may leave nothing
        pruned_to(treatment.prune, scores, train.labels, treatment.prune_rate, rng)
        return
    tried = Treatment(
        alpha=min(treatment.alpha or 1.0, 6 * MOVED / len(train)),  # by ``shift``, 1 would move about a sixth of all
        estimator=treatment.estimator,
        policy="shift",
        undersample="random",
        oversample="random",
    )
    tried = dataclasses.replace(tried, **{field: getattr(treatment, field)})
    needs = OVERSAMPLERS[tried.oversample].needs
    pool = None
    if split.pool is not None:
        confidence = (rng.random(len(split.pool)), rng.random(split.num_classes)) if needs == "judged pool" else ()
        pool = Pool(split.pool, *confidence)
    make_plan(
        tried,
        train,
        split.classes,
        scores=scores,
        seed=0,
        features=rng.standard_normal((len(train), 8), np.float32) if needs == "features" else None,
        pool=pool,
    )


def _weigh(split: Split, treatment: Treatment) -> None:
    entropy_weights(
        treatment.entropy_target,
        _made_up(split, treatment.entropy_estimator),
        scale=treatment.entropy_scale,
        temperature=treatment.temperature,
    )


def _made_up(split: Split, name: str) -> NDArray[np.float32]:
    """Scores (N,) in the range of most estimators, higher for later classes: 0..1, or -1..0 if low is hard."""
    estimator = ESTIMATORS[name]
    labels = split.train.labels
    drawn = np.random.default_rng(0).random(len(labels), np.float32)
    scores = (drawn + labels / (split.num_classes - 1)) / 2
    lowered = 1.0 if estimator.low_is_hard else 0.5 if estimator.centred else 0.0
    made: NDArray[np.float32] = (scores - lowered).astype(np.float32)
    return made
