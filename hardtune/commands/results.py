"""What sweeps found: fronts by any metrics, comparisons with confidence intervals, and tables for a paper.

    python -m hardtune results                                    the sweeps of a storage
    python -m hardtune results digits                             the latest of that name, as the sweep printed it
    python -m hardtune results digits --objectives test/nll test/worst_recall --figure front.pdf
    python -m hardtune results digits --compare                   its front against the control, with intervals
    python -m hardtune results digits --compare --table it.tex    the same for a paper
    python -m hardtune results digits --compare 3 8 --metrics test/recall_gap test/ece
    python -m hardtune results digits --compare 3 --against 8     one trial against another
    python -m hardtune results digits --classes 3                 which classes gain by it, and which pay
    python -m hardtune results digits --csv trials.csv            each trial's treatment and all its figures
    python -m hardtune results digits --csv classes.csv --by class

The search selects among many treatments by metrics on held-out data, so those are optimistically biased. Metrics on the
test split are less biased, but still are: a network that is lucky on one split is often lucky on the other. Comparisons
use test metrics, paired by the members' seeds and by image, with Holm's correction over every treatment that the search
tried. For unbiased figures, run the sweep's script with --confirm, which retrains the front with another seed. You can
also inspect sweeps that are still running, were stopped or failed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hardtune import disk
from hardtune.command_line import add_storage_flag, make_room_for, plain_console
from hardtune.errors import InputError, unknown
from hardtune.store import local_folder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from hardtune.report.comparison import Row
    from hardtune.report.records import Record
    from hardtune.report.sweeps import Kept
    from hardtune.treatment import Treatment

Write = Callable[[Path], None]


class Shown(NamedTuple):
    """What was printed, for files."""

    tables: Sequence[Table]
    draw: Write
    """Draws it as a figure."""


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add flags for which sweep, and what to show of it."""
    flags.add_argument("sweep", nargs="?", help="the sweep's name (latest run) or id; without it, lists all")
    add_storage_flag(flags)
    flags.add_argument(
        "--objectives",
        nargs="+",
        metavar="NAME",
        help="show the front of these metrics, not of the search's own (NAME=min or NAME=max for your own metrics)",
    )
    flags.add_argument(
        "--compare",
        nargs="*",
        type=int,
        metavar="TRIAL",
        help="compare trials with the control (default: those on the front)",
    )
    flags.add_argument(
        "--classes",
        nargs="*",
        type=int,
        metavar="TRIAL",
        help="compare their recall of each class with the control's (default: trials on the front)",
    )
    flags.add_argument("--against", type=int, metavar="TRIAL", help="compare with this trial, not with the control")
    flags.add_argument("--metrics", nargs="+", metavar="NAME", help="member metrics that --compare compares")
    flags.add_argument("--figure", type=Path, metavar="FILE.png", help="also plot it (.png, .pdf or .svg)")
    flags.add_argument("--table", type=Path, metavar="FILE.md", help="also write it as a table (.md or .tex)")
    flags.add_argument("--csv", type=Path, metavar="FILE.csv", help="write all data of each trial")
    flags.add_argument("--by", choices=["trial", "member", "class"], help="what a row of the CSV is (default: trial)")


def run(options: argparse.Namespace) -> int:
    """Print, draw and write what was asked for; 0."""
    from hardtune.report.comparison import compared
    from hardtune.report.csv_tables import TABLES, write_csv
    from hardtune.report.paper_tables import write_tables
    from hardtune.report.sweeps import find, kept

    console = plain_console()
    storage = local_folder(options.storage)
    if options.sweep is None:
        flags = ("objectives", "compare", "classes", "against", "metrics", "figure", "table", "csv", "by")
        asked = [name for name in flags if vars(options)[name] is not None]
        if asked:
            raise InputError(f"--{asked[0]} is for a sweep: name one, or list them without it")
        _list(kept(storage), storage, console)
        return 0
    sweep = find(storage, options.sweep)
    found = sweep.records
    control = next((record for record in found if record.is_control), None)
    if control is None:
        raise InputError(f"sweep {sweep.id} has no results yet: not even its control is trained")
    if options.by is not None and options.csv is None:
        raise InputError("--by is for --csv")
    for path, what in ((options.figure, "figure"), (options.table, "table"), (options.csv, "CSV file")):
        if path is not None:
            make_room_for(path, what)
    objectives = _directions(options.objectives, sweep, control) if options.objectives else sweep.objectives
    comparing = any(value is not None for value in (options.compare, options.against, options.metrics))
    if options.classes is not None:
        for name in ("compare", "metrics"):
            if vars(options)[name] is not None:
                raise InputError(f"--classes compares recall class by class: leave --{name} out")
        shown = _classes(sweep, found, control, objectives, options, console)
    elif comparing or not (options.objectives or sweep.is_search):
        own = [] if comparing else [compared(found, one, sweep.metrics) for one in sweep.comparisons] or _former(sweep)
        families = [rows for rows in own if rows] or [_compared(sweep, found, control, objectives, options)]
        shown = _show(families, sweep, console)
    else:
        shown = _front(sweep, found, control, objectives, console)
    if options.figure is not None:
        _written(options.figure, shown.draw)
        console.print(f"figure  {options.figure}", soft_wrap=True)
    if options.table is not None:
        _written(options.table, lambda path: write_tables(shown.tables, path))
        console.print(f"table  {options.table}", soft_wrap=True)
    if options.csv is not None:
        chosen_on = "test split" if sweep.selection_note else "held-out training data"
        rows = [{**row, "chosen_on": chosen_on} for row in TABLES[options.by or "trial"](found)]
        _written(options.csv, lambda path: write_csv(rows, path))
        console.print(f"CSV  {options.csv}", soft_wrap=True)
    return 0


def _written(path: Path, write: Write) -> None:
    try:
        write(path)
    except OSError as error:
        if disk.trouble(error) is not None:  # which is said as such
            raise
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _list(there: Sequence[Kept], storage: Path, console: Console) -> None:
    from hardtune.report.table import plain_table

    if not there:
        console.print(f"no sweep left anything in {storage}", soft_wrap=True)
        return
    table = plain_table()
    table.add_column("sweep", overflow="fold")
    for column in ("finished", "stopped", "failed", "last result"):
        table.add_column(column, justify="right", no_wrap=True)
    for sweep in there:
        found = sweep.records
        states = Counter(record.state for record in found if not record.is_control)
        last = max((path.stat().st_mtime for path in (sweep.folder / "trials").glob("*.json")), default=None)
        when = "none" if last is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(last))
        table.add_row(sweep.id, *(str(states[state]) for state in ("finished", "stopped", "failed")), when)
    console.print(table)


def _directions(names: Sequence[str], sweep: Kept, control: Record) -> dict[str, str]:
    """Each figure's better direction: as given on the command line, as the sweep had it, or as known in general."""
    from hardtune.report.comparison import figures_of_members
    from hardtune.report.pareto import check_objective

    known: Mapping[str, str] = {**figures_of_members(metrics=sweep.metrics), **sweep.objectives}
    metrics: Mapping[str, str] = sweep.metrics
    there = [name for name in control.metrics if not name.partition("/")[0].endswith("_std")]
    directions = {}
    for text in names:
        name, _, way = text.partition("=")
        if name not in there:
            raise unknown("figure", name, there)
        check_objective(name)
        better = known.get(name) or metrics.get(name.rpartition("/")[2], "")
        directions[name] = way or better
        if directions[name] not in ("min", "max"):
            raise InputError(f"say which way {name} is better: {name}=min or {name}=max")
        if better and directions[name] != better:
            raise InputError(f"objective {name!r} is {way!r}, but {better!r} is better")
    return directions


def _front(
    sweep: Kept, found: Sequence[Record], control: Record, objectives: Mapping[str, str], console: Console
) -> Shown:
    from hardtune.evaluation.metric import UNSEEN
    from hardtune.report.figure import pareto_figure
    from hardtune.report.pareto import front
    from hardtune.report.standing import kept_off_front, saved_by_stopping
    from hardtune.report.table import render, rows

    best = front(found, objectives)
    title = f"{'Pareto front' if len(objectives) > 1 else 'Best'} of {sweep.id}"
    by_test = any(name.startswith(UNSEEN) for name in objectives)
    note = "Chosen on the test split." if by_test else sweep.selection_note
    table = render(rows(best, control, objectives), objectives, title, note)
    console.print(table)
    worse = kept_off_front(found, list(sweep.content.get("no_worse_than_control", ())))
    for said in filter(None, (worse, saved_by_stopping(found, objectives, sweep.recipe.members))):
        console.print(said, soft_wrap=True)
    title = f"{sweep.id}: {len(found) - 1} trials"
    return Shown([table], lambda path: pareto_figure(found, best, objectives, title, path, note))


def _former(sweep: Kept) -> list[list[Row]]:
    """The comparisons that a sweep of an earlier version left, whose intervals are over seeds alone."""
    from hardtune.report.comparison import better

    path = sweep.folder / "comparison.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    families = [list(family) for _, family in groupby(rows, lambda row: (row.get("comparison"), row["reference"]))]
    for family in families:
        lines = len({(row.get("trial"), row["treatment"]) for row in family})
        for row in family:
            way = better(row["metric"], sweep.metrics)
            row.update({"trial": None, "better": way, "of": lines, "images_share": None} | row)
    return families


def _show(comparisons: Sequence[list[Row]], sweep: Kept, console: Console) -> Shown:
    from hardtune.report.comparison_views import comparison_figure, tables

    for rows in comparisons:
        for table in tables(rows, sweep.selection_note):
            console.print(table)
    title = f"{sweep.id}: {comparisons[0][0]['members']} members"
    wide = [table for rows in comparisons for table in tables(rows, sweep.selection_note, most=len(rows))]
    return Shown(wide, lambda path: comparison_figure(comparisons, title, path, sweep.selection_note))


def _classes(
    sweep: Kept,
    found: Sequence[Record],
    control: Record,
    objectives: Mapping[str, str],
    options: argparse.Namespace,
    console: Console,
) -> Shown:
    from hardtune.report.classes import class_figure, class_rows, class_tables

    reference, chosen = _asked(sweep, found, control, objectives, options)
    others = [treatment for treatment in _tried(found) if treatment != reference.treatment.canonical()]
    rows = class_rows(chosen, reference, tried=len(others))
    made = class_tables(rows, sweep.selection_note)
    for table in made:
        console.print(table)
    return Shown(made, lambda path: class_figure(rows, sweep.id, path, sweep.selection_note))


def _tried(found: Sequence[Record]) -> list[Treatment]:
    """What trials chosen among many are corrected for: all of them."""
    ended = (record for record in found if record.state in ("finished", "stopped") and not record.is_control)
    return list(dict.fromkeys(record.treatment.canonical() for record in ended))


def _asked(
    sweep: Kept, found: Sequence[Record], control: Record, objectives: Mapping[str, str], options: argparse.Namespace
) -> tuple[Record, list[Record]]:
    """What to compare with, and the trials: those named, or those on the front or of the sweep's list."""
    from hardtune.report.pareto import front

    flag, named = ("--compare", options.compare) if options.classes is None else ("--classes", options.classes)
    finished = {record.number: record for record in found if record.state == "finished" and not record.is_control}
    best = front(found, objectives) if sweep.is_search or options.objectives else list(finished.values())
    against = options.against
    chosen = named or [record.number for record in best if not record.is_control and record.number != against]
    if not finished:
        raise InputError(f"no trial of {sweep.id} has finished yet, so there is nothing to compare with its control")
    if not chosen:
        alone = [record for record in best if not record.is_control]
        what = f"trial {against}" if alone else "its control"
        raise InputError(f"the front of {sweep.id} is {what} alone: name the trials to compare, after {flag}")
    ended = {record.number for record in found}
    for number in chosen if against is None else (against, *chosen):
        if number not in finished:
            choices = ", ".join(map(str, finished))
            why = "has not finished" if number in ended else "is not there"
            raise InputError(f"trial {number} {why}, so it cannot be compared: choose from {choices}")
    reference = control if against is None else finished[against]
    # Of a treatment that was tried twice, the first that is named.
    others = {finished[number].treatment.canonical(): finished[number] for number in reversed(chosen)}
    others.pop(reference.treatment.canonical(), None)
    if not others:
        same = "changes nothing, as the control" if against is None else f"has the treatment of trial {against}"
        raise InputError(f"trial {chosen[0]} {same}: name others to compare with it")
    return reference, list(others.values())[::-1]


def _compared(
    sweep: Kept, found: Sequence[Record], control: Record, objectives: Mapping[str, str], options: argparse.Namespace
) -> list[Row]:
    """The named trials compared with the control or another, or those on the front or of the sweep's list."""
    from hardtune.report.comparison import Comparison, compared, figures_of_members, metrics_of

    reference, chosen = _asked(sweep, found, control, objectives, options)
    metrics = tuple(options.metrics or metrics_of(sweep.objectives, control.members, sweep.metrics))
    for metric in metrics:
        if metric not in control.members:
            raise unknown("figure of a member", metric, control.members)
        if metric not in figures_of_members(metrics=sweep.metrics):
            raise InputError(f"the sweep does not say which way {metric} is better, so it cannot be compared")
    rows = compared(found, Comparison(tuple(_tried(found)), reference.treatment, metrics), sweep.metrics)
    asked = {record.treatment.canonical() for record in chosen}
    whose = {record.number: record.treatment.canonical() for record in found}
    shown = {row["trial"] for row in rows if whose[row["trial"]] in asked}
    names = {number: "" if number == control.number else f"{number}: " for number in shown}
    return [{**row, "treatment": names[row["trial"]] + row["treatment"]} for row in rows if row["trial"] in shown]
