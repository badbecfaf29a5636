"""Runs a sweep and shows what it found, for the command line and for Python."""

from __future__ import annotations

import shlex
import tempfile
from typing import TYPE_CHECKING

from hardtune import disk
from hardtune.command_line import default_storage
from hardtune.report.comparison_views import tables
from hardtune.report.front_table import render
from hardtune.report.pareto import front
from hardtune.report.standing import kept_off_front, saved_by_stopping
from hardtune.report.sweeps import selection_note
from hardtune.report.tables import show_table
from hardtune.sweep.definition import Place, Sweep
from hardtune.sweep.live import View
from hardtune.sweep.passwords import without_password
from hardtune.warned import pass_on

if TYPE_CHECKING:
    from hardtune.sweep.engine import Outcome


class CannotGoOn(OSError):
    """A disk that is full, broken or read-only stopped a sweep that had begun."""


def run_and_show(sweep: Sweep, place: Place, view: View, again: str, says: str = "") -> Outcome:
    """``run_sweep`` in its view, and below it what it found, what went wrong, and where to look further.

    ``says`` comes first; ``again`` is how one continues, said if there is a reason to. From here on, no warnings but
    hardtune's own are shown. ``CannotGoOn`` if a disk stops the sweep.
    """
    pass_on(view.say)
    if says:
        view.say(says)
    try:
        with view:
            # Imported late, so that --help and a mistyped flag answer at once.
            from hardtune.sweep.engine import run_sweep

            outcome = run_sweep(sweep, place, view)
        _show(outcome, sweep, place, view)
    except Exception as error:
        said = disk.trouble(error, f"it writes to {place.storage}, and to {tempfile.gettempdir()} for a while")
        if said is None or view.folder is None:
            raise
        raise CannotGoOn(f"the sweep cannot go on: {said}") from error
    broken = sum(record.again for record in outcome.records)
    if broken and not outcome.interrupted:
        trials = "a trial" if broken == 1 else f"{broken} trials"
        view.whole(f"{trials} ended in errors: {again}")
    elif outcome.unwritten and not outcome.interrupted:
        view.whole(f"to have them written, {again}")
    return outcome


def _show(outcome: Outcome, sweep: Sweep, place: Place, view: View) -> None:
    console = view.console
    note = selection_note(sweep.recipe.validation, searched=sweep.treatments is None)
    title = f"{'Pareto front' if len(sweep.objectives) > 1 else 'Best'} of {sweep.name}"
    if outcome.interrupted:
        console.print(f"Stopped after {len(outcome.records) - 1} of {sweep.trials} trials; so far:")
    if sweep.treatments is None:
        show_table(console, render(outcome.rows, sweep.objectives, title, note))
    worse = "" if sweep.treatments is not None else kept_off_front(outcome.records, list(sweep.tolerances))
    saved = saved_by_stopping(outcome.records, sweep.objectives, sweep.recipe.members)
    for said in filter(None, (worse, saved, outcome.verdict)):
        view.say(said)
    for table in (table for rows in outcome.comparisons if rows for table in tables(rows, note)):
        show_table(console, table)
    failed = [record for record in outcome.records if record.state == "failed"]
    for record in failed[:3]:
        view.say(f"trial {record.number} ({record.treatment}) failed: {record.reason}")
    if len(failed) > 3:
        view.say(f"and {len(failed) - 3} more failed; their reasons are in {outcome.ledger.trials}")
    for warning in {record.warning: record for record in outcome.records if record.warning}.values():
        view.say(f"trial {warning.number} ({warning.treatment}): {warning.warning}")
    for name, text in _where_to_look(outcome, sweep, place):
        console.print(f"{name}  ", style="bold", end="")
        view.whole(text)
    notes = [outcome.tracking_shortfall] * bool(outcome.tracking_shortfall)
    notes += _at_an_end(outcome, sweep, place)
    for note in (*notes, *(f"{path} could not be written: {why}" for path, why in outcome.unwritten.items())):
        view.say(f"note: {note}")


def _at_an_end(outcome: Outcome, sweep: Sweep, place: Place) -> list[str]:
    """Where one may search further, if there is one best treatment."""
    from hardtune.sweep.space import at_an_end  # late, as the engine

    if len(sweep.objectives) > 1 or place.subset:
        return []
    return at_an_end(sweep.space, front(outcome.records, sweep.objectives)[0].treatment)


def _where_to_look(outcome: Outcome, sweep: Sweep, place: Place) -> list[tuple[str, str]]:
    """Files, pages and commands, each with a word for what it shows."""
    say = [("figure", str(figure)) for figure in outcome.figures[:1]]
    say += [("classes", str(figure)) for figure in outcome.figures if figure.name == "classes.png"]
    if outcome.tracking_uri.startswith("http"):
        say.append(("MLflow", without_password(outcome.tracking_uri)))
    else:
        database = shlex.quote(without_password(outcome.tracking_uri))
        say.append(("MLflow", f"mlflow ui --workers 1 --backend-store-uri {database}"))
    say += outcome.links.items()
    storage = [] if place.storage == default_storage() else ["--storage", str(place.storage)]
    again = ["python", "-m", "hardtune", "results", outcome.ledger.id, *storage]
    say.append(("again", shlex.join(again)))
    robust = ["ood/msp_auroc"] * bool(sweep.ood) + ["corruptions/accuracy"] * bool(sweep.corruptions)
    if robust:
        say.append(("robust", shlex.join([*again, "--compare", "--metrics", *robust])))
    return say
