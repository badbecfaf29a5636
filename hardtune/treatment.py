"""What a trial varies."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real

from hardtune.errors import InputError


@dataclass(frozen=True)
class Treatment:
    """One way to treat hardness. ``Treatment()`` is the control: it changes nothing.

    Names are checked elsewhere, against their registries; numeric ranges are checked here.
    """

    alpha: float = 0.0
    """How far class counts move: 0 keeps the data's own, 1 multiplies them by the hardness ratio, more goes beyond."""
    estimator: str = "aum"
    """Whose scores define how hard a class is and which samples go first."""
    policy: str = "paper"
    """How class hardness becomes a ratio of class sizes."""
    undersample: str = "easiest"
    """Which samples an easy class loses."""
    oversample: str = "random"
    """What a hard class gains."""

    prune: str = "none"
    """Remove a fraction first: ``none``, the easiest samples (``dataset`` or ``class``; HBR), or the ``hardest``."""
    prune_rate: float = 0.0
    """The fraction of the training samples that pruning removes, in [0, 1)."""

    loss: str = "cross_entropy"
    """The loss that the entropy term is subtracted from."""
    entropy_weight: float = 0.0
    """λ, the strength of the entropy term; 0 leaves the plain loss."""
    entropy_estimator: str = "rmd"
    """The estimator that weights each sample's entropy."""
    entropy_target: str = "difficulty"
    """How samples get their weights s: by ``difficulty``, or by one of the controls without it."""
    entropy_scale: str = "clipped"
    """How scores are rescaled before the exponential."""
    temperature: float = 0.7
    """T in s = exp((r - max r) / T)."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "str":
                if not isinstance(value, str):
                    raise InputError(f"{field.name} must be a name, got {value!r}")
            elif isinstance(value, bool) or not isinstance(value, Real):
                raise InputError(f"{field.name} must be a number, got {value!r}")
            elif not math.isfinite(value) or value < 0:
                raise InputError(f"{field.name} must be a finite number of at least 0, got {value!r}")
            else:
                object.__setattr__(self, field.name, float(value))
        if self.prune_rate >= 1:
            raise InputError(f"prune_rate must be below 1, got {self.prune_rate:g}")
        if self.temperature == 0:
            raise InputError("temperature must be above 0")

    def canonical(self) -> Treatment:
        """The same treatment with every field that has no effect set to its default.

        Treatments with equal canonical forms are the same and are trained once.

        >>> Treatment(alpha=0, estimator="forgetting", oversample="smote").canonical() == Treatment()
        True
        """
        prunes = self.prune != "none" and self.prune_rate > 0
        resamples = self.alpha > 0 and (self.undersample, self.oversample) != ("none", "none")
        changes: dict[str, object] = {}
        if not prunes:
            changes |= _defaults("prune", "prune_rate")
        if not resamples:
            changes |= _defaults("alpha", "policy", "undersample", "oversample")
        if not prunes and not resamples:
            changes |= _defaults("estimator")
        if self.entropy_weight == 0:
            changes |= _defaults("entropy_estimator", "entropy_target", "entropy_scale", "temperature")
        elif self.entropy_target == "constant":
            changes |= _defaults("entropy_estimator", "entropy_scale", "temperature")
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """A short description of what has an effect.

        >>> print(Treatment(alpha=1.5, oversample="smote", entropy_weight=0.3))
        aum α=1.5 easiest/smote, λ=0.3 rmd
        >>> print(Treatment(alpha=0, estimator="el2n"))
        control
        """
        it = self.canonical()
        parts = []
        if it.prune != "none":
            parts.append(f"{it.estimator} prune {it.prune} {100 * it.prune_rate:.3g}%")
        if it.alpha:
            policy = "" if it.policy == "paper" else f" {it.policy}"
            parts.append(f"{it.estimator} α={it.alpha:.3g}{policy} {it.undersample}/{it.oversample}")
        if it.loss != "cross_entropy":
            parts.append(it.loss)
        if it.entropy_weight:
            by = it.entropy_estimator
            if it.entropy_target != "difficulty":
                by = it.entropy_target + ("" if by == Treatment.entropy_estimator else f" {by}")
            scale = "" if it.entropy_scale == "clipped" else f" {it.entropy_scale}"
            heat = "" if it.temperature == Treatment.temperature else f" T={it.temperature:.3g}"
            parts.append(f"λ={it.entropy_weight:.3g} {by}{scale}{heat}")
        return ", ".join(parts) or "control"

    @property
    def moves_samples(self) -> bool:
        """Whether it prunes or resamples, and so needs its estimator's scores."""
        return self.canonical().alpha > 0 or self.canonical().prune_rate > 0

    @property
    def is_control(self) -> bool:
        """Whether this treatment changes nothing."""
        return self.canonical() == Treatment()


def _defaults(*names: str) -> dict[str, object]:
    fields = {field.name: field.default for field in dataclasses.fields(Treatment)}
    return {name: fields[name] for name in names}
