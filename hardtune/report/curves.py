"""Treatments that differ in one number alone, such as how far class counts follow hardness: what it changes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hardtune.errors import InputError
from hardtune.report.comparison import Row
from hardtune.report.records import Record, by_treatment
from hardtune.treatment import NUMBERS, Treatment

SIGNS = {"alpha": "α", "entropy_weight": "λ", "temperature": "T"}
_SHOWN = {
    "alpha": r"α=\S+",
    "balance": r"balance=\S+",
    "prune_rate": r"[\d.e-]+%",
    "entropy_weight": r"λ=\S+",
    "temperature": r"T=\S+",
}
"""How a treatment's description shows the number."""


@dataclass(frozen=True)
class Curve:
    """Treatments that differ in one number alone."""

    common: str
    """What they have in common, as their descriptions show it."""
    trials: Mapping[float, Record]
    """By that number, from low to high. The control is among them if it is what the treatment comes to at 0."""


def curves(records: Sequence[Record], field: str) -> list[Curve]:
    """The curves against one of the :data:`~hardtune.treatment.NUMBERS`, of at least two finished treatments each.

    A treatment for which other fields have no effect at 0, a policy at alpha = 0 say, is on the curves of all of them.

    Raises:
        InputError: no two treatments differ in that field alone.
    """
    found = _curves(records, field)
    if not found:
        others = [name for name in NUMBERS if _curves(records, name)]
        instead = (
            f": choose from {', '.join(others)}"
            if others
            else ", nor in another number, as a search's seldom do: try a list of treatments"
        )
        raise InputError(f"no two finished trials differ in {field} alone{instead}")
    return found


def _curves(records: Sequence[Record], field: str) -> list[Curve]:
    found = by_treatment(records)
    alike: dict[Treatment, dict[float, Record]] = {}
    for treatment, record in found.items():
        rest = _at(treatment, field, getattr(Treatment, field))
        alike.setdefault(rest, {})[getattr(treatment, field)] = record
    made = []
    for trials in alike.values():
        others = [record for record in trials.values() if not record.is_control]
        if others and field != "temperature":  # which has no 0
            without = _at(others[-1].treatment, field, 0.0).canonical()
            if without in found:
                trials.setdefault(0.0, found[without])
        if sum(not record.is_control for record in trials.values()) > 1:
            made.append(Curve(_common(others[-1].treatment, field), dict(sorted(trials.items()))))
    return made


def _at(treatment: Treatment, field: str, value: float) -> Treatment:
    changes: dict[str, Any] = {field: value}
    return dataclasses.replace(treatment, **changes)


def _common(treatment: Treatment, field: str) -> str:
    shown = re.sub(rf" ?{_SHOWN[field]}", "", str(treatment), count=1)
    return re.sub(r"(?<!\S) +", "", shown).replace(" ,", ",").strip(" ,")


def curve_rows(found: Sequence[Curve], field: str, compared: Sequence[Row]) -> list[Row]:
    """The rows of a comparison, by metric, curve (counted from 1) and number; of trials on several curves, in each.

    ``compared``: of :func:`~hardtune.report.comparison.compared`. The trial that it compares with has no rows.
    """
    by_trial = {(row["metric"], row["trial"]): row for row in compared}
    return [
        {"curve": place, "common": curve.common, field: value, **by_trial[metric, record.number]}
        for metric in dict.fromkeys(row["metric"] for row in compared)
        for place, curve in enumerate(found, 1)
        for value, record in curve.trials.items()
        if (metric, record.number) in by_trial
    ]


def each_once(rows: Sequence[Row]) -> list[Row]:
    """The rows for a table, in which a trial that is on several curves has one line."""
    first: dict[tuple[str, int], Row] = {}
    for row in rows:
        first.setdefault((row["metric"], row["trial"]), row)
    return list(first.values())
