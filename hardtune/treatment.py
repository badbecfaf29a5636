"""What a trial varies."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from numbers import Real

from hardtune.errors import InputError

_POOLS = {"pool_random", "pool_hard", "pool_mean"}
BLIND = frozenset({"none", "random", "reweight", "adjust", "posthoc", "holdout", "smote", "smote_encoder"} | _POOLS)
"""The under- and oversamplings of hardtune that look at no sample's score. One's own always gets scores."""
RESAMPLING = ("alpha", "balance", "estimator", "policy", "undersample", "oversample", "prune", "prune_rate")
"""The fields of a treatment that determine class counts."""
NUMBERS = ("alpha", "balance", "prune_rate", "entropy_weight", "temperature")
"""The fields of a treatment that are numbers."""


@dataclass(frozen=True)
class Treatment:
    """One way to treat hardness. ``Treatment()`` is the control: it changes nothing.

    Names are checked elsewhere, against their registries; numeric ranges are checked here.
    """

    alpha: float = 0.0
    """How far class counts follow hardness: 0 not at all, 1 multiplies them by the hardness ratio, more goes beyond."""
    balance: float = 0.0
    """How far class counts are evened out first: 0 starts from the data's own, 1 from equally many of each class."""
    estimator: str = "aum"
    """Whose scores define how hard a class is and which samples go first."""
    policy: str = "paper"
    """How class hardness becomes a ratio of class sizes."""
    undersample: str = "easiest"
    """Which samples a class loses that shrinks, such as an easy one."""
    oversample: str = "random"
    """What a class gains that grows, such as a hard one."""

    prune: str = "none"
    """Remove a fraction first: ``none``, the easiest samples (``dataset`` or ``class``; HBR), the ``hardest``,
    ``random`` ones, or such that easy classes lose more (``quotas``)."""
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
                object.__setattr__(self, field.name, float(value) + 0.0)  # JSON tells -0.0, which is equal, from 0.0
        if self.prune_rate >= 1:
            raise InputError(f"prune_rate must be below 1, got {self.prune_rate:g}")
        if self.balance > 1:
            raise InputError(f"balance must be at most 1, got {self.balance:g}")
        if self.temperature == 0:
            raise InputError("temperature must be above 0")

    def canonical(self) -> Treatment:
        """The same treatment with every field that has no effect set to its default.

        Treatments with equal canonical forms are the same and are trained once.

        >>> Treatment(alpha=0, estimator="forgetting", oversample="smote").canonical() == Treatment()
        True
        """
        changes: dict[str, object] = {}
        if not self.prunes:
            changes |= _defaults("prune", "prune_rate")
        if not self.resamples:
            changes |= _defaults("alpha", "balance", "policy", "undersample", "oversample")
        elif self.alpha == 0:
            changes |= _defaults("policy")
        if not self.needs_scores:
            changes |= _defaults("estimator")
        if self.entropy_weight == 0:
            changes |= _defaults("entropy_estimator", "entropy_target", "entropy_scale", "temperature")
        elif self.entropy_target == "constant":
            changes |= _defaults("entropy_estimator", "entropy_scale", "temperature")
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def resampling(self) -> Treatment:
        """The same treatment, canonical, without its loss and entropy term, which move no class counts.

        >>> print(Treatment(alpha=1.5, loss="focal", entropy_weight=0.3).resampling())
        aum α=1.5 easiest/random
        """
        return Treatment(**{name: getattr(self, name) for name in RESAMPLING}).canonical()

    def trained(self) -> Treatment:
        """The treatment whose networks it uses: ``posthoc`` changes predictions, not training.

        >>> Treatment(alpha=1.0, undersample="posthoc", oversample="posthoc").trained() == Treatment()
        True
        """
        changes = {name: "none" for name in ("undersample", "oversample") if getattr(self, name) == "posthoc"}
        return dataclasses.replace(self, **changes).canonical()  # type: ignore[arg-type]

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
            by = "" if it.prune == "random" else f"{it.estimator} "
            parts.append(f"{by}prune {it.prune} {100 * it.prune_rate:.3g}%")
        if it.resamples:
            words = [it.estimator] if it.needs_scores else []
            words += [f"balance={it.balance:.3g}"] if it.balance else []
            words += [f"α={it.alpha:.3g}"] if it.alpha else []
            words += [it.policy] if it.policy != "paper" else []
            parts.append(" ".join([*words, f"{it.undersample}/{it.oversample}"]))
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

    def described(self) -> dict[str, str | float]:
        """Its fields by name, as what is stored is named by them: without those that earlier versions did not have."""
        fields = dataclasses.asdict(self)
        if not self.balance:
            del fields["balance"]
        return fields

    @property
    def prunes(self) -> bool:
        """Whether it removes samples first."""
        return self.prune != "none" and self.prune_rate > 0

    @property
    def resamples(self) -> bool:
        """Whether it moves class counts."""
        return (self.alpha > 0 or self.balance > 0) and (self.undersample, self.oversample) != ("none", "none")

    @property
    def needs_scores(self) -> bool:
        """Whether its ``estimator`` decides anything: how hard classes are, or which samples go or are repeated."""
        blind = BLIND.issuperset((self.undersample, self.oversample))
        pruned_by_scores = self.prunes and self.prune != "random"
        return pruned_by_scores or (self.resamples and (self.alpha > 0 or not blind))

    @property
    def is_control(self) -> bool:
        """Whether this treatment changes nothing."""
        return self.canonical() == Treatment()


def _defaults(*names: str) -> dict[str, object]:
    fields = {field.name: field.default for field in dataclasses.fields(Treatment)}
    return {name: fields[name] for name in names}
