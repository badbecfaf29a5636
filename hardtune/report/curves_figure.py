"""Differences from the control against a number of the treatments, as a figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hardtune.report.comparison import Row
from hardtune.report.comparison_views import PANEL_WIDTH, coverage, half_width, paired_over
from hardtune.report.curves import SIGNS
from hardtune.report.drawing import COLOURS, save
from hardtune.report.fitting import fit, name_lines
from hardtune.report.metric_names import heading, label

MARKERS = "osD^vPX"
"""Of another number than the colours, so that few curves look alike; and for those who see no colours."""
PANELS_A_ROW = 3
PANEL_HEIGHT = 1.9
"""In inches."""
APART, AT_MOST = 0.012, 0.06
"""How far the points of two curves are moved apart, and those of all, as shares of the axis."""


def curve_figure(
    rows: Sequence[Row], field: str, starts: Sequence[float | None], title: str, path: Path, note: str = ""
) -> None:
    """Draw a panel per metric: differences × 100 with their intervals, a line per curve.

    Args:
        rows: Of :func:`~hardtune.report.curves.curve_rows`.
        starts: For each curve, the number at which it is what the others are compared with; None if it is not on it.
        title: Whose they are.
        path: A .png, .pdf or .svg file.
        note: A sentence that readers must see.
    """
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    wide = 2 if len(metrics) == 4 else min(len(metrics), PANELS_A_ROW)
    deep = math.ceil(len(metrics) / wide)
    shown = sorted({row["curve"] for row in rows})
    figure = Figure(layout="constrained")
    grid = figure.subplots(deep, wide, squeeze=False)
    for axes in grid.flat[len(metrics) :]:
        axes.axis("off")
    for place, (axes, metric) in enumerate(zip(grid.flat, metrics, strict=False)):
        lines = [[row for row in rows if (row["metric"], row["curve"]) == (metric, curve)] for curve in shown]
        _draw(axes, lines, field, [starts[curve - 1] for curve in shown])
        lower = lines[0][0]["better"] == "min"
        words = f"{heading(metric)} ({'lower' if lower else 'higher'} is better)"
        axes.set_title(textwrap.fill(words, 30), fontsize=8)
        if place + wide >= len(metrics):
            axes.set_xlabel(" ".join(filter(None, [label(field), SIGNS.get(field)])), fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel(textwrap.fill(f"minus {rows[0]['reference']}, × 100", 24), fontsize=7)
    bars = "a band" if len(shown) == 1 else "bars, moved apart"
    unbounded = "; where there is none, it is unbounded" if any(row["low"] is None for row in rows) else ""
    of = f"{rows[0]['of']} treatment{'' if rows[0]['of'] == 1 else 's'}"
    alone = f" of {rows[0]['common']}" if len(shown) == 1 and rows[0]["common"] else ""
    says = (
        f"{title}: {paired_over(rows[0])}: differences × 100{alone} with 95 % intervals ({bars}{unbounded}); "
        f"filled points are significant after Holm's correction for {of} in each panel"
    )
    told = f"{coverage(rows)[:1].upper()}{coverage(rows)[1:]}, and not corrected. {note}".strip()
    fit(figure, grid, [says, told], PANEL_WIDTH, [PANEL_HEIGHT] * deep)
    if len(shown) > 1:
        name_lines(figure, grid[0, 0])
    save(figure, path, dpi=150)


def _draw(axes: Any, lines: Sequence[Sequence[Row]], field: str, starts: Sequence[float | None]) -> None:
    axes.axhline(0, color="#b9c0c8", linewidth=1, zorder=1)
    numbers = [row[field] for rows in lines for row in rows] + [start for start in starts if start is not None]
    apart = min(APART, AT_MOST / len(lines)) * (max(numbers) - min(numbers))
    for place, (rows, start) in enumerate(zip(lines, starts, strict=True)):
        colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
        moved = apart * (place - (len(lines) - 1) / 2)
        points = [(row[field], 100 * row["difference"], half_width(row)) for row in rows]
        origin = [] if start is None else [(start, 0.0, 0.0)]  # it differs from itself by nothing
        path = sorted(points + origin)
        at = [number + moved * ((number, y, reach) not in origin) for number, y, reach in path]
        axes.plot(at, [y for _, y, _ in path], color=colour, linewidth=1.2, zorder=3)
        axes.plot([], [], color=colour, linewidth=1.2, marker=marker, markersize=4, label=rows[0]["common"] or "others")
        reaches = [reach if math.isfinite(reach) else math.nan for _, _, reach in path]
        low, high = ([y + sign * reach for (_, y, _), reach in zip(path, reaches, strict=True)] for sign in (-1, 1))
        if len(lines) == 1:
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        else:
            axes.vlines(at, low, high, color=colour, linewidth=0.9, alpha=0.7, zorder=2)
        for row, (number, y, _) in zip(rows, points, strict=True):
            fill = colour if row["verdict"] != "open" else "white"
            axes.plot(number + moved, y, color=colour, marker=marker, markersize=4, markerfacecolor=fill, zorder=4)
    axes.locator_params(nbins=5)  # more would run into each other
    axes.tick_params(labelsize=7)
    axes.grid(color="#eceff1", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
