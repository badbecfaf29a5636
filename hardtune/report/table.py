"""The front as a table: what the search saw, and the same on the test split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from hardtune.evaluation.metric import UNSEEN
from hardtune.report.records import Record

HELD_OUT = ("final", "ensemble")
"""How the names of metrics begin that are measured on held-out samples."""
ACRONYMS = ("ECE", "NLL", "AUROC", "AUPR", "AURC", "eAURC", "FPR95", "MSP", "MAD", "F1")
"""How words of metrics' names are displayed."""
FOLDED = 12
"""Longer words of a text may be folded, in characters, unless its column has a minimum of its own."""
_ON_TEST = {"final": "test", "final_std": "test_std", "ensemble": "test_ensemble"}


def on_test(metric: str) -> str | None:
    """The test-split counterpart of a held-out metric; None for one that is from the test split itself.

    >>> on_test("final/ece"), on_test("ensemble/nll"), on_test("test/ece")
    ('test/ece', 'test_ensemble/nll', None)
    """
    group, _, name = metric.partition("/")
    return f"{_ON_TEST[group]}/{name}" if group in _ON_TEST else None


def mean_of(metric: str) -> str:
    """Of a standard deviation over members, the mean that it belongs to; any other metric is itself.

    >>> mean_of("final_std/ece"), mean_of("final/ece")
    ('final/ece', 'final/ece')
    """
    group, _, name = metric.partition("/")
    return f"{group.removesuffix('_std')}/{name}"


def of_ensemble(metric: str) -> bool:
    """Whether it is measured on the averaged predictions, so that a trial has one of it, without a spread."""
    return metric.partition("/")[0] in ("ensemble", "test_ensemble")


def members_like(metric: str) -> str:
    """Of an ensemble's figure, the one of members that is better the same way; any other metric is itself.

    >>> members_like("test_ensemble/ece"), members_like("final/ece")
    ('test/ece', 'final/ece')
    """
    return f"test/{metric.partition('/')[2]}" if of_ensemble(metric) else metric


def rows(front: Sequence[Record], control: Record, objectives: Mapping[str, str]) -> list[dict[str, Any]]:
    """A plain row per record, the control last: its treatment, the objectives, and the same on the test split."""
    records = [*(record for record in front if record.number != control.number), control]
    on_front = {record.number for record in front}
    return [
        {
            "trial": record.trial,
            "treatment": str(record.treatment),
            "pareto": record.number in on_front,
            **{name: record.metrics[name] for name in objectives},
            **{name: record.metrics[name] for name in map(on_test, objectives) if name and name in record.metrics},
        }
        for record in records
    ]


def render(
    table_rows: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, str],
    title: str,
    selection_note: str,
    *,
    searched: bool = True,
) -> Table:
    """The rows for a terminal of 80 columns.

    Args:
        selection_note: The sentence that says so if the objectives were measured on the test split.
        searched: Whether treatments were searched for by the objectives; else they are a list's.
    """
    table = plain_table(title)
    pairs = not selection_note and any(on_test(name) in row for row in table_rows for name in objectives)
    saw, not_seen = (", which the search saw", ", which it did not") if searched else ("", "")
    held_out = f"Each figure: on held-out training data{saw} / on the test split{not_seen}."
    gap = " Recall gap: standard deviation of recall over classes." * any("recall_gap" in name for name in objectives)
    table.caption = f"{selection_note or (held_out if pairs else '')} ↓ lower is better, ↑ higher.{gap}".strip()
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("treatment", overflow="fold", min_width=12)
    between = " / " if len(objectives) < 4 else " /\n"  # else a terminal would cut figures off
    for name, words in labels(objectives).items():
        arrow = "↓" if objectives[name] == "min" else "↑"
        title = words if len(objectives) < 4 else words.replace(" ", "\n")
        table.add_column(f"{title} {arrow}", justify="right", no_wrap=True)
    for row in table_rows:
        figures = [
            between.join(f"{row[which]:.3f}" for which in (name, on_test(name))[: 1 + pairs] if which and which in row)
            for name in objectives
        ]
        is_control = row["trial"] == "control"
        if is_control:
            table.add_section()
        place = "on the front" if row["pareto"] else "for comparison"
        treatment = f"changes nothing ({place})" if is_control else row["treatment"]
        table.add_row(str(row["trial"]), treatment, *figures, style="yellow" if is_control else "")
    return table


def plain_table(title: str | None = None, **options: Any) -> Table:
    """An empty table with little ink, its title and caption on the left."""
    return Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), **options
    )


def show_table(console: Console, table: Table) -> None:
    """Print a :func:`plain_table` in full: where lines are too short for its figures, it is wider than they are.

    The terminal then breaks lines; rich would cut figures, which looks like others, and leave columns out.
    """
    widths = [_least_width(column) for column in table.columns]
    needed = 1 + sum(width + 2 for width in widths)  # an edge, and two spaces after each column
    if needed > console.width:
        table.width = needed
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
    console.print(table, crop=False)


def _least_width(column: Column) -> int:
    """In characters: its widest line if those are not to be wrapped, else what texts may be folded to."""
    text = "\n".join(str(cell) for cell in (column.header, *column.cells))
    if column.no_wrap:
        return max(map(cell_len, text.split("\n")))
    return column.min_width or min(FOLDED, max(map(cell_len, text.split()), default=1))


def labels(metrics: Iterable[str]) -> dict[str, str]:
    """The metrics' display names; those of held-out samples say so if others are of the test split.

    >>> labels(["final/recall_gap", "ensemble/nll"])
    {'final/recall_gap': 'recall gap', 'ensemble/nll': 'ensemble NLL'}
    >>> labels(["final/ece", "test/ece"])
    {'final/ece': 'held-out ECE', 'test/ece': 'test ECE'}
    """
    names = list(metrics)
    held_out = "held-out " if any(name.startswith(UNSEEN) for name in names) else ""
    return {name: held_out + label(name) if name.startswith(HELD_OUT) else label(name) for name in names}


def label(metric: str) -> str:
    """A metric's display name.

    >>> label("final/recall_gap"), label("ensemble/nll"), label("ood/msp_auroc"), label("final/piece")
    ('recall gap', 'ensemble NLL', 'OOD MSP AUROC', 'piece')
    """
    group, _, name = metric.rpartition("/")
    acronyms = {word.lower(): word for word in ACRONYMS}
    words = " ".join(acronyms.get(word, word) for word in name.split("_"))
    measured = {"final": "", "": "", "ood": "OOD ", "corruptions": "corrupted "}.get(group, f"{group} ")
    return measured.replace("_", " ") + words
