"""A comparison's rows as tables for a terminal, and as a figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from hardtune.evaluation.comparison import least_significant
from hardtune.report.comparison import METRICS_A_TABLE, Row
from hardtune.report.drawing import save
from hardtune.report.fitting import fit
from hardtune.report.metric_names import heading
from hardtune.report.tables import plain_table

Line = tuple[int | None, str]
"""A treatment's trial and its description."""
VERDICT_COLOURS = {"better": "#2b8a3e", "worse": "#c92a2a", "open": "#868e96"}
PANEL_WIDTH = 2.2
"""In inches, of one with intervals."""


def tables(rows: Sequence[Row], note: str = "", *, most: int = METRICS_A_TABLE, prospects: bool = True) -> list[Table]:
    """A comparison's rows: a line per treatment, at most so many metrics per table, all times 100.

    By default they fit a terminal of 80 columns. ``note`` is a sentence that readers of any table must see;
    ``prospects`` tells how much narrower intervals could become, which is for those who can still train more.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    made = [
        _table([row for row in rows if row["metric"] in metrics[start : start + most]], note)
        for start in range(0, len(metrics), most)
    ]
    if made:
        said = f"{made[-1].caption} Figures are of the test split unless they say otherwise; {coverage(rows)}"
        bounded = [row for row in rows if row["low"] is not None and row["low"] < row["high"]]
        shares = [row["images_share"] for row in bounded if row["images_share"] is not None]
        if shares and prospects:
            left = 100 * math.sqrt(float(np.median(shares)))
            many = "networks" if rows[0]["over"] == "members" else rows[0]["over"]
            said += (
                f"; with endlessly many {many} the median interval would shrink to {left:.0f} % of its width, the part "
                "that is due to test images"
            )
        made[-1].caption = f"{said}."
    return made


def coverage(rows: Sequence[Row]) -> str:
    """What the intervals cover: of some metrics, seeds (or sweeps) alone."""
    return covers(rows, sorted({heading(row["metric"]) for row in rows if row["images_share"] is None}))


def covers(rows: Sequence[Row], no_images: Sequence[str]) -> str:
    """What the intervals cover, where those of ``no_images`` do not cover images."""
    if rows[0]["members"] == 1:
        return "intervals are unbounded, since one network bounds nothing"
    what, alone, on = "seeds of training", "seeds", ["one split"]
    if rows[0]["over"] == "sweeps":
        what = "whole sweeps (each with its own scores, networks and, if drawn at random, held-out samples)"
        alone, on = "sweeps", []
    if all(row["images_share"] is None for row in rows):
        on.append("one test set")
    else:
        what += " and over test images" + (f" ({', '.join(no_images)}: over {alone} alone)" if no_images else "")
    alike = "; unbounded where all of these, if few, or all images say the same"
    some = any(row["low"] is None for row in rows)
    return f"intervals are over {what}" + (f", on {' and '.join(on)}" if on else "") + (alike if some else "")


def paired_over(row: Row) -> str:
    """How many pairs there are of what: ``5 members``."""
    return "1 member" if row["members"] == 1 else f"{row['members']} {row['over']}"


def _table(rows: Sequence[Row], note: str) -> Table:
    first = rows[0]
    table = plain_table(min_width=78)
    table.title = f"Against {first['reference']}: difference × 100 ± 95 % interval, paired over {paired_over(first)}"
    family = first["of"]
    told = (
        "all lines of a column"
        if family == len({_line(row) for row in rows})
        else f"all {family} treatments that were tried, in each column"
    )
    needed = least_significant(first["members"], family)
    takes = f", which takes a mean difference of at least {needed:.1f} standard deviations" if 2 < needed < 10 else ""
    table.caption = (
        f"* significant after Holm's correction for {told}{takes} (intervals are not corrected); "
        f"↓ lower is better, ↑ higher. {note}"
    ).strip()
    table.add_column("treatment", overflow="fold", min_width=15)
    columns = {row["metric"]: row["reference_mean"] for row in rows}
    lower = {row["metric"]: row["better"] == "min" for row in rows}
    digits = {metric: decimals([row for row in rows if row["metric"] == metric]) for metric in columns}
    for metric in columns:
        name = heading(metric).replace(" ", "\n")
        table.add_column(f"{name} {'↓' if lower[metric] else '↑'}", justify="right", no_wrap=True)
    table.add_row(first["reference"], *(f"{100 * columns[m]:.{digits[m]}f}  " for m in columns), style="yellow")
    cells: dict[Line, list[Text]] = {}
    for row in rows:
        cells.setdefault(_line(row), []).append(difference_cell(row, digits[row["metric"]]))
    for (_, treatment), line in cells.items():
        table.add_row(treatment, *line)
    return table


def difference_cell(row: Row, places: int, mark: str = " ") -> Text:
    """A row's difference × 100 with its interval, to so many decimal places: ``+1.23 ±0.45 *``, coloured by verdict.

    ``mark``: what is there instead of the star if the difference is not significant.
    """
    if row["low"] == row["high"] == 0:  # in each network: an interval would claim to know it of other images
        return Text("equal  ")
    star = "*" if row["verdict"] != "open" else mark
    colour = {"better": "green", "worse": "red"}.get(row["verdict"], "")
    reach = "∞" if row["low"] is None else f"{half_width(row):.{places}f}"
    difference = round(100 * row["difference"], places) + 0.0  # else what rounds to nothing could be -0.0
    return Text(f"{difference:+.{places}f} ±{reach} {star}", colour)


def comparison_figure(families: Sequence[Sequence[Row]], title: str, path: Path, note: str = "") -> None:
    """Draw every difference with its interval: a panel per metric, and a block of lines per reference.

    ``title``: whose they are; ``path``: a .png, .pdf or .svg file; ``note``: as in :func:`tables`.
    """
    from matplotlib.figure import Figure

    blocks = _blocks([rows for rows in families if rows])
    heights = [max(len(lines), 3) + 0.6 for _, _, lines in blocks]  # of fewer lines, the label would be cut
    width = max(len(metrics) for metrics, _, _ in blocks)
    figure = Figure(layout="constrained")
    each = [row for _, rows, _ in blocks for row in rows]
    corrected = " or ".join(map(str, sorted({row["of"] for row in each}, reverse=True)))
    plural = "" if corrected == "1" else "s"
    says = (
        "differences × 100 with 95 % intervals; green is better and red worse after Holm's correction for "
        f"{corrected} treatment{plural} in each panel, dotted is unbounded"
    )
    told = [
        f"{title}: {paired_over(each[0])}: {says}",
        f"{coverage(each)[:1].upper()}{coverage(each)[1:]}, and not corrected. {note}".strip(),
    ]
    grid = figure.subplots(len(heights), width, squeeze=False, height_ratios=heights)
    headed: list[str] = []
    for panels, (metrics, rows, lines) in zip(grid, blocks, strict=True):
        names = [treatment for _, treatment in lines]
        for axes in panels[len(metrics) :]:
            axes.axis("off")
        for axes, metric in zip(panels, metrics, strict=False):
            shown = [row for row in rows if row["metric"] == metric]
            draw_intervals(axes, shown, [lines.index(_line(row)) for row in shown])
            axes.set_yticks(range(len(names)), names if axes is panels[0] else [], fontsize=8)
            if metrics != headed:  # else the panel above shows it
                lower = next(row["better"] == "min" for row in rows if row["metric"] == metric)
                words = f"{heading(metric)} ({'lower' if lower else 'higher'} is better)"
                axes.set_title(textwrap.fill(words, 30), fontsize=8)
        headed = metrics
        panels[0].set_ylabel(textwrap.fill(f"minus {rows[0]['reference']}", 20), fontsize=7)
    fit(figure, grid, told, PANEL_WIDTH, [0.3 * height for height in heights])
    save(figure, path, dpi=150)


def _blocks(families: Sequence[Sequence[Row]]) -> list[tuple[list[str], list[Row], list[Line]]]:
    """The figure's rows of panels: some metrics of a family, its rows for them, and its treatments."""
    blocks = []
    each = [list(dict.fromkeys(row["metric"] for row in rows)) for rows in families]
    for start in range(0, max(map(len, each)), METRICS_A_TABLE):
        for rows, metrics in zip(families, each, strict=True):
            some = metrics[start : start + METRICS_A_TABLE]
            shown = [row for row in rows if row["metric"] in some]
            if shown:
                blocks.append((some, shown, list(dict.fromkeys(map(_line, shown)))))
    return blocks


def draw_intervals(axes: Any, rows: Sequence[Row], places: Iterable[int]) -> None:
    """Draw each row's difference and interval at its place, counted from the top."""
    axes.axvline(0, color="#b9c0c8", linewidth=1, zorder=1)
    at = list(places)
    colours = [VERDICT_COLOURS[row["verdict"]] for row in rows]
    bounded = [n for n, row in enumerate(rows) if math.isfinite(half_width(row))]
    low, high = ([100 * rows[n][end] for n in bounded] for end in ("low", "high"))  # at once: classes may be a hundred
    axes.hlines([at[n] for n in bounded], low, high, colors=[colours[n] for n in bounded], linewidth=1.5)
    for n in set(range(len(rows))) - set(bounded):
        axes.axhline(at[n], color=colours[n], linewidth=1, linestyle=":")
    found = [100 * row["difference"] for row in rows]
    axes.scatter(found, at, s=16, c=colours, zorder=2, clip_on=False)  # a class may gain all of a figure's 100
    lowest = max(at)
    axes.locator_params(axis="x", nbins=4)  # more would run into each other
    axes.set_ylim(lowest + 0.5, -0.5)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _line(row: Row) -> Line:
    """What tells the treatments of a family apart: numbers that are rounded may not."""
    return row["trial"], row["treatment"]


def decimals(rows: Sequence[Row]) -> int:
    """Decimal places that show two digits of the column's typical interval; one, if 2 places can, of the narrowest."""
    return places([half_width(row) for row in rows])


def places(reaches: Sequence[float]) -> int:
    """As :func:`decimals`, of what is shown after each ±."""
    typical, narrowest = float(np.median(reaches)), min((reach for reach in reaches if reach > 0), default=math.inf)
    if not 0 < typical < math.inf:
        return 2
    return min(4, max(0, 1 - _magnitude(typical), min(2, -_magnitude(narrowest))))


def _magnitude(reach: float) -> int:
    return math.floor(math.log10(reach))


def half_width(row: Row) -> float:
    """Half the width of a row's interval, times 100."""
    return math.inf if row["low"] is None else 50 * (row["high"] - row["low"])
