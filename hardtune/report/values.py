"""A paper's main table: what the control and treatments reach, and how much that varies over members or sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from hardtune.report.comparison import METRICS_A_TABLE, Row, judged
from hardtune.report.comparison_views import places
from hardtune.report.metric_names import heading, members_like, of_ensemble
from hardtune.report.records import Record
from hardtune.report.tables import plain_table


def value_rows(
    records: Sequence[Record], metrics: Sequence[str], better: Mapping[str, str], *, over: str = "members"
) -> list[Row]:
    """A row for each metric and record: its ``mean`` and standard deviation ``std`` (n - 1) over ``n`` of ``over``.

    ``std`` is None where n is 1, as of an ensemble's figures in one sweep. As in comparisons, ``recall_hard_easy``
    counts by the absolute value of its mean.

    Args:
        better: Which way members' figures are better, from :func:`~hardtune.report.metric_names.figures_of_members`.
        over: As in :func:`~hardtune.report.comparison.compared`.
    """
    rows: list[Row] = []
    for metric in metrics:
        for record in records:
            each = record.members.get(metric) or [record.metrics[metric]]  # of an ensemble there is one
            figures = judged(metric, each)
            rows.append(
                {
                    "trial": record.trial,
                    "treatment": str(record.treatment),
                    "metric": metric,
                    "better": better.get(members_like(metric)),
                    "mean": float(figures.mean()),
                    "std": float(figures.std(ddof=1)) if len(figures) > 1 else None,
                    "n": len(figures),
                    "over": over,
                }
            )
    return rows


def value_tables(
    rows: Sequence[Row], data: str, members: int, note: str = "", *, most: int = METRICS_A_TABLE
) -> list[Table]:
    """The rows of :func:`value_rows`: a line per record, at most so many metrics per table.

    They are times 100, as in comparisons, if one way is better; a temperature is as it is.

    Args:
        data: What the networks were trained on.
        members: Of each trial's ensemble, in each sweep.
        note: A sentence that readers must see.
    """
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    parts = (metrics[start : start + most] for start in range(0, len(metrics), most))
    return [_table([row for row in rows if row["metric"] in part], data, members, note) for part in parts]


def _table(rows: Sequence[Row], data: str, members: int, note: str) -> Table:
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    table = plain_table(min_width=78)
    n = max(row["n"] for row in rows)
    spread = f"mean × 100 ± standard deviation (n - 1) over {n} {rows[0]['over']}"
    table.title = f"{data}: {spread if n > 1 else 'figures × 100'}"
    table.caption = " ".join(
        said
        for said in (
            _apart(rows, members, n),
            "↓ lower is better, ↑ higher.",
            _measured(metrics),
            "± says nothing of other test images." * (n > 1),
            note,
        )
        if said
    )
    table.add_column("treatment", overflow="fold", min_width=15)
    lines: dict[object, list[str]] = {}
    for metric in metrics:
        column = [row for row in rows if row["metric"] == metric]
        arrow = {"min": " ↓", "max": " ↑", None: ""}[column[0]["better"]]
        table.add_column(heading(metric).replace(" ", "\n") + arrow, justify="right", no_wrap=True)
        times = 1 if column[0]["better"] is None else 100
        spreads = [times * row["std"] for row in column if row["std"] is not None]
        digits = places(spreads) if spreads else 2
        for row in column:
            name = "control" if row["trial"] == "control" else f"{row['trial']}: {row['treatment']}"
            after = "" if row["std"] is None else f" ±{times * row['std']:.{digits}f}"
            lines.setdefault(row["trial"], [name]).append(f"{times * row['mean']:.{digits}f}{after}")
    for trial, line in lines.items():
        table.add_row(*line, style="yellow" if trial == "control" else "")
    return table


def _apart(rows: Sequence[Row], members: int, n: int) -> str:
    """What a sweep counts by, which figures have no ±, and which are not times 100."""
    said = []
    ensembles = any(of_ensemble(row["metric"]) for row in rows)
    networks = "1 network" if members == 1 else f"{members} networks"
    if rows[0]["over"] == "sweeps":
        each = [f"the mean over its {networks}"] if any(not of_ensemble(row["metric"]) for row in rows) else []
        each += [f"its one ensemble of {networks} ({n} ensembles)"] if ensembles else []
        said.append(f"A sweep counts by {', or by '.join(each)}.")
    elif ensembles:
        said.append(f"A trial has one ensemble (of {networks}), so its figures have no ±.")
    elif n == 1:
        said.append("There is no ±, since one network has no spread.")
    plain = dict.fromkeys(heading(row["metric"]) for row in rows if row["better"] is None)
    return " ".join([*said, *([f"Not × 100: {', '.join(plain)}."] if plain else [])])


def _measured(metrics: Sequence[str]) -> str:
    """What figures are of that do not say so."""
    on_test = all(metric.startswith("test") for metric in metrics)
    return "Figures are of the test split." if on_test else "Figures are of the test split unless they say otherwise."
