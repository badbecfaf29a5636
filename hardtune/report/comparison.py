"""Compares treatments with one another, member by member: differences, intervals, verdicts."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from hardtune.errors import InputError, unknown
from hardtune.evaluation.calibration import CALIBRATION
from hardtune.evaluation.comparison import compare, least_significant
from hardtune.evaluation.metric import CORRUPTION_METRICS, METRICS, Better, directions
from hardtune.evaluation.ood import OOD_FIGURES, OOD_SCORES
from hardtune.report.records import Record
from hardtune.report.table import label, on_test, plain_table
from hardtune.treatment import Treatment

Row = dict[str, Any]
Line = tuple[int | None, str]
"""A treatment's trial and its description."""
GROUPS = ("final", "test", "ood", "corruptions")
"""Prefixes of the names of members' figures."""
METRICS_A_TABLE = 4
"""As many as fit in 80 columns."""
VERDICT_COLOURS = {"better": "#2b8a3e", "worse": "#c92a2a", "open": "#868e96"}


@dataclass(frozen=True)
class Comparison:
    """Some treatments against a reference: one question, so one family per metric for Holm's correction."""

    treatments: tuple[Treatment, ...]
    reference: Treatment = field(default_factory=Treatment)
    metrics: tuple[str, ...] = ("test/accuracy", "test/ece", "test/nll", "test/aurc")
    """Figures of each member, from ``Result.by_member``."""

    def __post_init__(self) -> None:
        for name in ("treatments", "metrics"):
            if isinstance(getattr(self, name), (str, Treatment)):
                raise InputError(f"a comparison's {name} must be a tuple, got {getattr(self, name)!r}")


def figures_of_members(
    groups: Collection[str] = GROUPS, *, scaled: bool = True, metrics: Mapping[str, Better] | None = None
) -> dict[str, Better]:
    """The figures of each member that a comparison may use, by full name, and which way each is better.

    Args:
        groups: What is measured, of ``final``, ``test``, ``ood`` and ``corruptions``.
        scaled: Whether there are held-out samples besides the test split, to fit temperatures on.
        metrics: A sweep's metrics and which way each is better, if not those registered here.

    >>> figures_of_members(["corruptions"])
    {'corruptions/accuracy': 'max', 'corruptions/ece': 'min'}
    """
    judged: dict[str, Better] = {**(metrics or directions()), "recall_hard_easy": "min"}
    after_scaling = {f"{name}_scaled": METRICS[name].better for name in CALIBRATION if scaled}
    figures = {
        "final": judged,
        "test": judged | after_scaling,
        "ood": {f"{score}_{name}": way for score in (*OOD_SCORES, "mahalanobis") for name, way in OOD_FIGURES.items()},
        "corruptions": {name: METRICS[name].better for name in CORRUPTION_METRICS},
    }
    return {f"{group}/{name}": way for group in GROUPS if group in groups for name, way in figures[group].items()}


def better(metric: str, metrics: Mapping[str, Better] | None = None) -> Better:
    """``min`` or ``max``: which way a member's figure is better; ``metrics`` as for :func:`figures_of_members`.

    >>> better("test/ece_scaled"), better("ood/msp_auroc"), better("corruptions/accuracy")
    ('min', 'max', 'max')

    Raises:
        InputError: members have no such figure.
    """
    known = figures_of_members(metrics=metrics)
    if metric not in known:
        raise unknown("figure of a member", metric, known)
    return known[metric]


def metrics_of(
    objectives: Collection[str], measured: Collection[str], metrics: Mapping[str, Better] | None = None
) -> tuple[str, ...]:
    """What to compare after a search: its objectives on the test split, and as many others as fit in a table.

    Args:
        measured: the available figures of members.
        metrics: as for :func:`figures_of_members`.

    >>> metrics_of(["final/recall_gap", "ensemble/nll"], ["test/recall_gap", "test/accuracy", "test/ece"])
    ('test/recall_gap', 'test/accuracy', 'test/ece')
    """
    known = figures_of_members(metrics=metrics)
    twins = [name for name in map(on_test, objectives) if name in known]
    others = [name for name in Comparison.metrics if name not in twins]
    return tuple(name for name in (*twins, *others[: max(0, METRICS_A_TABLE - len(twins))]) if name in measured)


def compared(
    records: Sequence[Record], comparison: Comparison, metrics: Mapping[str, Better] | None = None
) -> list[Row]:
    """A row for each metric and treatment: its mean, its difference from the reference, and if that is significant.

    ``low`` and ``high`` bound the 95 % confidence interval of the mean difference for that comparison alone (Student's
    t over members, paired by seed; None for a single member, which has no spread); ``p_adjusted`` is Holm's over
    the comparison's treatments (``of`` is their number), and the ``verdict`` is ``better`` or ``worse`` if it is below
    0.05, else ``open``. Unfinished trials are left out, but those that racing stopped count in Holm's correction.
    ``recall_hard_easy`` counts by its absolute value: hard classes recalled more often than easy ones are just as
    unequal. ``metrics``: as for :func:`figures_of_members`.
    """
    found: dict[Treatment, Record] = {}
    for record in records:
        if record.state == "finished":
            found.setdefault(record.treatment.canonical(), record)  # one that was tried twice counts once
    reference = found.get(comparison.reference.canonical())
    others = [found[key] for key in dict.fromkeys(t.canonical() for t in comparison.treatments) if key in found]
    others = [record for record in others if record is not reference]
    if reference is None or not others:
        return []
    stopped = {record.treatment.canonical() for record in records if record.state == "stopped"}
    given_up = len(stopped & {treatment.canonical() for treatment in comparison.treatments} - found.keys())
    rows: list[Row] = []
    for metric in comparison.metrics:
        direction = better(metric, metrics)
        theirs = _judged(reference, metric)
        differences = compare({str(r.number): _judged(r, metric) for r in others}, theirs, given_up=given_up)
        for record in others:
            difference = differences[str(record.number)]
            helps = (difference.mean > 0) == (direction == "max")
            rows.append(
                {
                    "reference": str(reference.treatment),
                    "metric": metric,
                    "better": direction,
                    "trial": record.number,
                    "treatment": str(record.treatment),
                    "mean": float(np.mean(_judged(record, metric))),
                    "reference_mean": float(np.mean(theirs)),
                    "difference": difference.mean,
                    "low": difference.low if math.isfinite(difference.low) else None,  # JSON has no infinity
                    "high": difference.high if math.isfinite(difference.high) else None,
                    "p": difference.p_value,
                    "p_adjusted": difference.p_adjusted,
                    "of": len(others) + given_up,
                    "members": difference.members,
                    "verdict": ("better" if helps else "worse") if difference.significant else "open",
                }
            )
    return rows


def _judged(record: Record, metric: str) -> NDArray[np.float64]:
    """The members' figures (M,), or their absolute values for the one kind that is best near 0."""
    figures = np.asarray(record.members[metric], np.float64)
    return np.abs(figures) if metric.endswith("/recall_hard_easy") else figures


def check_comparison(comparison: Comparison, treatments: Sequence[Treatment], measured: Collection[str]) -> None:
    """Raise ``InputError`` for a figure that will not be measured, or a treatment that will not be tried.

    ``measured``: the names of the figures that will be measured, from :func:`figures_of_members`.
    """
    for metric in comparison.metrics:
        better(metric)
        if metric not in measured:
            raise InputError(
                f"{metric!r} is compared, but the sweep does not measure it: ood/… needs ood, corruptions/… needs "
                "corruptions, and …_scaled needs held-out samples beside the test split, so another validation than "
                "'test'"
            )
    tried = {treatment.canonical() for treatment in (*treatments, Treatment())}
    for treatment in (comparison.reference, *comparison.treatments):
        if treatment.canonical() not in tried:
            raise InputError(f"the treatment {str(treatment)!r} is compared, but not in the sweep's list")


def tables(rows: Sequence[Row], note: str = "") -> list[Table]:
    """A comparison's rows for a terminal of 80 columns: a line per treatment, a few metrics per table, all times 100.

    ``note`` is a sentence that readers of any table must see.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    made = [
        _table([row for row in rows if row["metric"] in metrics[start : start + METRICS_A_TABLE]], note)
        for start in range(0, len(metrics), METRICS_A_TABLE)
    ]
    if made:
        made[-1].caption = (
            f"{made[-1].caption} Figures are of the test split unless they say otherwise; intervals are over seeds of "
            "training, on one split and one test set."
        )
    return made


def _table(rows: Sequence[Row], note: str) -> Table:
    first = rows[0]
    table = plain_table(min_width=78)
    table.title = (
        f"Against {first['reference']}: difference × 100 ± 95 % interval, paired over {first['members']} members"
    )
    lines = len({_line(row) for row in rows})
    family = first.get("of", lines)  # missing in files of earlier versions
    told = "all lines" if family == lines else f"all {family} treatments that were tried"
    needed = least_significant(first["members"], family)
    takes = f", which takes a mean difference of {needed:.1f} standard deviations" if 2 < needed < math.inf else ""
    table.caption = (
        f"* significant after Holm's correction for {told}{takes} (intervals are not corrected); "
        f"↓ lower is better, ↑ higher. {note}"
    ).strip()
    table.add_column("treatment", overflow="fold", min_width=15)
    columns = {row["metric"]: row["reference_mean"] for row in rows}
    lower = {row["metric"]: _lower_is_better(row) for row in rows}
    digits = {metric: _digits([row for row in rows if row["metric"] == metric]) for metric in columns}
    for metric in columns:
        name = _heading(metric).replace(" ", "\n")
        table.add_column(f"{name} {'↓' if lower[metric] else '↑'}", justify="right", no_wrap=True)
    table.add_row(first["reference"], *(f"{100 * columns[m]:.{digits[m]}f}  " for m in columns), style="yellow")
    cells: dict[Line, list[Text]] = {}
    for row in rows:
        reach, places = _reach(row), digits[row["metric"]]
        star = "*" if row["verdict"] != "open" else " "
        text = f"{100 * row['difference']:+.{places}f} ±{reach:.{places}f} {star}"
        colour = {"better": "green", "worse": "red"}.get(row["verdict"], "")
        cells.setdefault(_line(row), []).append(Text(text, colour))
    for (_, treatment), line in cells.items():
        table.add_row(treatment, *line)
    return table


def comparison_figure(families: Sequence[Sequence[Row]], title: str, path: Path, note: str = "") -> None:
    """Draw every difference with its interval as a PNG: a panel per metric, and a block of lines per reference.

    ``note``: as in :func:`tables`.
    """
    from matplotlib.figure import Figure

    blocks = _blocks([rows for rows in families if rows])
    heights = [max(len(lines), 3) + 0.6 for _, _, lines in blocks]  # of fewer lines, the label would be cut
    width = max(len(metrics) for metrics, _, _ in blocks)
    figure = Figure(figsize=(1.8 + 2.2 * width, 1.2 + 0.3 * (sum(heights) + len(heights))), layout="constrained")
    says = "differences × 100 with 95 % intervals; green is better and red worse after Holm's correction"
    figure.suptitle("\n".join(filter(None, [f"{title}: {says}", note])), fontsize=9)
    grid = figure.subplots(len(heights), width, squeeze=False, height_ratios=heights)
    headed: list[str] = []
    for panels, (metrics, rows, lines) in zip(grid, blocks, strict=True):
        names = [treatment for _, treatment in lines]
        for axes in panels[len(metrics) :]:
            axes.axis("off")
        for axes, metric in zip(panels, metrics, strict=False):
            _forest(axes, [row for row in rows if row["metric"] == metric], lines)
            axes.set_yticks(range(len(names)), names if axes is panels[0] else [], fontsize=8)
            if metrics != headed:  # else the panel above shows it
                lower = next(_lower_is_better(row) for row in rows if row["metric"] == metric)
                heading = f"{_heading(metric)} ({'lower' if lower else 'higher'} is better)"
                axes.set_title(textwrap.fill(heading, 30), fontsize=8)
        headed = metrics
        panels[0].set_ylabel(textwrap.fill(f"minus {rows[0]['reference']}", 20), fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


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


def _forest(axes: Any, rows: Sequence[Row], lines: Sequence[Line]) -> None:
    axes.axvline(0, color="#b9c0c8", linewidth=1, zorder=1)
    for row in rows:
        y, colour = lines.index(_line(row)), VERDICT_COLOURS[row["verdict"]]
        if math.isfinite(_reach(row)):
            axes.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=1.5)
        axes.plot(100 * row["difference"], y, marker="o", markersize=4, color=colour)
    axes.locator_params(axis="x", nbins=4)  # more would run into each other
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _line(row: Row) -> Line:
    """What tells the treatments of a family apart: numbers that are rounded may not."""
    return row.get("trial"), row["treatment"]


def _lower_is_better(row: Row) -> bool:
    way = row.get("better") or better(row["metric"])  # files of earlier versions do not say
    return bool(way == "min")


def _digits(rows: Sequence[Row]) -> int:
    """Decimal places that show two digits of the column's typical interval."""
    reach = float(np.median([_reach(row) for row in rows]))
    return 2 if not 0 < reach < math.inf else min(4, max(0, 1 - math.floor(math.log10(reach))))


def _reach(row: Row) -> float:
    """Half the width of a row's interval, times 100."""
    return math.inf if row["low"] is None else 50 * (row["high"] - row["low"])


def _heading(metric: str) -> str:
    group, _, name = metric.partition("/")
    words = label(f"final/{name}" if group == "test" else metric)
    words = words.replace("adaptive", "adapt.").replace("misclassification", "errors'")
    return f"held-out {words}" if group == "final" else words
