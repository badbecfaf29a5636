"""Several trials over one another: is their confidence calibrated, and does abstaining help?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from hardtune.report.diagnostics import FIFTHS
from hardtune.report.drawing import COLOURS, STYLES, save
from hardtune.report.fitting import fit, name_lines
from hardtune.report.records import Record
from hardtune.report.tables import plain_table

Row = dict[str, Any]
WHOSE = {"members": "networks", "ensemble": "ensemble"}
FIGURES = {
    "test/ece": "ECE",
    "test/aurc": "AURC",
    "test_ensemble/ece": "ensemble ECE",
    "test_ensemble/aurc": "ensemble AURC",
}
"""What sums the curves up, all of them better if lower."""
PANEL_WIDTH, PANEL_HEIGHT = 2.6, 2.1
"""In inches."""


def curve_points(records: Sequence[Record]) -> list[Row]:
    """A row for each point of each trial's curves, on test samples.

    ``of``: ``members`` or ``ensemble``, as in ``Record.curves``; ``curve``: ``reliability``, whose ``x`` is a bin's
    mean confidence, ``y`` its accuracy and ``share`` its part of the samples; or ``risk_coverage``, whose ``x`` is the
    share of samples that are kept and ``y`` the error rate among them.
    """
    rows: list[Row] = []
    for record in records:
        trial = {"trial": record.trial, "treatment": str(record.treatment)}
        for of in WHOSE:
            curve = record.curves[of]
            point = {**trial, "of": of, "curve": "reliability"}
            bins = zip(curve["confidence"], curve["accuracy"], curve["share"], strict=True)
            rows += [{**point, "x": x, "y": y, "share": share} for x, y, share in bins]
            point = {**trial, "of": of, "curve": "risk_coverage"}
            rows += [{**point, "x": x, "y": y} for x, y in zip(_coverages(curve["risk"]), curve["risk"], strict=True)]
    return rows


def curves_table(records: Sequence[Record], title: str, note: str = "") -> Table:
    """A line for each trial: calibration error and area under the risk-coverage curve. ``note``: for all readers."""
    table = plain_table(title)
    table.caption = f"× 100, on the test split, networks' as means over them; ↓ lower is better. {note}".strip()
    table.add_column("treatment", overflow="fold", min_width=15)
    for words in FIGURES.values():
        table.add_column(f"{words} ↓", justify="right", no_wrap=True)
    for record in records:
        figures = [f"{100 * record.metrics[name]:.2f}" if name in record.metrics else "" for name in FIGURES]
        table.add_row(_name(record), *figures, style="yellow" if record.is_control else "")
    return table


def overlaid_figure(records: Sequence[Record], title: str, path: Path, note: str = "") -> None:
    """Draw reliability diagrams and risk-coverage curves, of networks and of ensembles, with a line for each trial.

    Args:
        records: With ``curves``.
        title: Whose they are.
        path: A .png, .pdf or .svg file.
        note: A sentence that readers must see.
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    grid = figure.subplots(2, 2, squeeze=False)
    for (reliability, risk), (of, words) in zip(grid, WHOSE.items(), strict=True):
        reliability.plot([0, 1], [0, 1], color="#b9c0c8", linewidth=1, zorder=1)
        largest = max(max(record.curves[of]["share"]) for record in records)
        for place, record in enumerate(records):
            colour, style = COLOURS[place % len(COLOURS)], STYLES[place % len(STYLES)]
            line = {"color": colour, "linestyle": style, "linewidth": 1.2, "label": _name(record)}
            curve = record.curves[of]
            areas = [4 + 60 * share / largest for share in curve["share"]]
            reliability.plot(curve["confidence"], curve["accuracy"], **line)
            reliability.scatter(curve["confidence"], curve["accuracy"], s=areas, color=colour, alpha=0.35, linewidths=0)
            risk.plot(_coverages(curve["risk"]), curve["risk"], **line)
        reliability.set(xlim=(0, 1.02), ylim=(0, 1.04), xticks=FIFTHS, yticks=FIFTHS)
        risk.set(xlim=(0, 1), ylim=(0, None), xticks=FIFTHS)
        for axes, what, x, y in (
            (reliability, "reliability", "confidence", "accuracy"),
            (risk, "risk-coverage", "coverage", "error rate among the kept"),
        ):
            axes.set_title(f"{what}, {words}", fontsize=8)
            axes.set_xlabel(x, fontsize=8)
            axes.set_ylabel(y, fontsize=8)
            axes.tick_params(labelsize=7)
            axes.spines[["top", "right"]].set_visible(False)
    says = (
        f"{title}, on the test split: reliability (area: samples; below the diagonal: overconfident) of all networks' "
        "predictions and of their average, the ensemble's; and errors among the most confident (lower is better), the "
        f"networks' as means over them. {note}"
    )
    fit(figure, grid, [says.strip()], PANEL_WIDTH, [PANEL_HEIGHT] * 2)
    name_lines(figure, grid[0, 0])
    save(figure, path, dpi=150)


def _name(record: Record) -> str:
    return "control" if record.is_control else f"{record.number}: {record.treatment}"


def _coverages(risk: Sequence[float]) -> list[float]:
    return [(place + 1) / len(risk) for place in range(len(risk))]
