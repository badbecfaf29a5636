"""Passes Ray Tune's reports on its trials on to MLflow and the screen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from hardtune.report import records
from hardtune.report.records import Record
from hardtune.report.standing import Standing
from hardtune.sweep.live import View
from hardtune.sweep.search import FINISHED, WARNING
from hardtune.sweep.space import numbered
from hardtune.sweep.tracking import Tracker


class Recorder(tune.Callback):
    """Keeps MLflow and the live view up to date, and writes the records of trials that cannot do so themselves."""

    def __init__(
        self,
        folder: Path,
        tracker: Tracker,
        view: View,
        standing: Standing,
        already: int,
        waits_again: Callable[[int], bool],
    ) -> None:
        """
        Args:
            standing: the sweep's, including trials from earlier parts.
            already: how many trials ended in earlier parts of a resumed sweep.
            waits_again: whether the trial of this number, which ended in an error, will be tried again.
        """
        self._waits_again = waits_again
        self._folder, self._tracker, self._view, self._standing = folder, tracker, view, standing
        self._members = 0
        self._already = self._ended = self._told = already
        self._running: set[str] = set()
        self._broken = {record.number for record in records.read_all(folder) if record.again}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks for its own restore, which resuming here never uses."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._running.add(trial.trial_id)
        number = trial.config["number"]
        if number in self._broken:
            records.remove(self._folder, number)
            self._broken.remove(number)
        self._tracker.trial_started(_record(trial, "running"))
        self._show()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        if "members" in result and not result[FINISHED]:
            self._members += 1
            figures = {name: value for name, value in result.items() if name.startswith("members/")}
            self._tracker.member(_record(trial, "running"), result["members"], figures)
            self._show()

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = records.read(self._folder, trial.config["number"])
        if record is None and trial.last_result.get(FINISHED):
            self._view.say(f"note: the record of trial {trial.config['number']} is lost; --resume makes it again")
            self._running.discard(trial.trial_id)
            self._show()
            return
        if record is None:
            record = _record(trial, "stopped", reason="the scheduler stopped it before its ensemble was whole")
        if record.state == "stopped":  # so it had no chance to record its own warnings
            record = dataclasses.replace(record, warning=record.warning or trial.last_result.get(WARNING, ""))
            records.write(self._folder, record)
        self._end(trial, record)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._waits_again(trial.config["number"]):
            self._running.discard(trial.trial_id)
            self._show()
            return
        known = records.read(self._folder, trial.config["number"])
        if known is not None and not known.again:
            # It came to its end, and then `on_trial_complete` could not read a file for a moment, say.
            self._end(trial, known)
            return
        record = _record(trial, "failed", reason=_reason(trial), again=True)
        records.write(self._folder, record)
        self._broken.add(record.number)
        self._tracker.trial_broke(record)
        self._show_end(trial, record)  # it has not ended: neither the standing nor the sweep's curves count it

    def _end(self, trial: Any, record: Record) -> None:
        self._told += 1
        self._tracker.trial_ended(record)
        self._standing.add(record)
        self._tracker.progress(self._told, self._standing.figures())
        self._show_end(trial, record)

    def _show_end(self, trial: Any, record: Record) -> None:
        self._running.discard(trial.trial_id)
        self._ended += 1
        self._view.ended(record)
        self._view.advance(self._ended, self._already)
        self._show()

    def _show(self) -> None:
        self._view.note = self._tracker.note
        self._view.trials(len(self._running), self._members, self._standing.saved)


def _record(trial: Any, state: str, **fields: Any) -> Record:
    return Record(*numbered(trial.config), state, **fields)


def _reason(trial: Any) -> str:
    """The first line of the last error that Tune logged for the trial; if it has no traceback, the worker died.

    Tune's own ``get_error`` looks in a place that the file reaches only later.
    """
    path = trial.error_file
    text = Path(path).read_text() if path and Path(path).exists() else ""
    lines = text.rpartition("Failure # ")[2].splitlines()[1:]
    # Of a worker killed for its memory, Ray lists the largest processes, some of which are called ray::, too.
    heads = [line.startswith("  File ") or ("ray::" in line and "(pid=" in line) for line in lines]
    frames = [place for place, head in enumerate(heads, 1) if head]
    said = [line for line in lines[max(frames, default=0) :] if line.strip() and not line[0].isspace()]
    if frames and said:
        return said[0]
    return ": ".join(["its worker died", *said[:1]])
