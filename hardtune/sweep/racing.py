"""Members as rungs: Tune stops a trial once a finished one surely dominates what its ensemble could become."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from hardtune.evaluation.racing import dominating_rival, learn_noise
from hardtune.report import records
from hardtune.report.pareto import front
from hardtune.report.records import Record
from hardtune.sweep.search import FINISHED, SHORTFALL
from hardtune.sweep.space import treatment_of
from hardtune.treatment import Treatment


class Racing(FIFOScheduler):
    """Looks at a trial after each member but the last, never within one, and stops it or lets it go on.

    The rule is ``hardtune.evaluation.racing``; rivals are the finished trials on the front. The trials of earlier parts
    of the sweep, the control among them, are known from their records. A stopped trial's own record is written before
    Tune hears of the decision, so whatever dies after that, a trial that the study knows as ended has one.
    """

    def __init__(self, confidence: float, members: int, objectives: Mapping[str, str], folder: Path) -> None:
        """
        Args:
            confidence: Of a trial's whole race against a rival.
            members: How many a whole ensemble has.
            objectives: Metric names to ``min`` or ``max``; each the mean over members of a figure, ``final/…``.
            folder: Of the sweep's records.
        """
        super().__init__()
        self._confidence, self._members, self._folder = confidence, members, folder
        self._objectives = dict(objectives)
        self._signs = np.array([1.0 if direction == "min" else -1.0 for direction in objectives.values()])
        self._figures: dict[Treatment, dict[str, list[float]]] = {}
        """By treatment, since equal ones have the same members: each member's figures by full name."""
        self._costs: dict[Treatment, NDArray[np.float64]] = {}
        """By treatment as well: the objectives (M, O), lower = better, NaN where there is no member yet."""
        former = records.read_all(folder)
        for record in former:
            held_out = {name: list(values) for name, values in record.members.items() if name.startswith("final/")}
            if held_out:
                self._learn(record.treatment.canonical(), held_out)
        self._front = front(former, objectives)
        self._stopped = {record.number for record in former if record.state == "stopped"}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        point = dict(trial.config)
        number = point.pop("number")
        treatment = treatment_of(point).canonical()
        if result.get(FINISHED):
            metrics = {name: float(result[name]) for name in self._objectives}
            ended = Record(number, treatment, "finished", metrics, shortfall=result[SHORTFALL])
            if np.isfinite(list(metrics.values())).all():
                self._front = front([*self._front, ended], self._objectives)
        elif "members" in result:
            self._keep(treatment, result)
            if number in self._stopped:  # and its driver died before Tune carried that out
                return TrialScheduler.STOP
            rival = self._rival(treatment)
            if rival is not None:
                self._stop(number, treatment_of(point), rival)
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def _keep(self, treatment: Treatment, report: Mapping[str, Any]) -> None:
        """One more member, unless it is one that a trial says again that was restarted or has a twin."""
        if report["members"] != self._trained(treatment) + 1:
            return
        known = self._figures.get(treatment, {})
        metrics = [name.removeprefix("members/") for name in report if name.startswith("members/")]
        self._learn(
            treatment,
            {f"final/{name}": [*known.get(f"final/{name}", []), float(report[f"members/{name}"])] for name in metrics},
        )

    def _learn(self, treatment: Treatment, figures: dict[str, list[float]]) -> None:
        """All that is known of a treatment's members, unless more was known already."""
        costs = np.array([figures[name] for name in self._objectives]).T * self._signs
        if len(costs) > self._trained(treatment):
            self._figures[treatment] = figures
            self._costs[treatment] = np.full((self._members, len(self._signs)), np.nan)
            self._costs[treatment][: len(costs)] = costs

    def _trained(self, treatment: Treatment) -> int:
        """How many members of the treatment are known, whichever trial trained them."""
        return len(next(iter(self._figures.get(treatment, {}).values()), []))

    def _rival(self, treatment: Treatment) -> Record | None:
        """The trial on the front that surely dominates this one in the end, if there is one."""
        own = self._costs[treatment]
        members = own[: self._trained(treatment)]
        noise = learn_noise(np.array([costs for costs in self._costs.values() if costs is not own]))
        if noise is None or not self._front or not np.isfinite(members).all():
            return None
        rivals = np.array([[record.metrics[name] for name in self._objectives] for record in self._front])
        row = dominating_rival(members, noise, rivals * self._signs, self._confidence)
        return None if row is None else self._front[row]

    def _stop(self, number: int, treatment: Treatment, rival: Record) -> None:
        figures = self._figures[treatment.canonical()]
        who = "the control" if rival.is_control else f"trial {rival.number}"
        reason = (
            f"stopped after {self._trained(treatment.canonical())} of {self._members} members: {who} dominates it, "
            f"with a confidence of {self._confidence:g}"
        )
        records.write(self._folder, Record(number, treatment, "stopped", members=figures, reason=reason))
        self._stopped.add(number)
