"""Checks on search spaces before the search: their names, their ranges, and the treatments at their corners.

And after it: whether the best treatment is at an end of a range.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import math
import random
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import optuna
from ray.tune.search.optuna import OptunaSearch
from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Quantized, Uniform

from hardtune.errors import InputError, blamed, unknown
from hardtune.needs import named_in
from hardtune.sweep.definition import Space
from hardtune.treatment import Treatment

# Silences only the library's own warnings about spaces with ranges, which are intended here.
logging.getLogger("ray.tune.search.optuna.optuna_search").setLevel(logging.ERROR)

ASKED = 256
"""How many random treatments a define-by-run function is asked for."""
AT_END = 0.05
"""How near an end a value is at it, as a share of the range's width."""
MAX_CORNERS = 4096
"""A larger space is checked at this many corners, drawn with a fixed seed, and its treatments are not counted."""


def corners(space: Space) -> list[Treatment]:
    """The different treatments at the space's corners: every choice, both ends of every range.

    What is feasible at all corners is feasible in between, since class counts change monotonically with alpha. (With
    balance they do not if alpha is above 1; the search proposes nothing infeasible.) A define-by-run
    function is asked for ``ASKED`` random treatments instead, and a list is returned as it is.

    Raises:
        InputError: a name that is no field of ``Treatment``, a value out of range, a ``grid_search``.
    """
    if isinstance(space, Sequence):
        treatments = list(space)
    else:
        treatments = [treatment_of(point) for point in (_sampled(space) if callable(space) else _grid(space))]
    for treatment in treatments:
        for registry, name in named_in(treatment):
            registry[name]  # also in fields that are not used
    return list(dict.fromkeys(treatment.canonical() for treatment in treatments))


def count(space: Space) -> int | None:
    """How many treatments a search can try besides the control before it must repeat one.

    None if there are infinitely many, as in a range, or too many to count; for a function; and for a list, whose
    treatments are tried once each.
    """
    if callable(space) or isinstance(space, Sequence):
        return None
    values = {name: _values(value) for name, value in space.items()}
    if math.prod(len(each) if each else math.inf for each in values.values()) > MAX_CORNERS:
        return None
    points = (dict(zip(values, point, strict=True)) for point in itertools.product(*values.values()))
    return len({treatment_of(point).canonical() for point in points} - {Treatment()})


def placed(space: Space, treatment: Treatment) -> dict[str, Any]:
    """What a search suggests where it proposes this treatment, by field.

    Raises:
        InputError: it never does.
    """
    trial = optuna.trial.FixedTrial(dataclasses.asdict(treatment))
    missing = f"first has {str(treatment)!r}, which the space does not have"
    with warnings.catch_warnings(), blamed(missing):
        warnings.filterwarnings("error", "The value .* is out of the range")  # Optuna's
        if callable(space):
            fixed = space(trial)
        else:
            assert isinstance(space, Mapping)  # of a list, nothing comes first
            fixed = {name: value for name, value in space.items() if not isinstance(value, Domain)}
            searched = {name: value for name, value in space.items() if isinstance(value, Domain)}
            for name, distribution in OptunaSearch.convert_search_space(searched).items():
                trial._suggest(name, distribution)
    there = treatment_of(point_of(trial.params, fixed))
    if there.canonical() != treatment.canonical():
        raise InputError(f"{missing}: with these values it has {str(there)!r}")
    return dict(trial.params)


def without_effect(space: Space) -> list[str]:
    """The fields that a space searches in vain, such as ``estimator`` where nothing is pruned or resampled."""
    if not isinstance(space, Mapping):
        return []
    searched = [name for name, value in space.items() if len({*_ends(name, value)}) > 1]
    treatments = corners(space)
    return [name for name in searched if len({getattr(treatment, name) for treatment in treatments}) == 1]


def at_an_end(space: Space, best: Treatment) -> list[str]:
    """A sentence for each range at an end of which the best treatment lies, where one beyond it would be another.

    Of a function's ranges nothing is known.
    """
    said = []
    for name, value in space.items() if isinstance(space, Mapping) else ():
        if not isinstance(value, (Float, Integer)):
            continue
        (low, high), chosen = _ends(name, value), getattr(best, name)
        if low == high or not low <= chosen <= high:  # the control's may lie outside
            continue
        sampler = value.get_sampler()
        logarithmic = isinstance(sampler.sampler if isinstance(sampler, Quantized) else sampler, LogUniform)
        to, back = (math.log, math.exp) if logarithmic else (float, float)
        near = AT_END * (to(high) - to(low))
        steps = ((low, -1), (low, -0.01), (high, 1), (high, 0.01))  # a field's own limit may be closer than one
        beyond = [(end, back(to(end) + near * step)) for end, step in steps]
        if any(abs(to(chosen) - to(end)) <= near and _differs(best, name, other) for end, other in beyond):
            said.append(
                f"the best {name}, {chosen:.3g}, is near an end of its range ({low:g} to {high:g}): "
                "a wider one may have a better"
            )
    return said


def _differs(treatment: Treatment, name: str, value: float) -> bool:
    """Whether a field may have this value, and the treatment is another then."""
    try:
        other = dataclasses.replace(treatment, **{name: value})  # type: ignore[arg-type]
    except InputError:
        return False
    return other.canonical() != treatment.canonical()


def proposer(space: Space) -> Any:
    """The space in the form that the search takes: a list becomes a function that returns treatment i for trial i."""
    if isinstance(space, Sequence):
        return functools.partial(_hand_out, tuple(space))  # Tune pickles it
    return space if callable(space) else dict(space)


def _hand_out(treatments: Sequence[Treatment], trial: Any) -> dict[str, Any]:
    return dataclasses.asdict(treatments[trial.number])


def point_of(suggested: Mapping[str, Any], fixed: Mapping[str, Any] | None) -> dict[str, Any]:
    """A point of the space: a trial's suggested values, overridden by those that the space fixes."""
    return {**suggested, **(fixed or {})}


def treatment_of(point: Mapping[str, Any]) -> Treatment:
    """The treatment at a point of the space."""
    fields = [field.name for field in dataclasses.fields(Treatment)]
    for name in point:
        if name not in fields:
            raise unknown("field of a treatment", name, fields)
    return Treatment(**point)


def numbered(config: Mapping[str, Any]) -> tuple[int, Treatment]:
    """A trial's number, and its treatment, from what Tune hands it: a point of the space, and the ``number``."""
    point = dict(config)
    return point.pop("number"), treatment_of(point)


def _grid(space: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    ends = {name: _ends(name, value) for name, value in space.items()}
    if not any(isinstance(value, Domain) for value in space.values()):
        raise InputError("the space has nothing to search: give at least one field a tune.choice or a range")
    with blamed("Optuna cannot search this space"):
        OptunaSearch.convert_search_space({name: value for name, value in space.items() if isinstance(value, Domain)})
    count = math.prod(len(values) for values in ends.values())
    if count <= MAX_CORNERS:
        return (dict(zip(ends, values, strict=True)) for values in itertools.product(*ends.values()))
    draw = random.Random(0)
    return [{name: draw.choice(values) for name, values in ends.items()} for _ in range(MAX_CORNERS)]


def _ends(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, Categorical):
        if not value.categories:
            raise InputError(f"{name} is a choice among nothing")
        return list(value.categories)
    if isinstance(value, (Float, Integer)):
        if not (math.isfinite(value.lower) and math.isfinite(value.upper)):
            raise InputError(f"{name} is a range without ends, which Optuna cannot propose: use tune.uniform")
        whole = isinstance(value, Integer) and not isinstance(value.get_sampler(), Quantized)
        if value.upper - whole < value.lower:
            raise InputError(f"{name} is a range from {value.lower:g} up to {value.upper:g}, which holds nothing")
        return [value.lower, value.upper - whole]  # integer ranges exclude their upper end
    if isinstance(value, dict) and "grid_search" in value:
        raise InputError(
            f"{name} is a grid_search, which Optuna cannot propose: use tune.choice, or a list of Treatments, to try "
            "each"
        )
    if isinstance(value, Domain):
        raise InputError(f"{name} is a {type(value).__name__}, which Optuna cannot propose: use tune.choice or a range")
    return [value]


def _values(value: Any) -> Sequence[Any]:
    """All values that Optuna may propose for a field; empty if there are infinitely or very many."""
    if isinstance(value, Categorical):
        return list(value.categories)
    if not isinstance(value, (Float, Integer)):
        return [value]
    sampler = value.get_sampler()
    stepped = isinstance(sampler, Quantized)
    if isinstance(value, Float) and not (stepped and isinstance(sampler.sampler, Uniform)):
        return []  # Optuna has no steps on a logarithmic scale
    step = sampler.q if stepped else 1
    last = value.upper if stepped else value.upper - 1
    steps = math.floor((last - value.lower) / step + 1e-9)
    return [value.lower + number * step for number in range(steps + 1)] if steps < MAX_CORNERS else []


def _sampled(space: Any) -> list[dict[str, Any]]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = []
    for _ in range(ASKED):
        trial = study.ask()
        with blamed("the space function fails"):
            fixed = space(trial)
        if not isinstance(fixed, Mapping | None):
            raise InputError(f"a space function returns fields of a treatment, as a dict, or None, and got {fixed!r}")
        points.append(point_of(trial.params, fixed))
    return points
