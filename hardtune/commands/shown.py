"""What ``results`` shows of a sweep: its front, comparisons of trials, or of classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from hardtune.commands.question import Question
from hardtune.errors import InputError, unknown
from hardtune.report.classes import class_figure, class_rows, class_table, class_tables
from hardtune.report.comparison import Comparison, Row, compared, metrics_of, tried
from hardtune.report.comparison_views import comparison_figure, tables
from hardtune.report.csv_tables import write_csv
from hardtune.report.curves import curve_rows, curves, each_once
from hardtune.report.curves_figure import curve_figure
from hardtune.report.front_figure import pareto_figure
from hardtune.report.front_table import render, rows
from hardtune.report.metric_names import figures_of_members, mean_of, members_like, of_ensemble, on_test
from hardtune.report.overlaid import curve_points, curves_table, overlaid_figure
from hardtune.report.paper_tables import write_tables
from hardtune.report.pareto import front
from hardtune.report.pooled import unlike
from hardtune.report.records import Record, by_treatment
from hardtune.report.standing import kept_off_front, saved_by_stopping
from hardtune.report.values import value_rows, value_tables
from hardtune.report.verdict import verdict

MOST_APART = 3
"""Sweeps of which a note says why they are not pooled."""


@dataclass(frozen=True)
class Shown:
    """An answer, for a terminal and for files."""

    rows: Sequence[Row]
    """All that is known."""
    tables: Sequence[Table]
    """For a terminal of 80 columns."""
    draw: Callable[[Path], None]
    """Draws it as a figure."""
    notes: Sequence[str] = ()
    wide: Sequence[Table] = ()
    """For a file, if others than for a terminal."""
    of: str = ""
    """The sweep's id, or its name if pooled."""

    def write(self, path: Path) -> None:
        """As Markdown or LaTeX, or all that is known of each row as CSV: p-values, too, in full precision."""
        if path.suffix == ".csv":
            write_csv(self.rows, path)
        else:
            write_tables(self.wide or self.tables, path, self.of)


def shown(question: Question) -> Shown:
    """The answer; ``InputError`` if there is none."""
    found = _shown(question)
    answer = replace(found, rows=[{"sweep": question.title, **row} for row in found.rows], of=question.title)
    if len(question.pool) == 1:
        return answer
    ids = ", ".join(one.id for one in question.pool)
    apart = [str(record.number) for record in question.records if record.state == "stopped"]
    some = f"trial {apart[0]} is" if len(apart) == 1 else f"trials {', '.join(apart)} are"
    counted = "" if question.options.values is not None else ", but counted in the correction"
    lacking = f"; {some} left out, unfinished in at least one{counted}" if apart else ""
    few = "; two hardly tell how much sweeps differ, so add a seed" if len(question.pool) == 2 else ""
    others = unlike(question.sweep, question.namesakes)
    told = [f"not pooled: {said}" for said in others[-MOST_APART:]]
    more = [f"not pooled either: {len(others) - MOST_APART} earlier ones"] if len(others) > MOST_APART else []
    return replace(answer, notes=[*answer.notes, f"pooled: {ids}{lacking}{few}", *told, *more])


def _shown(question: Question) -> Shown:
    sweep, options = question.sweep, question.options
    for name in ("objectives", "csv"):
        if options.pool and vars(options)[name] is not None:
            instead = " (--table FILE.csv has what is pooled)" if name == "csv" else ""
            raise InputError(f"--pool compares sweeps: leave --{name} out{instead}")
    for metric in options.metrics or ():
        if "=" in metric:
            raise InputError(
                f"--metrics takes names alone, and their directions are known: leave '=' out of {metric!r}"
            )
    objectives = question.objectives  # what is wrong with them comes before what is wrong with trials
    for flag, (says, others, answer) in _ON_ITS_OWN.items():
        asked = vars(options)[flag]
        if asked is not None:
            for other in others:
                if vars(options)[other] is not None:
                    raise InputError(f"--{flag} {says}: leave --{other} out")
            return answer(question, asked)
    chosen = sweep.is_search or options.objectives
    if any(value is not None for value in (options.compare, options.against, options.metrics if chosen else None)):
        return _comparisons(question, [_compared(question, options.compare)])
    if chosen:
        return _front(question, objectives)
    families = sweep.comparisons
    if options.metrics is not None:
        families = [replace(one, metrics=_metrics(question)) for one in families]
    own = [compared(question.records, one, sweep.metrics, over=question.over) for one in families]
    return _comparisons(question, [family for family in own if family] or [_compared(question, options.compare)])


def _front(question: Question, objectives: Mapping[str, str]) -> Shown:
    sweep, found = question.sweep, question.records
    best = front(found, objectives)
    title = f"{'Pareto front' if len(objectives) > 1 else 'Best'} of {sweep.id}"
    note = question.note
    lines = rows(best, question.control, objectives)
    worse = kept_off_front(found, sweep.no_worse_than_control)
    saved = saved_by_stopping(found, objectives, sweep.recipe.members)
    # By other objectives than the search's nothing was chosen, and of a list nothing was either.
    chose = sweep.is_search and not question.options.objectives and not sweep.selection_note
    judged = verdict(found, objectives, sweep.metrics) if chose else ""
    counted = f"{sweep.id}: {len(found) - 1} trials"
    return Shown(
        lines,
        [render(lines, objectives, title, note, searched=sweep.is_search)],
        draw=lambda path: pareto_figure(
            found, best, objectives, counted, path, note, held_out=sweep.recipe.validation != "test"
        ),
        notes=[said for said in (worse, saved, judged) if said],
    )


def _comparisons(question: Question, families: Sequence[Sequence[Row]]) -> Shown:
    note = question.note
    return Shown(
        [row for family in families for row in family],
        [table for family in families for table in tables(family, note)],
        draw=lambda path: comparison_figure(families, question.title, path, note),
        wide=[table for family in families for table in tables(family, note, most=len(family), prospects=False)],
    )


def _classes(question: Question, named: Sequence[int]) -> Shown:
    reference, chosen = _asked(question, "--classes", named)
    others = [treatment for treatment in tried(question.records) if treatment != reference.treatment.canonical()]
    found, note = class_rows(chosen, reference, among=len(others), over=question.over), question.note
    return Shown(
        found,
        class_tables(found, note),
        draw=lambda path: class_figure(found, question.title, path, note),
        wide=[class_table(found, note)] if len(chosen) > 1 else (),
    )


def _curve(question: Question, field: str) -> Shown:
    found = curves(question.records, field)
    chosen = [record.number for curve in found for record in curve.trials.values() if not record.is_control]
    lines = curve_rows(found, field, _compared(question, list(dict.fromkeys(chosen))))
    against = question.control.number if question.options.against is None else question.options.against
    starts = [next((at for at, one in curve.trials.items() if one.number == against), None) for curve in found]
    once, note = each_once(lines), question.note
    return Shown(
        lines,
        tables(once, note),
        draw=lambda path: curve_figure(lines, field, starts, question.title, path, note),
        wide=tables(once, note, most=len(once), prospects=False),
    )


def _diagnostics(question: Question, named: Sequence[str]) -> Shown:
    sweep, note = question.sweep, question.note
    there = {str(one.trial): one for one in question.records if one.curves}
    chooses = sweep.is_search or question.options.objectives
    best = front(question.records, question.objectives) if chooses else question.records
    chosen = named or ["control", *(str(one.number) for one in best if not one.is_control and one.curves)]
    for name in chosen:
        if name not in there:
            raise InputError(f"there are no curves of trial {name!r}: choose from {', '.join(there)}")
    found = [there[name] for name in dict.fromkeys(chosen)]  # twice, it would be two lines
    return Shown(
        curve_points(found),
        [curves_table(found, f"Calibration and selective prediction in {sweep.id}", note)],
        draw=lambda path: overlaid_figure(found, question.title, path, note),
    )


def _values(question: Question, named: Sequence[int | str]) -> Shown:
    sweep, control, known, note = question.sweep, question.control, question.sweep.metrics, question.note
    there = question.figures
    numbers = [name for name in dict.fromkeys(named) if isinstance(name, int)]  # the control is there anyway
    question.check_finished(numbers, "shown")
    objectives = map(mean_of, question.objectives)  # a standard deviation is shown after its mean
    metrics = list(dict.fromkeys(question.options.metrics or (on_test(name) or name for name in objectives)))
    for metric in metrics:
        if metric not in there:
            raise unknown("figure", metric, there)
    chosen = [control, *(question.finished[number] for number in numbers)]
    chosen = chosen if named else list(by_treatment(question.records).values())
    lines = value_rows(chosen, metrics, figures_of_members(metrics=known), over=question.over)
    data, members = sweep.data, sweep.recipe.members
    return Shown(
        lines,
        value_tables(lines, data, members, note),
        draw=lambda path: None,
        wide=value_tables(lines, data, members, note, most=len(metrics)),
    )


def _asked(question: Question, flag: str, named: Sequence[int] | None) -> tuple[Record, list[Record]]:
    """What to compare with, and the trials: those named by the flag, or those on the front or of the sweep's list."""
    sweep, found, options = question.sweep, question.records, question.options
    finished = question.finished
    best = front(found, question.objectives) if sweep.is_search or options.objectives else list(finished.values())
    against = options.against
    chosen = named or [record.number for record in best if not record.is_control and record.number != against]
    if not finished:
        raise InputError(f"no trial of {sweep.id} has finished yet, so there is nothing to compare with its control")
    if not chosen:
        alone = [record for record in best if not record.is_control]
        what = f"trial {against}" if alone else "its control"
        raise InputError(f"the front of {sweep.id} is {what} alone: name the trials to compare, after {flag}")
    question.check_finished(chosen if against is None else (against, *chosen), "compared")
    reference = question.control if against is None else finished[against]
    # Of a treatment that was tried twice, the first that is named.
    others = {finished[number].treatment.canonical(): finished[number] for number in reversed(chosen)}
    others.pop(reference.treatment.canonical(), None)
    if not others:
        same = "changes nothing, as the control" if against is None else f"has the treatment of trial {against}"
        raise InputError(f"trial {chosen[0]} {same}: name others to compare with it")
    return reference, list(others.values())[::-1]


def _compared(question: Question, named: Sequence[int] | None) -> list[Row]:
    """The named trials compared with the control or another, or those on the front or of the sweep's list."""
    sweep, found, control = question.sweep, question.records, question.control
    reference, chosen = _asked(question, "--compare", named)
    comparison = Comparison(tuple(tried(found)), reference.treatment, _metrics(question))
    found_out = compared(found, comparison, sweep.metrics, over=question.over)
    asked = {record.treatment.canonical() for record in chosen}
    whose = {record.number: record.treatment.canonical() for record in found}
    shown = {row["trial"] for row in found_out if whose[row["trial"]] in asked}
    names = {number: "" if number == control.number else f"{number}: " for number in shown}
    return [{**row, "treatment": names[row["trial"]] + row["treatment"]} for row in found_out if row["trial"] in shown]


def _metrics(question: Question) -> tuple[str, ...]:
    """What to compare, of members or, if pooled, of ensembles: the figures asked for, or objectives and a few more."""
    known, there = question.sweep.metrics, question.control.members  # pooled, with ensembles' figures
    metrics = tuple(question.options.metrics or metrics_of(question.objectives, there, known))
    for metric in metrics:
        if of_ensemble(metric) and metric in question.control.metrics and metric not in there:
            raise InputError(
                f"{metric} is of one ensemble, which has no spread, so it cannot be compared: --values shows it"
            )
        if metric not in there:
            raise unknown("figure of a member" if question.over == "members" else "figure", metric, there)
        if members_like(metric) not in figures_of_members(metrics=known):
            raise InputError(f"the sweep does not say which way {metric} is better, so it cannot be compared")
    return metrics


_ON_ITS_OWN: Mapping[str, tuple[str, Sequence[str], Callable[[Question, Any], Shown]]] = {
    "values": (
        "is a table of figures as they are",
        ("objectives", "compare", "classes", "curve", "diagnostics", "against", "figure"),
        _values,
    ),
    "diagnostics": (
        "shows trials of one sweep as they are",
        ("compare", "classes", "curve", "against", "metrics", "pool"),
        _diagnostics,
    ),
    "classes": ("compares recall class by class", ("compare", "metrics", "curve"), _classes),
    "curve": ("compares all trials that are on one", ("compare",), _curve),
}
"""Flags that ask for another answer than the front or comparisons: what it is, flags that mean nothing beside it, and
the answer to what is asked by it."""
