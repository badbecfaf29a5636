"""Tables as a terminal shows them: with little ink, and never cut."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

FOLDED = 12
"""Longer words of a text may be folded, in characters, unless its column has a minimum of its own."""


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
