"""Which classes a treatment helps, and which pay for it: recall on the test split, class by class."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from hardtune.evaluation.comparison import Difference, holm, paired_difference
from hardtune.report.comparison import Row, found_out, tried
from hardtune.report.comparison_views import PANEL_WIDTH, covers, decimals, difference_cell, draw_intervals, paired_over
from hardtune.report.drawing import save
from hardtune.report.fitting import fit
from hardtune.report.records import Record, control_of
from hardtune.report.tables import plain_table

PANELS_A_ROW = 4
MOST_CLASSES = 100
"""More would make a figure that nobody can read."""


def against_control(found: Sequence[Record], chosen: Sequence[Record]) -> list[Row]:
    """What :func:`class_figure` draws at a sweep's end: the chosen trials against the control, each treatment once.

    Empty if there is nothing to compare, or if there are too many classes.
    """
    control = control_of(found)
    others = {record.treatment.canonical(): record for record in reversed(chosen) if record.state == "finished"}
    others.pop(control.treatment.canonical(), None)
    records = list(others.values())[::-1]
    if len(control.recalls) > MOST_CLASSES:
        return []
    among = [treatment for treatment in tried(found) if treatment != control.treatment.canonical()]
    return class_rows(records, control, among=len(among))


def class_rows(records: Sequence[Record], reference: Record, *, among: int, over: str = "members") -> list[Row]:
    """A row for each class of each record: its recall, its difference from the reference's, and if that is significant.

    Classes are in the order of the reference's recall, the hardest first; those without test samples are left out.
    Intervals are those of :func:`~hardtune.report.comparison.compared`.

    Args:
        among: How many treatments these were chosen from: Holm's correction is for every class of each of them.
        over: As in :func:`~hardtune.report.comparison.compared`.
    """
    hardest_first = sorted(reference.recalls, key=lambda name: float(np.mean(reference.recalls[name]["members"])))
    pairs = [(record, name) for record in records for name in hardest_first]
    found = [_difference(record.recalls[name], reference.recalls[name]) for record, name in pairs]
    of = max(among, len(records)) * len(hardest_first)
    adjusted = holm([difference.p_value for difference in found] + [1.0] * (of - len(found)))
    return [
        {
            "reference": str(reference.treatment) if reference.is_control else _named(reference),
            "reference_trial": str(reference.trial),
            "trial": record.number,
            "treatment": _named(record),
            "class": name,
            "test_size": reference.per_class[name].get("test_size"),  # earlier sweeps did not count them
            **_counted(record.per_class[name]),
            **{f"reference_{field}": value for field, value in _counted(reference.per_class[name]).items()},
            "mean": float(np.mean(record.recalls[name]["members"])),
            "reference_mean": float(np.mean(reference.recalls[name]["members"])),
            "of": of,
            "over": over,
            **found_out(dataclasses.replace(difference, p_adjusted=p), better="max"),
        }
        for (record, name), difference, p in zip(pairs, found, adjusted[: len(found)], strict=True)
    ]


def _named(record: Record) -> str:
    return f"{record.number}: {record.treatment}"


def _difference(ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]]) -> Difference:
    parts = np.subtract(ours["left_out"], theirs["left_out"])
    return paired_difference(ours["members"], theirs["members"], left_out=parts if len(parts) else None)


def _counted(figures: Mapping[str, float | None]) -> Row:
    """How many samples a class has in training, the weight of their losses, and what shifts its logit, when."""
    usual = {"weight": 1, "offset": 0, "posthoc": 0}
    return {"samples": figures["size"], **{name: figures.get(name, value) for name, value in usual.items()}}


def _samples(row: Row, of: str = "") -> str:
    size, weight, offset, posthoc = (row[f"{of}{field}"] for field in ("samples", "weight", "offset", "posthoc"))
    weighted = f" × {weight:.2f}" if weight != 1 else ""
    shifted = (f", {offset:+.2f}" if offset else "") + (f", {posthoc:+.2f} post hoc" if posthoc else "")
    return f"{size:,}{weighted}{shifted}"


def class_tables(rows: Sequence[Row], note: str = "") -> list[Table]:
    """A table for each treatment, with a line for each class; recalls are times 100. ``note``: readers must see it.

    A star is for what is significant after Holm's correction, which guards against gains that are none but may hide
    harm: so a dagger is for any other interval, uncorrected, that is wholly on one side of 0.
    """
    made = []
    for trial in dict.fromkeys(row["trial"] for row in rows):
        lines = [row for row in rows if row["trial"] == trial]
        made.append(_table(lines))
    samples = "samples are those in training (× the weight of their losses, ± the shift of their logit, if any)"
    made[-1].caption = f"{made[-1].caption} {_caption(rows, samples, note)}"
    return made


def class_table(rows: Sequence[Row], note: str = "") -> Table:
    """One table of all treatments, for a paper: the reference's recall × 100, and each one's difference from it.

    Columns have the trials' numbers, which the caption explains; ``note``: as in :func:`class_tables`.
    """
    first, treatments = rows[0], {row["trial"]: row["treatment"] for row in rows}
    table = plain_table(
        f"Against {first['reference']}: recall × 100, difference ± 95 % interval, paired over {paired_over(first)}"
    )
    columns = f"columns are {'; '.join(treatments.values())}"
    table.caption = f"{_worst(rows)} {_caption(rows, columns, note)}"
    table.add_column("class")
    counted = ["test images"] if _counts_tests(rows) else []
    for heading in (*counted, f"{first['reference_trial']} ↑", *map(str, treatments)):
        table.add_column(heading, justify="right")
    places = decimals(rows)
    for name in dict.fromkeys(row["class"] for row in rows):
        line = {row["trial"]: row for row in rows if row["class"] == name}
        cells, any_of = [_difference_cell(line[trial], places) for trial in treatments], next(iter(line.values()))
        table.add_row(name, *_tests(any_of, rows), f"{100 * any_of['reference_mean']:.{places}f}", *cells)
    return table


def _counts_tests(rows: Sequence[Row]) -> bool:
    return any(row["test_size"] is not None for row in rows)


def _tests(row: Row, rows: Sequence[Row]) -> list[str]:
    """The cell that says how many test images the class has, if there is a column of them."""
    return [f"{row['test_size']:,}" if row["test_size"] is not None else ""] * _counts_tests(rows)


def _caption(rows: Sequence[Row], told: str, note: str) -> str:
    says = (
        f"Recall on the test split, of classes that are hard for {rows[0]['reference']} first; {told}. * significant "
        f"after Holm's correction for {rows[0]['of']:,} differences, each class of all treatments that were tried; "
        f"† not, but its interval is wholly on one side of 0; {_covers(rows)}, and not corrected."
    )
    return " ".join(filter(None, (says, _sides(rows), note)))


def _difference_cell(row: Row, places: int) -> Text:
    return difference_cell(row, places, "†" if _side(row) else " ")


def _side(row: Row) -> int:
    """Which side of 0 the whole interval is on, not corrected: 1 above, -1 below, 0 neither."""
    return 0 if row["low"] is None else (row["low"] > 0) - (row["high"] < 0)


def _sides(rows: Sequence[Row]) -> str:
    """How many classes seem to gain and to lose, and how many would by chance."""
    if rows[0]["members"] == 1:
        return ""
    sides = [_side(row) for row in rows]
    return (
        f"Intervals wholly below 0: {sides.count(-1)} of {len(rows):,}, above 0: {sides.count(1)}; chance alone would "
        f"give about {0.025 * len(rows):,.1f} of each (2.5 %)."
    )


def _worst(rows: Sequence[Row]) -> str:
    """The class that each recalls least, which a treatment may change."""
    first, places = rows[0], decimals(rows)  # rows begin with the reference's
    worst = [(first["class"], first["reference_mean"], first["reference_trial"])]
    for trial in dict.fromkeys(row["trial"] for row in rows):
        least = min((row for row in rows if row["trial"] == trial), key=lambda row: row["mean"])
        worst.append((least["class"], least["mean"], trial))
    named = (f"{name} {100 * recall:.{places}f} ({trial})" for name, recall, trial in worst)
    return f"Worst class: {', '.join(named)}."


def _covers(rows: Sequence[Row]) -> str:
    lacking = sorted({row["class"] for row in rows if row["images_share"] is None})  # a single image, or none
    return covers(rows, lacking if len(lacking) < 2 else [f"{len(lacking)} classes"])


def _table(rows: Sequence[Row]) -> Table:
    first, places = rows[0], decimals(rows)
    table = plain_table(min_width=78)
    table.title = (
        f"{first['treatment']}, against {first['reference']}: recall × 100 ± 95 % interval, paired over "
        f"{paired_over(first)}"
    )
    table.caption = _worst(rows)
    table.add_column("class", overflow="fold", min_width=12)
    sides = (first["reference_trial"], str(first["trial"]))
    counted = ["test\nimages"] if _counts_tests(rows) else []
    headings = [f"samples\n{of}" for of in sides] + counted + [f"recall ↑\n{of}" for of in sides]
    for heading in (*headings, "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        recalls = (f"{100 * row[which]:.{places}f}" for which in ("reference_mean", "mean"))
        samples = (_samples(row, "reference_"), _samples(row), *_tests(row, rows))
        table.add_row(row["class"], *samples, *recalls, _difference_cell(row, places))
    return table


def class_figure(rows: Sequence[Row], title: str, path: Path, note: str = "") -> None:
    """Draw the differences with their intervals: a panel for each treatment, a line for each class, hardest on top.

    ``note``: as in :func:`class_tables`.
    """
    from matplotlib.figure import Figure

    trials = list(dict.fromkeys(row["trial"] for row in rows))
    classes = list(dict.fromkeys(row["class"] for row in rows))
    wide, deep = min(len(trials), PANELS_A_ROW), math.ceil(len(trials) / PANELS_A_ROW)
    figure = Figure(layout="constrained")
    says = (
        f"{title}: recall of each class × 100 minus that of {rows[0]['reference']} (in brackets"
        f"{', of n test images' if _counts_tests(rows) else ''}), with 95 % intervals; "
        f"green is better, red worse after Holm's correction for {rows[0]['of']:,} differences, dotted is unbounded; "
        f"{_covers(rows)}, and not corrected."
    )
    grid = figure.subplots(deep, wide, squeeze=False, sharex=True)
    for axes in grid.flat[len(trials) :]:
        axes.axis("off")
    for axes, trial in zip(grid.flat, trials, strict=False):
        lines = [row for row in rows if row["trial"] == trial]
        draw_intervals(axes, lines, range(len(classes)))
        named = lines if axes in grid[:, 0] else []  # a hundred ticks more in each panel would take a second
        counted = ["".join(f", n={count}" for count in _tests(row, rows)) for row in named]
        names = [
            f"{row['class']} ({100 * row['reference_mean']:.0f}{n})" for row, n in zip(named, counted, strict=True)
        ]
        axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
        axes.tick_params(labelbottom=True)
        axes.set_title(textwrap.fill(lines[0]["treatment"], 34), fontsize=7)
    left, right = grid[0, 0].get_xlim()  # all panels'
    grid[0, 0].set_xlim(max(left, -100), min(right, 100))  # no difference is larger, though an interval may be
    told = " ".join(filter(None, (says, _sides(rows), note)))
    fit(figure, grid, [told], PANEL_WIDTH, [0.17 * max(len(classes), 6)] * deep)
    save(figure, path, dpi=150)
