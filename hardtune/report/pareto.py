"""Which trials are on the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError, blamed
from hardtune.report.records import Record


def pareto_mask(values: NDArray[np.float64], directions: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of ``values`` (T, O) no other row dominates: as good in every column and better in one.

    ``directions`` says ``"min"`` or ``"max"`` for each column. Equal rows do not dominate each other. Raises
    ``InputError`` for values that are no (T, O) of finite numbers, or other directions.

    >>> pareto_mask(np.array([[0.1, 0.9], [0.2, 0.95], [0.2, 0.9]]), ["min", "max"]).tolist()
    [True, True, False]
    """
    import moocore

    with blamed("a front needs an array of numbers (T, O)"):
        values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"a front needs an array of numbers (T, O) of at least 1 objective, got {values.shape}")
    if len(directions) != values.shape[1] or any(direction not in ("min", "max") for direction in directions):
        wanted = f"directions must be 'min' or 'max' for each of {values.shape[1]} columns"
        raise InputError(f"{wanted}, got {list(directions)}")
    if not np.isfinite(values).all():  # which moocore neither refuses nor survives
        raise InputError("a front needs finite figures")
    maximise = [direction == "max" for direction in directions]
    return np.asarray(moocore.is_nondominated(values, maximise=maximise, keep_weakly=True))


def check_objective(name: str) -> None:
    """Raise ``InputError`` for a figure for which neither lower nor higher is always better."""
    if name.rpartition("/")[2] == "recall_hard_easy":
        raise InputError(
            f"{name!r} cannot be an objective: below 0 classes are as unequal as above it; recall_gap and recall_range "
            "measure how unequal they are"
        )


def front(records: Sequence[Record], objectives: Mapping[str, str]) -> list[Record]:
    """The finished records on the Pareto front, one per distinct treatment, sorted by the first objective, best first.

    A treatment that changes nothing of these data, so that its networks are the control's, is not among them. The
    control competes like any other. Stopped and failed trials cannot be on the front, nor can those worse than the
    control where the sweep forbids it. With one objective the front is the best trial.
    """
    different: dict[object, Record] = {}
    control = next((record for record in records if record.is_control), None)
    for record in records:
        idle = control is not None and not record.is_control and _figures(record) == _figures(control)
        if record.state == "finished" and record.shortfall <= 0 and not idle:
            different.setdefault(record.treatment.canonical(), record)
    finished = list(different.values())
    if not finished:
        return []
    values = np.array([[record.metrics[name] for name in objectives] for record in finished])
    kept = [record for record, on in zip(finished, pareto_mask(values, list(objectives.values())), strict=True) if on]
    first, direction = next(iter(objectives.items()))
    return sorted(kept, key=lambda record: record.metrics[first], reverse=direction == "max")


def _figures(record: Record) -> tuple[object, ...]:
    return record.metrics, record.members
