"""The Pareto figure: every trial, the front among them, and the control."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hardtune.report.records import Record
from hardtune.report.table import label, on_test


def pareto_figure(
    records: Sequence[Record], front: Sequence[Record], objectives: Mapping[str, str], title: str, path: Path
) -> None:
    """Draw a panel for every pair of objectives (one objective: a bar a trial) and write it to ``path`` (PNG)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    finished = [record for record in records if record.state == "finished"]
    # Each panel is a pair of held-out objectives; a single objective is drawn against its test twin.
    names = list(objectives)
    pairs = list(itertools.combinations(names, 2)) or [(names[0], on_test(names[0]))]
    figure = Figure(figsize=(4.6 * len(pairs) + 0.6, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    on_front = {record.number for record in front}
    for panel, (x, y) in enumerate(pairs):
        axes = figure.add_subplot(1, len(pairs), panel + 1)
        plain = [r for r in finished if r.number not in on_front and not r.is_control]
        best = [r for r in finished if r.number in on_front and not r.is_control]
        control = [r for r in finished if r.is_control]
        styles: tuple[tuple[list[Record], dict[str, Any]], ...] = (
            (plain, {"marker": "o", "s": 26, "c": "#b9c0c8", "label": "dominated"}),
            (best, {"marker": "o", "s": 52, "c": "#0b6e99", "edgecolors": "white", "label": "Pareto front"}),
            (control, {"marker": "*", "s": 190, "c": "#d9480f", "edgecolors": "white", "label": "control"}),
        )
        for group, style in styles:
            if group:
                axes.scatter([r.metrics[x] for r in group], [r.metrics[y] for r in group], zorder=3, **style)
        for record in best:
            axes.annotate(
                str(record.number),
                (record.metrics[x], record.metrics[y]),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=7,
                color="#0b6e99",
            )
        axes.set_xlabel(_axis(x, objectives))
        axes.set_ylabel(_axis(y, objectives))
        axes.grid(color="#eceff1", zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        if panel == 0:
            axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _axis(name: str, objectives: Mapping[str, str]) -> str:
    arrow = {"min": " (lower is better)", "max": " (higher is better)"}
    return f"{label(name)}{arrow.get(objectives.get(name, ''), '')}"
