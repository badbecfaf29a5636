"""What treatments name, and what they need before the first trial."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hardtune.hardness.estimators import ESTIMATORS
from hardtune.registry import Registry
from hardtune.resampling.oversamplers import OVERSAMPLERS
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.losses import LOSSES
from hardtune.training.weights import SCALES, TARGETS
from hardtune.treatment import Treatment

FROM_POOL = ("pool", "judged pool")
"""What an oversampler needs that draws on a pool of synthetic images."""


@dataclass(frozen=True)
class Needs:
    """What must be computed before the first trial."""

    estimators: frozenset[str] = frozenset()
    features: bool = False
    """Whether the training images must be encoded."""
    pool: bool = False
    """Whether the scoring ensemble's confidence in the pool is needed."""

    @classmethod
    def of_scores(cls, names: Iterable[str]) -> Needs:
        """What the scores of these estimators are made of; an unknown one raises ``InputError``."""
        names = frozenset(names)
        return cls(names, features=any(ESTIMATORS[name].source == "features" for name in names))

    @property
    def ensemble(self) -> bool:
        """Whether a scoring ensemble is needed."""
        return self.pool or any(ESTIMATORS[name].measured for name in self.estimators)


def needs_of(treatments: Iterable[Treatment]) -> Needs:
    """What a set of treatments asks for; unknown estimators raise ``InputError``."""
    treatments = list(treatments)
    scores = Needs.of_scores(frozenset().union(*map(needed_scores, treatments)))
    features = scores.features or any(map(needs_features, treatments))
    return Needs(scores.estimators, features, any(map(needs_judged_pool, treatments)))


def named_in(treatment: Treatment) -> tuple[tuple[Registry[Any], str], ...]:
    """The names in a treatment, each with its registry."""
    return (
        (ESTIMATORS, treatment.estimator),
        (POLICIES, treatment.policy),
        (UNDERSAMPLERS, treatment.undersample),
        (OVERSAMPLERS, treatment.oversample),
        (PRUNERS, treatment.prune),
        (LOSSES, treatment.loss),
        (ESTIMATORS, treatment.entropy_estimator),
        (TARGETS, treatment.entropy_target),
        (SCALES, treatment.entropy_scale),
    )


def needed_scores(treatment: Treatment) -> set[str]:
    """The estimators whose scores a treatment reads."""
    treatment = treatment.canonical()
    names = set()
    if treatment.needs_scores:
        names.add(treatment.estimator)
    if treatment.entropy_weight > 0 and treatment.entropy_target != "constant":
        names.add(treatment.entropy_estimator)
    return names


def needs_features(treatment: Treatment) -> bool:
    """Whether resampling itself uses encoder features (scores computed from features do not count)."""
    return OVERSAMPLERS[treatment.canonical().oversample].needs == "features"


def needs_pool(treatment: Treatment) -> bool:
    """Whether resampling draws on a pool of synthetic images."""
    return OVERSAMPLERS[treatment.canonical().oversample].needs in FROM_POOL


def needs_judged_pool(treatment: Treatment) -> bool:
    """Whether it does so by the scoring ensemble's confidence in them."""
    return OVERSAMPLERS[treatment.canonical().oversample].needs == "judged pool"
