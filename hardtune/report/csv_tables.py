"""All contents of records, as flat tables for other programs."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hardtune import csv_files
from hardtune.report.records import Record

Row = dict[str, Any]


def by_trial(records: Sequence[Record]) -> list[Row]:
    """A row per trial: its treatment, field by field (those without effect at their defaults), and every figure."""
    return [
        {
            **_named(record),
            **dataclasses.asdict(record.treatment.canonical()),
            **record.metrics,
            "shortfall": record.shortfall,
            "reason": record.reason,
            "warning": record.warning,
        }
        for record in records
    ]


def by_member(records: Sequence[Record]) -> list[Row]:
    """A row per member of each trial; members of equal number share their seed."""
    return [
        {**_named(record), "member": member, **{name: values[member] for name, values in record.members.items()}}
        for record in records
        for member in range(len(next(iter(record.members.values()), ())))
    ]


def by_class(records: Sequence[Record]) -> list[Row]:
    """A row per class of each trial."""
    return [
        {**_named(record), "class": name, **figures} for record in records for name, figures in record.per_class.items()
    ]


def by_class_member(records: Sequence[Record]) -> list[Row]:
    """A row per class and member of each trial, as a mixed model takes it: its recall on ``test_size`` test images.

    Without classes that have no test images; ``test_size`` is empty where an earlier sweep did not count them.
    """
    return [
        {
            **_named(record),
            "class": name,
            "member": member,
            "test_size": record.per_class[name].get("test_size"),
            "test_recall": recall,
        }
        for record in records
        for name, recalls in record.recalls.items()
        for member, recall in enumerate(recalls["members"])
    ]


def by_corruption(records: Sequence[Record]) -> list[Row]:
    """A row per kind and severity of corruption of each trial for which they were measured."""
    return [{**_named(record), **figures} for record in records for figures in record.corruptions]


TABLES: Mapping[str, Callable[[Sequence[Record]], list[Row]]] = {
    "trial": by_trial,
    "member": by_member,
    "class": by_class,
    "class-member": by_class_member,
    "corruption": by_corruption,
}
"""By what a row stands for."""


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write the rows, with a column for every key that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with csv_files.opened(path) as file:
        lines = csv.DictWriter(file, columns)
        lines.writeheader()
        lines.writerows(rows)


def _named(record: Record) -> Row:
    return {"trial": record.trial, "treatment": str(record.treatment), "state": record.state}
