"""A trial at a glance: is its confidence calibrated, does abstaining help, what were its weights?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hardtune.report.drawing import save
from hardtune.report.records import Record

MEMBERS, ENSEMBLE, ERROR = "#0b6e99", "#d9480f", "#8a5a00"
FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def diagnostics_figure(record: Record, path: Path) -> None:
    """Draw a finished trial's curves and write them to ``path`` (.png, .pdf or .svg).

    The reliability diagram and the risk-coverage curve, on test samples; and, if there are any, the histogram of the
    entropy weights, and the accuracy and ECE under corruptions by severity.
    """
    from matplotlib.figure import Figure

    panels: list[Callable[[Any, Record], None]] = [_reliability, _risk_coverage]
    if len(record.weight_histogram):
        panels.append(_weights)
    if record.corruptions:
        panels.append(_corruptions)
    width = 3.9 * len(panels)
    figure = Figure(figsize=(width, 3.7))
    # Set by hand, in inches, as are titles and ticks: a sweep draws one figure per trial, and automatic layout takes
    # longer than drawing.
    figure.subplots_adjust(left=0.6 / width, right=1 - 0.1 / width, bottom=0.13, top=0.86, wspace=0.26)
    figure.suptitle(f"{record.treatment}, on the test split", fontsize=10)
    for number, draw in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        draw(axes, record)
    fast = {"pil_kwargs": {"compress_level": 1}} if path.suffix == ".png" else {}  # others do not take it
    save(figure, path, dpi=110, **fast)


def _reliability(axes: Any, record: Record) -> None:
    axes.plot([0, 1], [0, 1], color="#b9c0c8", linewidth=1, zorder=1)
    for name, colour in (("members", MEMBERS), ("ensemble", ENSEMBLE)):
        curve = record.curves[name]
        areas = [6 + 120 * share / max(curve["share"]) for share in curve["share"]]
        axes.plot(curve["confidence"], curve["accuracy"], color=colour, linewidth=1, label=name)
        axes.scatter(curve["confidence"], curve["accuracy"], s=areas, color=colour, alpha=0.4, linewidths=0)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="confidence", ylabel="accuracy", xticks=FIFTHS, yticks=FIFTHS)
    axes.set_title("reliability (area: samples); below the line: overconfident", fontsize=8, y=1.02)
    axes.legend(frameon=False, fontsize=8)


def _risk_coverage(axes: Any, record: Record) -> None:
    for name, colour in (("members", MEMBERS), ("ensemble", ENSEMBLE)):
        risk = record.curves[name]["risk"]
        axes.plot([(i + 1) / len(risk) for i in range(len(risk))], risk, color=colour, linewidth=1.4, label=name)
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="coverage", ylabel="error rate among the kept", xticks=FIFTHS)
    axes.set_title("risk-coverage; lower is better", fontsize=8, y=1.02)
    axes.legend(frameon=False, fontsize=8)


def _weights(axes: Any, record: Record) -> None:
    counts = record.weight_histogram
    width = 1 / len(counts)
    axes.bar([i * width for i in range(len(counts))], counts, width=width, align="edge", color=MEMBERS, alpha=0.7)
    axes.set(xlim=(0, 1), xlabel="entropy weight s", ylabel="training samples")
    axes.set_title("weights; 1 is the hardest", fontsize=8, y=1.02)


def _corruptions(axes: Any, record: Record) -> None:
    severities = sorted({row["severity"] for row in record.corruptions})
    for name, colour in (("accuracy", MEMBERS), ("ece", ERROR)):
        by_severity = [[row[name] for row in record.corruptions if row["severity"] == level] for level in severities]
        axes.plot(severities, [sum(v) / len(v) for v in by_severity], color=colour, marker="o", markersize=4)
        # One line per corruption, thinner the more there are.
        for kind in dict.fromkeys(row["kind"] for row in record.corruptions):
            own = [row for row in record.corruptions if row["kind"] == kind]
            axes.plot([r["severity"] for r in own], [r[name] for r in own], color=colour, linewidth=0.6, alpha=0.3)
        label = "ECE" if name == "ece" else name
        last = (severities[-1], sum(by_severity[-1]) / len(by_severity[-1]))
        axes.annotate(label, last, (-2, 7), textcoords="offset points", color=colour, fontsize=8, ha="right")
    axes.set(ylim=(0, 1), xlabel="severity", xticks=severities)
    axes.set_title("under corruptions: mean, and each kind", fontsize=8, y=1.02)
