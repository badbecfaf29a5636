"""What sweeps found: fronts by any metrics, comparisons with confidence intervals, and tables for a paper.

    python -m hardtune results                                    the sweeps of a storage
    python -m hardtune results digits                             the latest of that name, as the sweep printed it
    python -m hardtune results digits --objectives test/nll test/worst_recall --figure front.pdf
    python -m hardtune results digits --compare                   its front against the control, with intervals
    python -m hardtune results digits --compare --table it.tex    the same for a paper
    python -m hardtune results digits --values --table it.tex     what each treatment reaches, mean ± deviation
    python -m hardtune results digits --compare 3 8 --metrics test/recall_gap test/ece
    python -m hardtune results digits --compare 3 --against 8     one trial against another
    python -m hardtune results digits --curve alpha --figure it.pdf      what a number of the treatments changes
    python -m hardtune results digits --classes 3                 which classes gain by it, and which pay
    python -m hardtune results digits --diagnostics control 3 --figure it.pdf    their reliability and risk-coverage
    python -m hardtune results digits-confirmed --pool            over all of its confirmations, with other seeds each
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
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hardtune import disk
from hardtune.command_line import add_storage_flag, make_room_for, plain_console
from hardtune.errors import InputError
from hardtune.store import local_folder
from hardtune.treatment import NUMBERS

if TYPE_CHECKING:
    from rich.console import Console

    from hardtune.report.sweeps import Kept


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
        "--values",
        nargs="*",
        type=trial,
        metavar="TRIAL",
        help="show figures as they are, mean ± standard deviation over members, control first (default: all finished)",
    )
    flags.add_argument(
        "--classes",
        nargs="*",
        type=int,
        metavar="TRIAL",
        help="compare their recall of each class with the control's (default: trials on the front)",
    )
    flags.add_argument(
        "--curve",
        choices=NUMBERS,
        metavar="FIELD",
        help=f"compare trials that differ in one number alone, as a curve against it ({', '.join(NUMBERS)})",
    )
    flags.add_argument(
        "--diagnostics",
        nargs="*",
        metavar="TRIAL",
        help="reliability and risk-coverage of trials over one another (control is one; default: it and the front)",
    )
    flags.add_argument("--against", type=int, metavar="TRIAL", help="compare with this trial, not with the control")
    flags.add_argument(
        "--pool",
        action="store_true",
        default=None,
        help="take all sweeps together that differ from this one only in their seed: intervals are over whole sweeps",
    )
    flags.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help="what --compare compares or --values shows, such as test/nll; alone, what a list's comparisons compare",
    )
    flags.add_argument("--figure", type=Path, metavar="FILE", help="also plot it (.png, .pdf or .svg)")
    flags.add_argument("--table", type=Path, metavar="FILE", help="also write it as a table (.md, .tex or .csv)")
    flags.add_argument("--csv", type=Path, metavar="FILE.csv", help="write all data of each trial")
    rows = ["trial", "member", "class", "class-member", "corruption"]
    flags.add_argument("--by", choices=rows, help="what a row of the CSV is (default: trial)")


def trial(text: str) -> int | str:
    """A trial's number, or ``control``; argparse calls what is neither an invalid value of this function's name."""
    return text if text == "control" else int(text)


def run(options: argparse.Namespace) -> int:
    """Print, draw and write what was asked for; 0."""
    from hardtune.commands.question import Question
    from hardtune.commands.shown import shown
    from hardtune.report.csv_tables import TABLES, write_csv
    from hardtune.report.sweeps import find, kept
    from hardtune.report.tables import show_table

    console = plain_console()
    storage = local_folder(options.storage)
    if options.sweep is None:
        flags = ["objectives", "compare", "values", "classes", "curve", "diagnostics", "against", "metrics", "pool"]
        flags += ["figure", "table", "csv", "by"]
        asked = [name for name in flags if vars(options)[name] is not None]
        if asked:
            raise InputError(f"--{asked[0]} is for a sweep: name one, or list them without it")
        _list(kept(storage), storage, console)
        return 0
    question = Question(find(storage, options.sweep), options)
    if options.by is not None and options.csv is None:
        raise InputError("--by is for --csv")
    if options.by == "corruption" and not any(record.corruptions for record in question.records):
        raise InputError(f"{question.sweep.id} measured no corruptions: its script does with --corruptions all")
    taken: dict[Path, str] = {}
    for flag, what in (("figure", "figure"), ("table", "table"), ("csv", "CSV file")):
        path = vars(options)[flag]
        if path is not None:
            make_room_for(path, what)
            other = taken.setdefault(path.resolve(), flag)
            if other != flag:
                raise InputError(f"--{other} and --{flag} are one file, {path}: give each another name")
    answer = shown(question)
    for table in answer.tables:
        show_table(console, table)
    for said in answer.notes:
        console.print(said, soft_wrap=True)
    if options.figure is not None:
        _written(options.figure, answer.draw)
        console.print(f"figure  {options.figure}", soft_wrap=True)
    if options.table is not None:
        _written(options.table, answer.write)
        console.print(f"table  {options.table}", soft_wrap=True)
    if options.csv is not None:
        chosen_on = "test split" if question.sweep.selection_note else "held-out training data"
        chosen_on = chosen_on if question.sweep.is_search else ""  # of a list nothing is chosen
        found = TABLES[options.by or "trial"](question.records)
        rows = [{"sweep": question.title, **row, "chosen_on": chosen_on} for row in found]
        _written(options.csv, lambda path: write_csv(rows, path))
        console.print(f"CSV  {options.csv}", soft_wrap=True)
    return 0


def _written(path: Path, write: Callable[[Path], None]) -> None:
    try:
        write(path)
    except OSError as error:
        if disk.trouble(error) is not None:  # which is said as such
            raise
        raise InputError(f"cannot write {path}: {error.strerror}") from error


def _list(there: Sequence[Kept], storage: Path, console: Console) -> None:
    from hardtune.report.tables import plain_table, show_table

    if not there:
        console.print(f"no sweep left anything in {storage}", soft_wrap=True)
        return
    table = plain_table()
    table.add_column("sweep", no_wrap=True)  # one copies these in one piece
    for column in ("finished", "stopped", "failed", "last result"):
        table.add_column(column, justify="right", no_wrap=True)
    for sweep in there:
        found = sweep.records
        states = Counter(record.state for record in found if not record.is_control)
        last = max((path.stat().st_mtime for path in (sweep.folder / "trials").glob("*.json")), default=None)
        when = "none" if last is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(last))
        table.add_row(sweep.id, *(str(states[state]) for state in ("finished", "stopped", "failed")), when)
    show_table(console, table)
