"""What treatments would do to each class, as figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.report.drawing import save
from hardtune.report.plans import MAX_ROWS, Planned, explained, instead, merge
from hardtune.resampling.class_plan import ClassPlan

KEPT, ADDED, DROPPED, PRUNED = "#b9c0c8", "#d9480f", "#ffffff", "#f1f3f5"
NAMED = 30
"""If there are more classes, their names are left out."""


def plan_figure(plans: Sequence[Planned], title: str, path: Path) -> None:
    """A bar per class, hardest first: samples kept, added, and (outlined) removed."""
    from matplotlib.figure import Figure

    rows = list(plans[0].classes)
    if any(row.hardness is not None for row in rows):
        rows.sort(key=lambda row: -(row.hardness or 0.0))
    figure = Figure(figsize=(max(6.0, min(14.0, 1.5 + 0.55 * len(rows))), 4.4), layout="constrained")
    axes = figure.add_subplot()
    x = np.arange(len(rows))
    kept = np.array([row.size - row.pruned - row.dropped for row in rows])
    bottom = np.zeros(len(rows), dtype=np.int64)
    parts: tuple[tuple[str, NDArray[np.int64], dict[str, Any]], ...] = (
        ("kept", kept, {"color": KEPT}),
        ("added", np.array([row.added for row in rows]), {"color": ADDED}),
        ("dropped", np.array([row.dropped for row in rows]), {"color": DROPPED, "edgecolor": "#868e96"}),
        ("pruned", np.array([row.pruned for row in rows]), {"color": PRUNED, "edgecolor": "#868e96", "hatch": "///"}),
    )
    for name, heights, style in parts:
        if heights.any():
            axes.bar(x, heights, bottom=bottom, label=name, width=0.8, zorder=3, linewidth=0.8, **style)
            bottom = bottom + heights
    if len(rows) <= NAMED:
        _name_classes(axes, [row.name for row in rows])
        for position, row in enumerate(rows):
            axes.text(
                position,
                row.count,
                _said(row),
                ha="center",
                va="bottom",
                fontsize=8,
                color="#c92a2a" if row.infeasible else "#212529",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.4},
                zorder=4,
            )
    else:
        axes.set_xticks([])
    hard = any(row.hardness is not None for row in rows)
    axes.set_xlabel("class, the hardest first" if hard else "class")
    axes.set_ylabel("training samples")
    figure.suptitle(title)
    axes.grid(color="#eceff1", zorder=0, axis="y")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center")
    _explain(figure, plans[:1])
    save(figure, path, dpi=150)


def sweep_figure(plans: Sequence[Planned], title: str, path: Path) -> None:
    """A row for each different plan, a cell for each class: what it counts as, relative to its original size."""
    from matplotlib.figure import Figure

    drawn = [(label, plan) for label, plan in merge(plans) if plan.classes][:MAX_ROWS]
    if not drawn:
        drawn = [("nothing can be planned", Planned(plans[0].treatment, ()))]
    ratios = np.array([[row.share for row in plan.classes] for _, plan in drawn])
    classes = [row.name for row in drawn[0][1].classes]
    height = 1.4 + 0.32 * len(drawn)
    figure = Figure(figsize=(max(7.0, min(16.0, 4.5 + 0.55 * len(classes))), height), layout="constrained")
    axes = figure.add_subplot()
    spread = max(0.1, float(np.abs(np.log2(np.maximum(ratios, 2**-4))).max(initial=0.0)))
    image = axes.imshow(
        np.log2(np.maximum(ratios, 2**-4)),
        cmap="RdBu_r",
        vmin=-spread,
        vmax=spread,
        aspect="auto",
        interpolation="nearest",  # the default would blur a row into the next if there are many classes
    )
    axes.set_yticks(range(len(drawn)), [label for label, _ in drawn], fontsize=7)
    if len(classes) <= NAMED:
        _name_classes(axes, classes)
        for y, (_, plan) in enumerate(drawn):
            for x, row in enumerate(plan.classes):
                dark = abs(np.log2(max(ratios[y, x], 2**-4))) > 0.65 * spread
                text = f"{_said(row)}{'!' if row.infeasible else ''}"
                axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    else:
        axes.set_xticks([])
    axes.set_xlabel("class")
    bar = figure.colorbar(image, ax=axes, pad=0.01)
    ticks = np.linspace(-spread, spread, 5)
    bar.set_ticks(list(ticks), labels=[f"{2**tick:.0%}" for tick in ticks])
    bar.set_label("counts as … of its size", fontsize=8)
    figure.suptitle(title)
    _explain(figure, [plan for _, plan in drawn])
    save(figure, path, dpi=150)


def _said(row: ClassPlan) -> str:
    """How many samples a class has in the end, or what it gets instead of others."""
    return instead(row).replace(" post", "\npost") or str(row.count)


def _explain(figure: Any, plans: Sequence[Planned]) -> None:
    lines = [line for said in explained(plans) for line in textwrap.wrap(said, int(18 * figure.get_figwidth()))]
    figure.supxlabel("\n".join(lines), fontsize=7, color="#6b747c")


def _name_classes(axes: Any, names: Sequence[str]) -> None:
    if len(names) <= 12 and all(len(name) <= 6 for name in names):
        axes.set_xticks(range(len(names)), names, parse_math=False)
    else:
        slant = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(range(len(names)), names, parse_math=False, **slant)
