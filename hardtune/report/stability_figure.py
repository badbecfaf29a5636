"""How many members a score needs, and how well estimators agree, as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.hardness.stability import Agreement, Stability, rank_correlations
from hardtune.report.drawing import save
from hardtune.report.stability import percent, pruned_overlaps

LINE, OTHER = "#0b6e99", "#868e96"


def stability_figure(
    found: Mapping[str, Stability], classes: Sequence[str], rate: float, title: str, path: Path
) -> None:
    """A row for each estimator: the nested change, and the agreement of disjoint and bootstrap ensembles."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14.5, 0.7 + 3.5 * len(found)), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(len(found), 4, squeeze=False)
    for row, (name, stability) in zip(panels, found.items(), strict=True):
        _nested_sizes(row[0], stability.change, classes)
        _nested_pruned(row[1], stability.pruned_change, rate)
        for axes, field, what, chance in (
            (row[2], "rank_correlation", "rank correlation of two ensembles", 0.0),
            (row[3], "pruned_overlap", f"common share of the easiest {percent(rate)}", rate),
        ):
            _agreement(axes, stability.disjoint, field, "share no member", LINE)
            _agreement(axes, stability.bootstrap, field, "bootstrap", OTHER)
            axes.axhline(chance, color=OTHER, linewidth=0.8, linestyle=":", label="chance")
            lowest = min(getattr(one, field).min() for one in (*stability.disjoint, *stability.bootstrap))
            axes.set_ylim(min(0.0, 1.02 * lowest), 1.02)
            axes.set_xlabel("members in each")
            axes.set_ylabel(what)
        row[0].set_ylabel(f"{name}\nchange of class size [samples]")
        for axes in row:
            axes.grid(color="#eceff1")
            axes.spines[["top", "right"]].set_visible(False)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.legend(frameon=False, fontsize=7)
    save(figure, path, dpi=150)


def comparison_figure(scores: Mapping[str, NDArray[np.floating]], rate: float, title: str, path: Path) -> None:
    """Every pair of estimators: rank correlation, and overlap of the easiest part."""
    from matplotlib.figure import Figure

    names = list(scores)
    side = 2.2 + 0.42 * len(names)
    figure = Figure(figsize=(2 * side + 1.2, side), layout="constrained")
    figure.suptitle(title)
    common = f"common share of the easiest {percent(rate)} (chance: {percent(rate)})"
    both = (
        ("rank correlation", rank_correlations(scores), -1.0, "RdBu_r", "{:.2f}"),
        (common, pruned_overlaps(scores, rate), 0.0, "Blues", "{:.0%}"),
    )
    for axes, (what, values, lowest, colours, form) in zip(figure.subplots(1, 2), both, strict=True):
        axes.imshow(values, vmin=lowest, vmax=1, cmap=colours)
        axes.set_title(what, fontsize=9)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        for y, x in np.ndindex(values.shape):
            colour = "white" if abs(values[y, x]) > 0.65 else "black"
            axes.text(x, y, form.format(values[y, x]), ha="center", va="center", fontsize=6, color=colour)
    save(figure, path, dpi=150)


def _nested_sizes(axes: Any, change: NDArray[np.float64], classes: Sequence[str]) -> None:
    joined = np.arange(1, len(change) + 1)
    axes.plot(joined, change, color=OTHER, linewidth=0.6, alpha=0.6)
    axes.plot([], [], color=OTHER, linewidth=0.6, label=f"each of {len(classes)} classes")
    mean = change.mean(axis=1)
    axes.plot(joined, mean, color=LINE, marker="o", markersize=3, label="mean")
    axes.plot(joined, 2 * mean[0] / (joined + 1), color="#d9480f", linestyle="--", linewidth=1, label="∝ 1/(j + 1)")
    axes.set_xlabel("nested: from j members to j + 1")


def _nested_pruned(axes: Any, change: NDArray[np.float64], rate: float) -> None:
    joined = np.arange(1, len(change) + 1)
    axes.plot(joined, change, color=LINE, marker="o", markersize=3, label=f"the easiest {percent(rate)}")
    axes.plot(joined, 2 * change[0] / (joined + 1), color="#d9480f", linestyle="--", linewidth=1, label="∝ 1/(j + 1)")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("nested: from j members to j + 1")
    axes.set_ylabel("share of the pruned set that changes")


def _agreement(axes: Any, agreements: Sequence[Agreement], field: str, label: str, colour: str) -> None:
    sizes = [one.size for one in agreements]
    values = [getattr(one, field) for one in agreements]
    axes.plot(sizes, [v.mean() for v in values], color=colour, marker="o", markersize=3, label=label)
    axes.fill_between(sizes, [v.min() for v in values], [v.max() for v in values], color=colour, alpha=0.15, lw=0)
