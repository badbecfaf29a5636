"""What a sweep is, as its author writes it down."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardtune.errors import InputError
from hardtune.recipe import Recipe

Space = Mapping[str, Any] | Callable[[Any], dict[str, Any] | None]

THREE_OBJECTIVES: Mapping[str, str] = {"final/recall_gap": "min", "final/accuracy": "max", "final/ece": "min"}
"""Fairness across classes, accuracy and calibration: members' means on held-out training samples."""


@dataclass(frozen=True)
class Sweep:
    """One question about one data set: a recipe for all trials, and a space of treatments.

    ``space`` maps fields of ``Treatment`` to ``ray.tune`` search spaces or fixed values; a function of an Optuna
    trial (define-by-run) works too, for spaces with conditions.
    """

    name: str
    data: str
    """A registered data set, or the path of an image folder."""
    recipe: Recipe
    space: Space
    pool: str | None = None
    """Synthetic images for the oversamplers ``pool_*``: a folder with a sub-folder for each class, or an .npz file."""
    objectives: Mapping[str, str] = field(default_factory=lambda: dict(THREE_OBJECTIVES))
    """Metric names to ``min`` or ``max``."""
    no_worse_than_control: tuple[str, ...] = ()
    """Metrics in which a trial must not fall behind the control to count as feasible."""
    trials: int = 24
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None
    """Fractions share a GPU; None means one GPU a trial where the cluster has any, and none where it has not."""

    def __post_init__(self) -> None:
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise InputError(f"trials must be a whole number of at least 1, got {self.trials!r}")
        if not self.cpus_per_trial > 0:
            raise InputError(f"cpus_per_trial must be above 0, got {self.cpus_per_trial!r}")
        if self.gpus_per_trial is not None and self.gpus_per_trial < 0:
            raise InputError(f"gpus_per_trial must be at least 0, got {self.gpus_per_trial!r}")
        if not self.objectives:
            raise InputError("a sweep needs at least one objective")
        for name, direction in self.objectives.items():
            if direction not in ("min", "max"):
                raise InputError(f"the direction of objective {name!r} must be min or max, got {direction!r}")

    def smoke(self) -> Sweep:
        """The same sweep at its smallest: every code path, in a minute.

        Networks of one epoch give every class a mean AUM below zero, for which the paper's ratio is not defined; so
        the policy is ``shift``.
        """
        recipe = dataclasses.replace(
            self.recipe, epochs=1, members=2, scoring_members=2, batch_size=32, encoder="pixels"
        )
        space, policy = self.space, {"policy": "shift"}
        small: Space = (lambda trial: {**(space(trial) or {}), **policy}) if callable(space) else {**space, **policy}
        return dataclasses.replace(self, name=f"{self.name}-smoke", recipe=recipe, space=small, trials=4)


@dataclass(frozen=True)
class Place:
    """Where a sweep runs and leaves its results."""

    storage: Path = Path("hardtune-results")
    tracking_uri: str | None = None
    """None for a database in ``storage``."""
    address: str | None = None
    """Of a running Ray cluster; None starts one on this machine."""
    data_dir: Path | None = None
    concurrent: int | None = None
    """Trials at once; None for as many as the cluster holds now (an autoscaled one may hold more later)."""
    resume: bool = False
    subset: bool = False
    """Use a few samples of a few classes only."""
