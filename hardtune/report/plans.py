"""What treatments would do to each class, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table

from hardtune.report.tables import plain_table
from hardtune.resampling.class_plan import ClassPlan
from hardtune.treatment import Treatment

MAX_ROWS = 60
MAX_REASONS = 8


@dataclass(frozen=True)
class Planned:
    """A treatment and what it would do to each class."""

    treatment: Treatment
    classes: tuple[ClassPlan, ...]
    problem: str = ""
    """Why there are no class counts, and no ``classes``, in one sentence."""

    @property
    def feasible(self) -> bool:
        return not self.why_not

    @property
    def why_not(self) -> str:
        """The first reason why it is not feasible, or an empty string."""
        return self.problem or next((row.infeasible for row in self.classes if row.infeasible is not None), "")


def plan_table(plans: Sequence[Planned], title: str) -> Table:
    """A row for each class of the first plan, the hardest first."""
    rows = plans[0].classes
    hard = any(row.hardness is not None for row in rows)
    if hard:
        rows = tuple(sorted(rows, key=lambda row: -(row.hardness or 0.0)))
    table = plain_table(title)
    columns = [("class", [row.name for row in rows])]
    if hard:
        columns.append(("hardness", ["" if row.hardness is None else f"{row.hardness:.3g}" for row in rows]))
    columns.append(("size", [str(row.size) for row in rows]))
    if any(row.pruned for row in rows):
        columns.append(("pruned", [str(-row.pruned) if row.pruned else "" for row in rows]))
    columns += [
        ("dropped", [str(-row.dropped) if row.dropped else "" for row in rows]),
        ("added", [f"+{row.added}" if row.added else "" for row in rows]),
        ("count", [str(row.count) for row in rows]),
        *([("instead", [instead(row) for row in rows])] if any(map(instead, rows)) else []),
        ("of size", [f"{row.share:.0%}" for row in rows]),
        ("from", [row.source for row in rows]),
    ]
    left = ("class", "from")
    for name, _ in columns:
        text = name in left
        table.add_column(name, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for number, row in enumerate(rows):
        table.add_row(*(values[number] for _, values in columns), style="red" if row.infeasible else "")
    table.add_section()
    sums = {
        "class": "all",
        "size": sum(row.size for row in rows),
        "pruned": -sum(row.pruned for row in rows),
        "dropped": -sum(row.dropped for row in rows),
        "added": f"+{sum(row.added for row in rows)}",
        "count": sum(row.count for row in rows),
    }
    table.add_row(*(str(sums.get(name, "")) for name, _ in columns))
    reasons = [row.infeasible for row in rows if row.infeasible is not None]
    captions = ["Hardness is the mean score of the class: higher = harder."] if hard else []
    captions += explained(plans[:1])
    captions += _shrunk([row.name for row in rows if row.at_floor])
    captions += [f"Not feasible: {reason}." for reason in reasons[:5]]
    if len(reasons) > 5:
        captions.append(f"… and {len(reasons) - 5} classes more.")
    table.caption = "\n".join(captions)
    return table


def sweep_table(plans: Sequence[Planned], title: str) -> Table:
    """A row for each different plan, those that are not feasible first.

    Under- and oversamplings with the same resulting counts share a row.
    """
    table = plain_table(title)
    table.add_column("treatment", overflow="fold", min_width=18)
    table.add_column("samples", justify="right", no_wrap=True)
    table.add_column("shrinks most", overflow="fold")
    table.add_column("grows most", overflow="fold")
    table.add_column("feasible", no_wrap=True)
    merged = merge(plans)
    merged.sort(key=lambda labelled: labelled[1].feasible)
    reasons = list(dict.fromkeys(plan.why_not for _, plan in merged[:MAX_ROWS] if not plan.feasible))
    for label, plan in merged[:MAX_ROWS]:
        samples = str(sum(row.count for row in plan.classes)) if plan.classes else ""
        shrinks, grows = _extremes(plan)
        if plan.feasible and plan.treatment.resamples and not (shrinks or grows):
            shrinks = "changes no class"
        verdict = "yes" if plan.feasible else f"no ({1 + reasons.index(plan.why_not)})"
        table.add_row(label, samples, shrinks, grows, verdict, style="" if plan.feasible else "red")
    floored = list(dict.fromkeys(row.name for _, plan in merged[:MAX_ROWS] for row in plan.classes if row.at_floor))
    captions = explained([plan for _, plan in merged[:MAX_ROWS]]) + _shrunk(floored)
    captions += [f"({number}) {reason}." for number, reason in enumerate(reasons[:MAX_REASONS], start=1)]
    if len(reasons) > MAX_REASONS:
        captions.append(f"… and {len(reasons) - MAX_REASONS} reasons more, which are in the CSV.")
    if len(merged) > MAX_ROWS:
        captions.append(f"… and {len(merged) - MAX_ROWS} plans more, which are in the CSV.")
    table.caption = "\n".join(captions)
    return table


def _shrunk(names: Sequence[str]) -> list[str]:
    """A sentence on the classes that have no more than what all keep, if there are any."""
    if not names:
        return []
    some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"Shrunk to the tenth that every class keeps, though less may be asked for: {some}."]


def merge(plans: Sequence[Planned]) -> list[tuple[str, Planned]]:
    """The different plans, each with a label of all under- and all oversamplings that result in it."""
    same: dict[object, list[Planned]] = {}
    for plan in plans:
        counts = tuple(
            (row.pruned, row.dropped, row.added, row.weight, row.offset, row.posthoc) for row in plan.classes
        )
        without = replace(plan.treatment, undersample="", oversample="")
        same.setdefault((without, counts, plan.why_not), []).append(plan)
    return [(_label(group), group[0]) for group in same.values()]


def plan_rows(plans: Sequence[Planned]) -> list[dict[str, Any]]:
    """A row for each class of each plan, and one for a plan that has a problem instead."""
    counts = ("size", "pruned", "dropped", "added", "target", "count", "weight", "offset", "posthoc")
    fields = ("hardness", *counts, "source", "infeasible")
    rows: list[dict[str, Any]] = []
    for plan in plans:
        treatment = str(plan.treatment)
        if plan.problem:
            rows.append({"treatment": treatment, "class": "", **dict.fromkeys(fields), "infeasible": plan.problem})
        for row in plan.classes:
            each = {field: getattr(row, field) for field in fields}
            rows.append({"treatment": treatment, "class": row.name, **each})
    return rows


def _label(group: Sequence[Planned]) -> str:
    treatment = group[0].treatment
    text = str(treatment)
    if not treatment.resamples:
        return text
    under = ", ".join(dict.fromkeys(plan.treatment.undersample for plan in group))
    over = ", ".join(dict.fromkeys(plan.treatment.oversample for plan in group))
    return text.removesuffix(f"{treatment.undersample}/{treatment.oversample}") + f"{under} / {over}"


def _extremes(plan: Planned) -> tuple[str, str]:
    if not plan.classes:
        return "", ""
    least, most = (pick(plan.classes, key=lambda row: row.share) for pick in (min, max))
    return _change(least) if least.share < 1 else "", _change(most) if most.share > 1 else ""


def _change(row: ClassPlan) -> str:
    there = instead(row)
    return f"{row.name}: {row.size} → {row.count}{f' ({there})' if there else ''}"


def instead(row: ClassPlan) -> str:
    """What a class gets instead of other samples, as :func:`explained` tells: ``× 1.20``, say; mostly nothing."""
    weight = f"× {row.weight:.2f}" if row.weight != 1 else ""
    offset = f"{row.offset:+.2f}" if row.offset else ""
    return " ".join(filter(None, [weight, offset, f"{row.posthoc:+.2f} post hoc" if row.posthoc else ""]))


def explained(plans: Sequence[Planned]) -> list[str]:
    """A sentence on what each class gets instead of other samples, if any does."""
    rows = [row for plan in plans for row in plan.classes]
    ways = {
        "×: the weight of its losses": any(row.weight != 1 for row in rows),
        "+ or -: the shift of its logit in the loss": any(row.offset for row in rows),
        "post hoc: its logit's shift in predictions": any(row.posthoc for row in rows),
    }
    said = "; ".join(way for way, there in ways.items() if there)
    return [f"What a class gets instead of other samples: {said}."] if said else []
