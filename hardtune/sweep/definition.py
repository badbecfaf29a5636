"""The definition of a sweep, as its author writes it."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune.search.sample import Categorical

from hardtune.data import DATASETS
from hardtune.data.harder import check_harder
from hardtune.errors import InputError
from hardtune.numeric import is_number, whole
from hardtune.recipe import Recipe
from hardtune.report.comparison import Comparison
from hardtune.report.sweeps import Kept
from hardtune.treatment import Treatment

Space = Mapping[str, Any] | Callable[[Any], dict[str, Any] | None] | Sequence[Treatment]

THREE_OBJECTIVES: Mapping[str, str] = {"final/recall_gap": "min", "final/accuracy": "max", "final/ece": "min"}
"""Fairness across classes, accuracy and calibration: members' means on held-out training samples."""


@dataclass(frozen=True)
class Sweep:
    """One question about one data set: a recipe for all trials, and a space of treatments.

    ``space`` maps fields of ``Treatment`` to ``ray.tune`` search spaces or fixed values; a function of an Optuna
    trial (define-by-run) works too, for spaces with conditions: every name that it suggests or returns must be a field
    of ``Treatment``, so conditions depend on these. With a list of treatments there is no search: each is
    tried once, in order, and they are compared.
    """

    name: str
    data: str
    """A registered data set, or the path of an image folder."""
    recipe: Recipe
    space: Space
    image_size: int | None = None
    """Side length in pixels to which a folder's images are resized; without it, all must have the same size."""
    imbalance: float = 1.0
    """Above 1, the training data get a long tail: see :func:`hardtune.data.long_tailed`."""
    label_noise: float = 0.0
    """Share of the training data, held-out samples included, that get a random wrong label: see
    :func:`hardtune.data.with_label_noise`."""
    pool: str | None = None
    """Synthetic images for the oversamplers ``pool_*``: a folder with a sub-folder for each class, or an .npz file."""
    objectives: Mapping[str, str] = field(default_factory=lambda: dict(THREE_OBJECTIVES))
    """Metric names to ``min`` or ``max``."""
    no_worse_than_control: Sequence[str] | Mapping[str, float] = ()
    """Metrics in which a trial must not be worse than the control to be on the front; a mapping says by how much it may
    be, ``{"final/accuracy": 0.005}``, since half of all treatments without any effect are worse by chance."""
    ood: str | None = None
    """Images to detect as out-of-distribution: ``inverted``, ``rotated``, a data set or a folder of images (see
    ``hardtune.data.load_ood``). Costs each network a pass over the training, test and OOD images, and gives
    ``ood/…``: AUROC, AUPR and FPR95 of four scores."""
    corruptions: Sequence[str] = ()
    """Kinds of corruption applied to the test images (``all`` for the 15 of CIFAR-10-C), for ``corruptions/accuracy``
    and ``corruptions/ece``. For each kind and severity, every network generates the images (all 75 sets of 10,000:
    about 25 CPU-seconds for 28 x 28 greyscale, four times that for 32 x 32 colour) and makes a pass over them; they
    take no space in the store."""
    severities: Sequence[int] = (1, 2, 3, 4, 5)
    comparisons: Sequence[Comparison] = ()
    """What is compared with what, with paired confidence intervals. The default for a list of treatments is all of
    them against the control."""
    racing: float = 0.0
    """The expected relative gain in the front's hypervolume that makes a whole ensemble worth training, say 0.01. After
    each trained member, a trial is stopped if its remaining members are not expected to gain their share of that (see
    ``hardtune.evaluation.racing``). 0 trains every ensemble whole. Only for searches whose objectives are all means
    over members (``final/…``), at least 0 (``min``) or at most 1 (``max``). Members already in training are finished
    (``members_at_once``)."""
    first: Sequence[Treatment] = ()
    """Treatments in the space that a search tries before it proposes any: a paper's, say, or the best known so far."""
    trials: int = 24
    """Treatments to try besides the control; a list is tried in full."""
    cpus_per_trial: float = 1
    gpus_per_trial: float | None = None
    """Fractions share a GPU; None means one GPU per trial if the cluster has any, else none."""
    members_at_once: int | None = None
    """Members of a trial that train in parallel on its GPU, which one network cannot fill. None means four if a trial
    has a GPU to itself (eight if compiled, or two if it may be stopped between members: ``racing``), else one."""

    def __post_init__(self) -> None:
        if not isinstance(self.recipe, Recipe):
            raise InputError(f"recipe must be a Recipe, got {self.recipe!r}")
        for name in ("name", "data", "pool", "ood"):
            value = getattr(self, name)
            if isinstance(value, os.PathLike) and name != "name":
                value = os.fspath(value)
                object.__setattr__(self, name, value)
            if not isinstance(value, str) and (name in ("name", "data") or value is not None):
                raise InputError(f"{name} must be a name or a path, got {type(value).__name__}")
        if isinstance(self.space, str) or not (isinstance(self.space, (Mapping, Sequence)) or callable(self.space)):
            raise InputError(
                "space maps fields of Treatment to search spaces or values, or is a function of an Optuna trial or a "
                f"list of Treatments, got {self.space!r}"
            )
        for name in ("no_worse_than_control", "corruptions", "severities", "comparisons", "first"):
            several = getattr(self, name)
            if name == "no_worse_than_control" and isinstance(several, Mapping):
                continue
            if isinstance(several, str) or not isinstance(several, Sequence):
                raise InputError(f"{name} must be a list, got {several!r}")
        for comparison in self.comparisons:
            if not isinstance(comparison, Comparison):
                raise InputError(f"comparisons has Comparisons in it, got {comparison!r}")
        for treatment in self.first:
            if not isinstance(treatment, Treatment) or treatment.is_control:
                raise InputError(f"first has Treatments in it that change something, got {str(treatment)!r}")
        if self.first and isinstance(self.space, Sequence):
            raise InputError("first is for searches: a list of treatments is tried in its own order")
        for name, tolerance in self.tolerances.items():
            if not is_number(tolerance) or not 0 <= tolerance < math.inf:
                raise InputError(
                    f"how much worse {name} may be than the control's must be a number of at least 0, got {tolerance!r}"
                )
        if self.treatments is not None:
            if not self.treatments:
                raise InputError("the list of treatments is empty")
            for treatment in self.treatments:
                if not isinstance(treatment, Treatment):
                    raise InputError(f"a list of treatments has Treatments in it, got {treatment!r}")
            if all(treatment.is_control for treatment in self.treatments):
                raise InputError("the list of treatments has none that changes anything; the control is tried anyway")
            object.__setattr__(self, "trials", len(self.treatments))
        # The name becomes part of a folder's path, a database's URL and a figure's title.
        unfit = (
            not self.name.isprintable()
            or set(self.name) & set("/\\'\"`?{}$")
            or re.search("%[0-9A-Fa-f]{2}", self.name)
        )
        if not self.name or self.name.startswith(".") or unfit or len(self.name.encode()) > 200:
            raise InputError(
                "a sweep's name is that of a folder, without slashes, quotes and any of ? { } $, or a code like %20, "
                f"and of at most 200 bytes, got {self.name!r}"
            )
        for name in ("trials", "members_at_once", "image_size"):
            count = getattr(self, name)
            if name == "trials" or count is not None:
                object.__setattr__(self, name, whole(count, name))
        check_harder(self.imbalance, self.label_noise)
        for name in ("imbalance", "label_noise"):  # numpy's numbers are no JSON
            object.__setattr__(self, name, float(getattr(self, name)))
        cpus = self.cpus_per_trial
        if not is_number(cpus) or not 0 < cpus < math.inf:
            raise InputError(f"cpus_per_trial must be a number above 0, got {cpus!r}")
        gpus = 0 if self.gpus_per_trial is None else self.gpus_per_trial
        if not is_number(gpus) or not 0 <= gpus < math.inf or (gpus > 1 and gpus % 1):  # as Ray has it
            raise InputError(f"gpus_per_trial must be a share of a GPU or a whole number of them, got {gpus!r}")
        if not isinstance(self.objectives, Mapping):
            raise InputError(
                f"objectives map metrics to min or max, as {{'final/ece': 'min'}}, got {self.objectives!r}"
            )
        if not self.objectives:
            raise InputError("a sweep needs at least one objective")
        for name, direction in self.objectives.items():
            if direction not in ("min", "max"):
                raise InputError(f"the direction of objective {name!r} must be min or max, got {direction!r}")
        self._check_racing()

    def _check_racing(self) -> None:
        price = self.racing
        if isinstance(price, bool) or not isinstance(price, (int, float)) or not 0 <= price <= 0.1:
            raise InputError(
                "racing is the share of the front's hypervolume that an ensemble is expected to add to be worth "
                f"training, 0 (nothing is stopped) to 0.1 (say 0.01), got {price!r}"
            )
        if not price:
            return
        if self.treatments is not None:
            raise InputError("racing is for searches: each treatment of a list is compared over its whole ensemble")
        unraced = [name for name in self.objectives if not name.startswith("final/")]
        if unraced:
            raise InputError(
                f"racing needs objectives that are means over members (final/…), and {' and '.join(unraced)} "
                f"{'is' if len(unraced) == 1 else 'are'} not"
            )
        if self.recipe.members < 2:
            raise InputError(f"racing needs recipe.members to be at least 2, got {self.recipe.members}")

    @property
    def tolerances(self) -> Mapping[str, float]:
        """How much worse than the control a trial may be to be on the front, by metric."""
        limits = self.no_worse_than_control
        return limits if isinstance(limits, Mapping) else dict.fromkeys(limits, 0.0)

    @property
    def treatments(self) -> Sequence[Treatment] | None:
        """The list of treatments that is tried, or None for a search."""
        return self.space if isinstance(self.space, Sequence) else None

    @property
    def compared(self) -> Sequence[Comparison]:
        """``comparisons``, or their default."""
        if self.treatments is not None and not self.comparisons:
            return (Comparison(tuple(self.treatments)),)
        return self.comparisons

    def on(self, data: str | None, imbalance: float | None = None, label_noise: float | None = None) -> Sweep:
        """The same sweep on other data, with their name added to its own, so that nobody confuses the results.

        What is None stays as it is.
        """
        changed = self
        if data is not None and data != self.data:
            # A registered data set has its own image size.
            size = None if data in DATASETS else self.image_size
            changed = dataclasses.replace(self, name=f"{self.name}-{data_name(data)}", data=data, image_size=size)
        for name, value in (("imbalance", imbalance), ("label_noise", label_noise)):
            if value is not None and value != getattr(self, name):
                told = f"{changed.name}-{name.replace('_', '-')}-{value:g}"
                changes: dict[str, Any] = {"name": told, name: value}
                changed = dataclasses.replace(changed, **changes)
        return changed

    def smoke(self) -> Sweep:
        """The same sweep at its smallest: 4 trials, or all of a list, of 2 networks and 1 epoch.

        After one epoch every class has a mean AUM below zero, for which policy ``paper`` has no ratio, so ``shift``
        replaces it. A long tail ends at a quarter, since few samples leave nothing of a longer one. Racing is off, so
        that every trial runs to its end.
        """
        recipe = dataclasses.replace(
            self.recipe, epochs=1, members=2, scoring_members=2, batch_size=32, encoder="pixels"
        )
        return dataclasses.replace(
            self,
            name=f"{self.name}-smoke",
            imbalance=min(self.imbalance, 4.0),
            recipe=recipe,
            space=_shifted(self.space),
            first=tuple(map(_shift, self.first)),
            severities=self.severities[-1:],
            comparisons=[
                dataclasses.replace(c, reference=_shift(c.reference), treatments=tuple(map(_shift, c.treatments)))
                for c in self.comparisons
            ],
            racing=0.0,
            trials=4,
        )


def data_name(data: str) -> str:
    """The data's part of a sweep's name: a data set's name, or a folder's without characters that a name cannot have.

    >>> data_name("cifar10"), data_name("/images/bob's birds/")
    ('cifar10', 'bob-s-birds')
    """
    return data if data in DATASETS else re.sub(r"[^\w.-]+", "-", Path(data).expanduser().resolve().name)


@dataclass(frozen=True)
class Place:
    """Where a sweep runs and leaves its results."""

    storage: Path = Path("hardtune-results")
    tracking_uri: str | None = None
    """None for a database in ``storage``."""
    study_storage: str | None = None
    """The SQLAlchemy URL of a database for Optuna's study; None for a file in the sweep's folder."""
    address: str | None = None
    """The address of a running Ray cluster; None starts one on this machine."""
    data_dir: Path | None = None
    concurrent: int | None = None
    """Trials at once; None for as many as fit the cluster now (an autoscaled one may grow later)."""
    resume: bool = False
    data_of: Kept | None = None
    """An earlier sweep that must have used the same data."""
    subset: bool = False
    """Use a few samples of a few classes only."""

    def __post_init__(self) -> None:
        if self.concurrent is not None:
            object.__setattr__(self, "concurrent", whole(self.concurrent, "--concurrent"))


def _shifted(space: Space) -> Space:
    if isinstance(space, Sequence):
        return [_shift(treatment) for treatment in space]
    if callable(space):
        return functools.partial(_proposed_with_shift, space)  # Tune pickles it
    policy = space.get("policy", Treatment.policy)
    if isinstance(policy, Categorical):
        return {**space, "policy": Categorical(list(dict.fromkeys(map(_instead, policy.categories))))}
    return {**space, "policy": _instead(policy)}


def _instead(policy: str) -> str:
    return "shift" if policy == "paper" else policy


def _shift(treatment: Treatment) -> Treatment:
    return dataclasses.replace(treatment, policy=_instead(treatment.policy))


def _proposed_with_shift(space: Callable[[Any], dict[str, Any] | None], trial: Any) -> dict[str, Any]:
    fixed = space(trial) or {}
    return {**fixed, "policy": _instead({"policy": Treatment.policy, **trial.params, **fixed}["policy"])}
