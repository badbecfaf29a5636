"""What a set of treatments needs before the first trial."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hardtune.hardness.estimators import ESTIMATORS
from hardtune.member import needed_scores, needs_features, needs_judged_pool
from hardtune.treatment import Treatment


@dataclass(frozen=True)
class Needs:
    """What must be computed before the first trial."""

    estimators: frozenset[str] = frozenset()
    features: bool = False
    """Whether the training images must be encoded."""
    pool: bool = False
    """Whether the scoring ensemble's confidence in the pool is needed."""

    @property
    def ensemble(self) -> bool:
        """Whether a scoring ensemble is needed."""
        return self.pool or any(ESTIMATORS[name].measured for name in self.estimators)


def needs_of(treatments: Iterable[Treatment]) -> Needs:
    """What a set of treatments asks for; unknown estimators raise ``InputError``."""
    treatments = list(treatments)
    estimators = frozenset().union(*(needed_scores(treatment) for treatment in treatments))
    from_features = any(ESTIMATORS[name].source == "features" for name in estimators)
    features = from_features or any(map(needs_features, treatments))
    return Needs(estimators, features, any(map(needs_judged_pool, treatments)))
