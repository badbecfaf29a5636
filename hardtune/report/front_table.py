"""The front as a table: what the search saw, and the same on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from hardtune.report.metric_names import labels, on_test
from hardtune.report.records import Record
from hardtune.report.tables import plain_table


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
