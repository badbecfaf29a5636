"""The sweep in MLflow: one parent run, one child per trial, written by one thread of the driver.

The driver alone writes, so there is no race to create a database; in the background, so that no trial waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking.context.registry import resolve_tags

from hardtune import disk
from hardtune.errors import in_a_line
from hardtune.report.records import Record
from hardtune.sweep.artifacts import FilesRefused, Rows, log_diagnostics, log_tables
from hardtune.sweep.moved import mend_locations
from hardtune.sweep.passwords import scrubbed
from hardtune.sweep.tracking_uri import make_database, pages

SWEEP_TAG, TRIAL_TAG, STATE_TAG, PARETO_TAG = "hardtune.sweep", "hardtune.trial", "hardtune.state", "pareto"
CHART_TAG, NOTE_TAG = "hardtune.chart", "mlflow.note.content"
_SWEEP = "sweep"
"""The parent run's ``TRIAL_TAG``."""
_REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "PERMISSION_DENIED"}
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


@dataclass
class _Run:
    """What is known of a run in MLflow."""

    id: str
    state: str
    """Its ``STATE_TAG``: the trial's outcome, or empty while it is open."""
    step: int
    """The last member logged; for the parent run, how many trials had ended then."""


class Tracker:
    """Sends a sweep's events to MLflow, in order, as soon as MLflow accepts them.

    Calls are idempotent: a run is looked up by its tags before it is created, and what it has is not logged again.
    So a sweep killed at any point and resumed has one parent and one child per trial.
    """

    def __init__(self, uri: str, experiment: str, sweep: str, artifacts: Path | None) -> None:
        """``artifacts``: where a database's experiment keeps its files; None for a server, which decides itself."""
        self._uri, self._experiment, self._sweep, self._artifacts = uri, experiment, sweep, artifacts
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue()
        self._runs: dict[str, _Run] = {}
        self._parent = ""
        self._abandoned = threading.Event()
        self.experiment_id = ""
        self.trouble = ""
        """Why records wait, or empty while they flow."""
        self._taken = 0
        """How many records MLflow took."""
        self._lost, self._refusal = 0, ""
        """How many records MLflow refused for good, and why it refused the first of them."""
        self.shortfall = ""
        """Set by ``close``: a sentence on what MLflow did not accept, why, and what to do; empty if it took all."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def note(self) -> str:
        """A line on what MLflow does not take at present; empty while it takes everything."""
        if not self.trouble:
            return ""
        if self._abandoned.is_set():
            return f"MLflow refused the sweep's run ({self.trouble})"
        return f"MLflow does not answer, records wait ({self.trouble})"

    def start(self, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Open the parent run, or reopen the one from an earlier part of the same sweep."""
        self._queue.put(lambda: self._open(dict(parameters), dict(tags)))

    def trial_started(self, record: Record) -> None:
        """Open the trial's child run."""
        self._queue.put(lambda: self._child(record))

    def member(self, record: Record, step: int, metrics: Mapping[str, float]) -> None:
        """Log one finished member's metrics at ``step``; a restarted trial reports its first members again."""
        now = _now()

        def log() -> None:
            run = self._child(record)
            if step > run.step:
                self._client.log_batch(run.id, [Metric(name, value, now, step) for name, value in metrics.items()])
                run.step = step

        self._queue.put(log)

    def trial_ended(self, record: Record) -> None:
        """Log the trial's figures, and its members' if not logged yet, and close its run with the trial's state.

        Files come last: this machine may have access to MLflow but not to the artifact store.
        """
        now = _now()

        def figures(run: _Run) -> None:
            for step, metrics in enumerate(_members(record), 1):
                if step > run.step:  # a driver may have been killed while MLflow did not answer
                    self._client.log_batch(run.id, [Metric(name, value, now, step) for name, value in metrics.items()])
                    run.step = step
            self._client.log_batch(run.id, [Metric(name, value, now, 0) for name, value in record.metrics.items()])

        def close(run: _Run) -> None:
            for name in ("reason", "warning"):
                if getattr(record, name):
                    self._client.set_tag(run.id, name, getattr(record, name))
            self._client.set_terminated(run.id, _STATUS[record.state])

        def files(run: _Run) -> None:
            per_class = [{"class": name, **values} for name, values in record.per_class.items()]
            with self._files():
                log_tables(self._client, run.id, {"per_class": per_class, "corruptions": record.corruptions})
                if record.curves:
                    log_diagnostics(self._client, run.id, record)

        def mark(run: _Run) -> None:
            self._client.set_tag(run.id, STATE_TAG, record.state)
            run.state = record.state

        def unless_ended(say: Callable[[_Run], None]) -> None:
            run = self._child(record)
            if not run.state:
                say(run)

        for say in (figures, close, files, mark):  # separately, since MLflow may refuse one and take the others
            self._queue.put(functools.partial(unless_ended, say))

    def trial_broke(self, record: Record) -> None:
        """Close the trial's run as FAILED, with the reason, until a resumed sweep tries the trial again."""

        def close() -> None:
            run = self._child(record)
            self._client.set_tag(run.id, "reason", record.reason)
            self._client.set_terminated(run.id, "FAILED")
            del self._runs[str(record.trial)]  # it has not ended: the next call for it looks it up and reopens it

        self._queue.put(close)

    def progress(self, ended: int, figures: Mapping[str, float]) -> None:
        """Log the sweep's standing after ``ended`` trials on the parent run, unless already logged."""
        now = _now()

        def log() -> None:
            run = self._runs[_SWEEP]
            if ended > run.step:
                self._client.log_batch(run.id, [Metric(name, value, now, ended) for name, value in figures.items()])
                run.step = ended

        self._queue.put(log)

    def sweep_ended(
        self,
        front: Sequence[Record] | None,
        tables: Mapping[str, Rows],
        files: Sequence[Path],
        status: str,
        note: str = "",
        charted: Sequence[Record] = (),
    ) -> None:
        """Tag the trials on the front (if it is known), log the tables and files on the parent run, and close it.

        Interrupted trials are KILLED until a resumed sweep reopens them. ``note``: Markdown that describes the sweep.
        ``charted``: what the charts that :meth:`links` leads to are of, beside the control; MLflow shows ten runs.
        """
        on_front, on_charts = ({str(record.trial) for record in some or ()} for some in (front, charted))

        def close() -> None:
            if note:
                self._client.set_tag(self._parent, NOTE_TAG, note)
            self._client.set_terminated(self._parent, status)
            self._queue.put(show)
            for trial, run in self._runs.items():  # each by itself, so that a thousand of them are seen to go on
                if run.id != self._parent:
                    self._queue.put(functools.partial(place, trial, run))

        def place(trial: str, run: _Run) -> None:
            if not run.state:
                self._client.set_terminated(run.id, "KILLED")
            elif front is not None:
                shown = trial in on_charts or trial == "control"
                tags = [RunTag(PARETO_TAG, str(trial in on_front).lower()), RunTag(CHART_TAG, str(shown).lower())]
                self._client.log_batch(run.id, tags=tags)

        def show() -> None:
            with self._files():
                log_tables(self._client, self._parent, tables)
                for file in files:
                    self._client.log_artifact(self._parent, str(file))

        self._queue.put(close)

    def close(self, patience: float, waits: Callable[[], None] = lambda: None) -> bool:
        """Wait (and say so by ``waits``) until all is sent, or nothing for ``patience`` seconds; whether all was."""
        self._queue.put(None)
        self._thread.join(min(2.0, patience))
        if self._thread.is_alive():
            waits()
        taken = -1
        while self._thread.is_alive() and taken < self._taken:
            taken = self._taken
            self._thread.join(patience)
        sent = not self._thread.is_alive()
        self._abandoned.set()
        if not sent:
            why = f" ({self.trouble})" if self.trouble else ""
            self.shortfall = f"MLflow did not take every record{why}; the same command with --resume sends them again"
        elif self._lost:
            what = f"{self._lost} of the records" if self._parent else "the sweep's run"
            said = f"MLflow refused {what} ({self._refusal}), as it would again"
            self.shortfall = f"{said}; the sweep's folder has all records"
        return not self.shortfall

    def links(self, figure: str, objective: str, direction: str) -> dict[str, str]:
        """Links to the sweep's pages, as :func:`pages` makes them; empty if MLflow never answered."""
        if not self._parent:
            return {}
        tag = f"tags.`{SWEEP_TAG}` = '{self._sweep}' AND tags.`{CHART_TAG}` = 'true'"
        return pages(self._uri, self.experiment_id, self._parent, tag, figure, objective, direction)

    @contextlib.contextmanager
    def _files(self) -> Iterator[None]:
        """Raise ``FilesRefused`` if only the artifact store fails; if MLflow fails too, raise its error."""
        try:
            yield
        except Exception as error:  # from any kind of store
            self._client.get_experiment(self.experiment_id)
            raise FilesRefused(in_a_line(error)) from error

    def _work(self) -> None:
        while (job := self._queue.get()) is not None or not self._queue.empty():
            if job is None:  # jobs that came since were asked for by others before
                self._queue.put(None)
                continue
            pause, refusals = 0.5, 0
            while not self._abandoned.is_set():
                try:
                    job()
                except Exception as error:  # servers fail in many ways; the records must survive them all
                    # SQLAlchemy and MLflow bury the database's own message about a full disk.
                    self.trouble = scrubbed(disk.trouble(error) or in_a_line(error), self._uri)
                    refusals += isinstance(error, FilesRefused) or getattr(error, "error_code", "") in _REFUSALS
                    if refusals == 3:
                        self._lost += 1
                        self._refusal = self._refusal or self.trouble
                        if not self._parent:  # without the sweep's run there is nowhere to log anything
                            self._abandoned.set()
                        break
                    self._abandoned.wait(pause)
                    pause = min(2 * pause, 15.0)
                else:
                    self.trouble = ""
                    self._taken += 1
                    break

    def _open(self, parameters: dict[str, Any], tags: dict[str, str]) -> None:
        make_database(self._uri)
        mend_locations(self._uri, self._artifacts)
        self._client = MlflowClient(self._uri)
        experiment = self._client.get_experiment_by_name(self._experiment)
        if experiment is None:
            location = None if self._artifacts is None else self._artifacts.joinpath(self._experiment).as_uri()
            # The kind makes the UI open on runs and metrics rather than on traces of language models.
            kind = {"mlflow.experimentKind": "custom_model_development"}
            self.experiment_id = self._client.create_experiment(self._experiment, location, kind)
        else:
            self.experiment_id = experiment.experiment_id
        self._parent = self._run(_SWEEP, self._sweep, {}, parameters).id
        for name, value in tags.items():  # of a resumed sweep, too: it may have more trials now
            self._client.set_tag(self._parent, name, value)

    def _child(self, record: Record) -> _Run:
        tags = {"mlflow.parentRunId": self._parent, "control": str(record.treatment.is_control).lower()}
        tags[NOTE_TAG] = "changes nothing, for comparison" if record.is_control else str(record.treatment)
        name = "control" if record.is_control else f"trial {record.number}"
        return self._run(str(record.trial), name, tags, dataclasses.asdict(record.treatment))

    def _run(self, trial: str, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> _Run:
        """The run of a trial (or of ``_SWEEP``): known, found or created; reopened unless its trial has ended."""
        if trial in self._runs:
            return self._runs[trial]
        mine = {SWEEP_TAG: self._sweep, TRIAL_TAG: trial}
        query = " and ".join(f"tags.`{key}` = '{value}'" for key, value in mine.items())
        found = self._client.search_runs([self.experiment_id], query, max_results=1)
        if found:
            run = found[0]
        else:  # with what MLflow's own columns show: the script, its commit, the user
            run = self._client.create_run(self.experiment_id, tags={**resolve_tags(), **tags, **mine}, run_name=name)
        if not run.data.params:
            texts = [Param(key, str(value)) for key, value in parameters.items()]
            self._client.log_batch(run.info.run_id, params=texts)
        state = run.data.tags.get(STATE_TAG, "")
        if not state and "reason" in run.data.tags:
            self._client.delete_tag(run.info.run_id, "reason")
        if not state and run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, "RUNNING")
        stepped = "front/size" if trial == _SWEEP else "members/accuracy"
        history = self._client.get_metric_history(run.info.run_id, stepped) if found else []
        self._runs[trial] = _Run(run.info.run_id, state, max((metric.step for metric in history), default=0))
        return self._runs[trial]


def _members(record: Record) -> list[dict[str, float]]:
    """Each member's reported figures, on held-out samples."""
    figures = {name: values for name, values in record.members.items() if name.startswith("final/")}
    names = [name.replace("final/", "members/", 1) for name in figures]
    return [dict(zip(names, member, strict=True)) for member in zip(*figures.values(), strict=True)]


def _now() -> int:
    return int(time.time() * 1000)
