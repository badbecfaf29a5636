"""The Pareto figure: every trial, the front among them, and the control."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hardtune.report.drawing import save
from hardtune.report.metric_names import HELD_OUT, label, on_test
from hardtune.report.records import Record

PANELS_A_ROW = 3
TRIAL = "trial"
"""What an axis shows for lack of anything else: the number of each trial."""


def pareto_figure(
    records: Sequence[Record],
    front: Sequence[Record],
    objectives: Mapping[str, str],
    title: str,
    path: Path,
    note: str = "",
    *,
    held_out: bool = True,
) -> None:
    """Draw a panel for every pair of objectives and write it to ``path`` (.png, .pdf or .svg).

    The front and the control have error bars, the standard error over their members, to show what is noise.
    A single objective is plotted against the one number that the treatments vary, an entropy weight say (the control,
    which has no temperature, is a line there, and its error a band); if they vary more, against its counterpart on the
    test split or, if it has none, the trials' numbers. ``note`` is a sentence that readers must see; ``held_out``:
    whether objectives that are for held-out samples are of such, or of the test split for want of any.
    """
    from matplotlib.figure import Figure

    finished = [record for record in records if record.state == "finished"]
    names = list(objectives)
    pairs = list(itertools.combinations(names, 2))
    pairs = pairs or [(_varied_number(finished) or on_test(names[0]) or TRIAL, names[0])]
    wide, deep = min(len(pairs), PANELS_A_ROW), -(-len(pairs) // PANELS_A_ROW)
    figure = Figure(figsize=(4.6 * wide + 0.6, 4.6 * deep), layout="constrained")
    figure.suptitle("\n".join(filter(None, [title, note])))
    on_front, barred, banded = {record.number for record in front}, False, False
    for panel, (x, y) in enumerate(pairs):
        axes = figure.add_subplot(deep, wide, panel + 1)
        worse = [r for r in finished if r.shortfall > 0 and not r.is_control]
        plain = [r for r in finished if r.number not in on_front and r.shortfall <= 0 and not r.is_control]
        best = [r for r in finished if r.number in on_front and not r.is_control]
        control = [r for r in finished if r.is_control]
        if x == "temperature":
            for record in control:
                level, error = _value(record, y), _standard_error(record, y)
                axes.axhline(level, color="#d9480f", linewidth=1, label="control", zorder=2)
                if error is not None:
                    axes.axhspan(level - error, level + error, color="#d9480f", alpha=0.12, linewidth=0, zorder=1)
                    banded = True
            control = []
        styles: tuple[tuple[list[Record], dict[str, Any]], ...] = (
            (plain, {"marker": "o", "s": 26, "c": "#b9c0c8", "label": "dominated" if len(names) > 1 else "trials"}),
            (worse, {"marker": "x", "s": 26, "c": "#b9c0c8", "label": "worse than the control\nwhere it must not be"}),
            (
                best,
                {
                    "marker": "o",
                    "s": 52,
                    "c": "#0b6e99",
                    "edgecolors": "white",
                    "label": "Pareto front" if len(names) > 1 else "best",
                },
            ),
            (control, {"marker": "*", "s": 190, "c": "#d9480f", "edgecolors": "white", "label": "control"}),
        )
        for group, style in styles:
            if group:
                axes.scatter([_value(r, x) for r in group], [_value(r, y) for r in group], zorder=3, **style)
        for record in best + control:
            spread = [_standard_error(record, name) for name in (x, y)]
            position = (_value(record, x), _value(record, y))
            barred |= spread != [None, None]
            axes.errorbar(*position, xerr=spread[0], yerr=spread[1], color="#8a949e", linewidth=0.8, zorder=2)
        for record in best:
            axes.annotate(
                str(record.number),
                (_value(record, x), _value(record, y)),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=7,
                color="#0b6e99",
                zorder=4,
            )
        axes.set_xlabel(_axis(x, objectives, held_out))
        axes.set_ylabel(_axis(y, objectives, held_out))
        axes.locator_params(axis="x", nbins=5, integer=x == TRIAL)  # else as many as fit if they have three digits
        axes.grid(color="#eceff1", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        if panel == 0:
            axes.legend(frameon=False, fontsize=8)
    errors = " and ".join(["bars"] * barred + ["band"] * banded)
    if errors:
        data = "held-out" if held_out else "test"
        said = f"{errors}: ± one standard error over members,\nwhich does not cover the choice of {data} images"
        figure.supxlabel(said, fontsize=7, color="#6b747c")
    save(figure, path, dpi=150)


def _varied_number(records: Sequence[Record]) -> str | None:
    """The one field of the treatments that varies, if it is a number."""
    treatments = [dataclasses.asdict(record.treatment) for record in records if not record.is_control]
    varied = [name for name in treatments[0] if len({t[name] for t in treatments}) > 1] if treatments else []
    return varied[0] if len(varied) == 1 and isinstance(treatments[0][varied[0]], float) else None


def _value(record: Record, name: str) -> float:
    if name == TRIAL:
        return record.number
    return record.metrics[name] if "/" in name else getattr(record.treatment, name)


def _standard_error(record: Record, name: str) -> float | None:
    """Standard error of a mean over members; None for other figures."""
    figures = record.members.get(name, ())
    return float(np.std(figures, ddof=1) / np.sqrt(len(figures))) if len(figures) > 1 else None


def _axis(name: str, objectives: Mapping[str, str], held_out: bool) -> str:
    arrow = {"min": " (lower is better)", "max": " (higher is better)"}
    data = ("held-out " if held_out else "test ") if name.startswith(HELD_OUT) else ""  # who sees it alone must know
    return f"{data}{label(name)}{arrow.get(objectives.get(name, ''), '')}"
