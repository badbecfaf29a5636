"""What a run in MLflow has besides numbers: tables and figures."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from hardtune.report.drawing import one_at_a_time
from hardtune.report.records import Record

Rows = Sequence[Mapping[str, Any]]
"""A table: rows with the same columns."""


class FilesRefused(Exception):
    """MLflow answers, but its artifact store accepts no files from here."""


def log_tables(client: MlflowClient, run: str, tables: Mapping[str, Rows]) -> None:
    """Log the tables that have rows, for the UI to show; unlike ``log_table``, repeating it adds no rows."""
    shown_as = []
    for name, rows in tables.items():
        if rows:
            table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
            client.log_dict(run, table, f"{name}.json")
            shown_as.append({"path": f"{name}.json", "type": "table"})
    if shown_as:
        client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(shown_as))


def log_diagnostics(client: MlflowClient, run: str, record: Record) -> None:
    """Draw and log how well calibrated the record's networks are."""
    from hardtune.report.diagnostics import diagnostics_figure

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "diagnostics.png")
        with one_at_a_time:
            diagnostics_figure(record, path)
        client.log_artifact(run, str(path))
