"""What a treatment does to one class."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hardtune.resampling.counts import floor_of


@dataclass(frozen=True)
class ClassPlan:
    """What a treatment does to one class."""

    name: str
    hardness: float | None
    """Mean score of its training samples, higher = harder; None if scores decide nothing."""
    size: int
    """Training samples to begin with."""
    pruned: int
    """Of these, how many pruning removes."""
    dropped: int
    """Of the rest, how many undersampling removes."""
    added: int
    """How many oversampling adds."""
    target: int
    """The count class hardness asks for; if that leaves the samples as they are, ``count`` differs from it."""
    weight: float
    """What each of its samples counts in the mean that is minimised: ``target / count`` by ``reweight``, else 1."""
    offset: float
    """What the loss subtracts from the class's logit: log(``target / count``) by ``adjust``, else 0."""
    posthoc: float
    """The logarithm of what multiplies its odds in predictions: log(``target / count``) by ``posthoc``, else 0."""
    source: str
    """The oversampler, or an empty string if nothing is added."""
    infeasible: str | None
    """Why it cannot be done, or None if it can."""

    @property
    def count(self) -> int:
        """How many samples the class has in the end."""
        return self.size - self.pruned - self.dropped + self.added

    @property
    def factor(self) -> float:
        """How much its samples count in place of resampling, in the loss or in the odds of its label; else 1."""
        return self.weight * math.exp(self.offset + self.posthoc)

    @property
    def share(self) -> float:
        """What the class counts as, of the ``size`` it had: 1.2 if a fifth more; by ``posthoc``, once trained."""
        return self.count * self.factor / self.size

    @property
    def at_floor(self) -> bool:
        """Whether it loses as many as allowed: the treatment may have asked for more."""
        size = self.size - self.pruned
        return (self.dropped > 0 or self.factor < 1) and self.target == floor_of(size)
