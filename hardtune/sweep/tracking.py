"""The sweep in MLflow: one parent run, one child a trial, written by one thread of the driver.

The driver is the only writer, so a fresh database is created once and never raced for; writing happens behind the
sweep's back, so a slow or absent server delays the records and not the trials.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
# One failed request is retried by the queue below; MLflow's own back-off would hold a stop up for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from hardtune.errors import InputError
from hardtune.report.records import CONTROL, Record

SWEEP_TAG, TRIAL_TAG, PARETO_TAG = "hardtune.sweep", "hardtune.trial", "pareto"


def default_uri(storage: Path) -> str:
    """A database beside the results; absolute, since Ray changes directories."""
    return f"sqlite:///{storage / 'mlflow.db'}"


def check_tracking(uri: str) -> None:
    """Raise ``InputError`` unless records can be kept at ``uri``, within a few seconds."""
    scheme, _, rest = uri.partition("://")
    if scheme in ("http", "https"):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
        except (urllib.error.URLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"no MLflow server answers at {uri}: {reason}") from error
    elif scheme == "sqlite":
        path = Path("/" + rest.removeprefix("/").lstrip("/")) if rest.startswith("//") else Path(rest.removeprefix("/"))
        if not path.is_absolute():
            raise InputError(f"the tracking database needs an absolute path (sqlite:////…), got {uri}")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write a tracking database in {path.parent}")
    elif scheme not in ("postgresql", "mysql", "mssql") and not scheme.startswith(("postgresql+", "mysql+")):
        raise InputError(
            f"cannot track at {uri!r}: give http(s)://host:port, sqlite:////absolute/path.db, postgresql:// or mysql://"
        )


class Tracker:
    """Sends what happens in a sweep to MLflow, in order, as soon as MLflow takes it."""

    def __init__(self, uri: str, experiment: str, sweep: str, artifacts: Path | None) -> None:
        """``artifacts``: where a database's experiment keeps its files; None for a server, which knows itself."""
        self._uri, self._experiment, self._sweep, self._artifacts = uri, experiment, sweep, artifacts
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._runs: dict[int | None, str] = {}
        self._closed: set[int] = set()
        self._abandoned = threading.Event()
        self.experiment_id = ""
        self.trouble = ""
        """Why records wait, or empty while they flow."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def start(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the parent run, or the one that an earlier part of the same sweep left."""
        self._queue.put(lambda: self._open(dict(parameters), dict(tags)))

    def trial_started(self, record: Record) -> None:
        """Open the trial's child run."""
        self._queue.put(lambda: self._child(record))

    def member(self, record: Record, step: int, metrics: Mapping[str, float]) -> None:
        """Log one finished member's metrics at ``step``."""
        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, step) for name, value in metrics.items()]
        self._queue.put(lambda: self._client.log_batch(self._child(record), metrics=batch))

    def trial_ended(self, record: Record) -> None:
        """Log the trial's figures and close its run as what it became; nothing, if it is closed already."""
        now = int(time.time() * 1000)

        def close() -> None:
            run = self._child(record)
            if record.number in self._closed:
                return
            if record.metrics:
                metrics = [Metric(name, value, now, 0) for name, value in record.metrics.items()]
                self._client.log_batch(run, metrics=metrics)
            if record.per_class:
                self._table(run, [{"class": name, **values} for name, values in record.per_class.items()], "per_class")
            if record.reason:
                self._client.set_tag(run, "reason", record.reason)
            self._client.set_terminated(run, {"finished": "FINISHED", "stopped": "KILLED"}.get(record.state, "FAILED"))
            self._closed.add(record.number)

        self._queue.put(close)

    def sweep_ended(
        self, front: Sequence[Record], rows: Sequence[Mapping[str, Any]], files: Sequence[Path], status: str
    ) -> None:
        """Tag the trials on the front, put its table and the files on the parent, and close it."""
        on_front = {record.number for record in front}

        def close() -> None:
            parent = self._runs[None]
            for number, run in list(self._runs.items()):
                if number is not None:
                    self._client.set_tag(run, PARETO_TAG, "true" if number in on_front else "false")
            if rows:
                self._table(parent, rows, "pareto")
            for file in files:
                self._client.log_artifact(parent, str(file))
            self._client.set_terminated(parent, status)

        self._queue.put(close)

    def close(self, patience: float) -> bool:
        """Wait up to ``patience`` seconds for everything to be sent; returns whether it was."""
        self._queue.put(None)
        self._thread.join(patience)
        sent = not self._thread.is_alive()
        self._abandoned.set()
        return sent

    def chart_link(self, base: str = "http://127.0.0.1:5000") -> str:
        """The page that shows the sweep's trials as comparable charts (MLflow shows none until sorted by a metric)."""
        search = quote(f"tags.`{SWEEP_TAG}` = '{self._sweep}'")
        order = quote("metrics.`final/accuracy`")
        return (
            f"{base}/#/experiments/{self.experiment_id}/runs"
            f"?searchFilter={search}&orderByKey={order}&orderByAsc=false&compareRunsMode=CHART"
        )

    def _work(self) -> None:
        logging.getLogger("alembic").setLevel(logging.ERROR)
        while (job := self._queue.get()) is not None:
            pause = 0.5
            while not self._abandoned.is_set():
                try:
                    job()
                except Exception as error:  # a server in trouble has many faces; the records must outlast them all
                    self.trouble = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                    self._abandoned.wait(pause)
                    pause = min(2 * pause, 15.0)
                else:
                    self.trouble = ""
                    break

    def _open(self, parameters: dict[str, Any], tags: dict[str, str]) -> None:
        self._client = MlflowClient(self._uri)
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            location = None if self._artifacts is None else self._artifacts.joinpath(self._experiment).as_uri()
            # The kind makes the UI open on runs and metrics rather than on traces of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            self.experiment_id = self._client.create_experiment(self._experiment, location, kind)
        else:
            self.experiment_id = experiment.experiment_id
        token = None
        while True:
            page = self._client.search_runs(
                [self.experiment_id], f"tags.`{SWEEP_TAG}` = '{self._sweep}'", max_results=1000, page_token=token
            )
            for run in page:
                number = run.data.tags.get(TRIAL_TAG)
                self._runs[None if number is None else int(number)] = run.info.run_id
                if number is not None and run.info.status != "RUNNING":
                    self._closed.add(int(number))
            token = page.token
            if not token:
                break
        if None not in self._runs:
            parent = self._client.create_run(
                self.experiment_id, tags={SWEEP_TAG: self._sweep, **tags}, run_name=self._sweep
            )
            self._runs[None] = parent.info.run_id
            self._parameters(self._runs[None], parameters)
        self._client.update_run(self._runs[None], status="RUNNING")

    def _child(self, record: Record) -> str:
        if record.number in self._runs:
            run = self._runs[record.number]
        else:
            name = "control" if record.number == CONTROL else f"trial {record.number}"
            tags = {
                SWEEP_TAG: self._sweep,
                TRIAL_TAG: str(record.number),
                "mlflow.parentRunId": self._runs[None],
                "control": str(record.treatment.is_control).lower(),
            }
            run = self._client.create_run(self.experiment_id, tags=tags, run_name=name).info.run_id
            self._runs[record.number] = run
            self._parameters(run, dataclasses.asdict(record.treatment))
        return run

    def _parameters(self, run: str, parameters: Mapping[str, Any]) -> None:
        self._client.log_batch(run, params=[Param(name, str(value)) for name, value in parameters.items()])

    def _table(self, run: str, rows: Sequence[Mapping[str, Any]], name: str) -> None:
        """Log the rows so that the UI shows a table; unlike ``log_table``, doing it twice does not double them."""
        table = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
        self._client.log_dict(run, table, f"{name}.json")
        shown_as = [{"path": f"{name}.json", "type": "table"}]
        self._client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(shown_as))
