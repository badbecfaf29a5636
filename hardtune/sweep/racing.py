"""Members as rungs: Tune stops a trial once the rest of its ensemble is not expected to be worth its price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from hardtune.errors import InputError
from hardtune.evaluation.racing import Verdict, judge, learn_noise
from hardtune.report import records
from hardtune.report.hypervolume import REFERENCE, relative_costs, with_negative_costs
from hardtune.report.pareto import front
from hardtune.report.records import Record, control_of
from hardtune.sweep.search import FINISHED, SHORTFALL
from hardtune.sweep.space import numbered
from hardtune.treatment import Treatment


class Racing(FIFOScheduler):
    """Stops a trial, or lets it continue, after each member but the last; members in training are finished.

    The rule is ``hardtune.evaluation.racing``. A member found in the store is no reason to stop: the next may be
    there too, and cost nothing. Trials from earlier parts of the sweep, including the control, are known from their
    records. A stopped trial's record is written before Tune learns of the decision, so whatever dies after that, every
    trial that has ended in the study has one.
    """

    def __init__(self, price: float, members: int, objectives: Mapping[str, str], folder: Path) -> None:
        """
        Args:
            price: That of a whole ensemble, as a share of the front's hypervolume.
            members: The size of a whole ensemble.
            objectives: Metric names to ``min`` or ``max``; each the mean over members of a figure, ``final/…``.
            folder: The one with the sweep's records, including the control's.

        Raises:
            InputError: The control costs less than nothing in an objective, so that there is no hypervolume.
        """
        super().__init__()
        self._price, self._members, self._folder = price, members, folder
        self._objectives = dict(objectives)
        self._figures: dict[Treatment, dict[str, list[float]]] = {}
        """Each member's figures by full metric name, per treatment, since equal ones share their members."""
        self._costs: dict[Treatment, NDArray[np.float64]] = {}
        """The objectives as relative costs, (M, O) per treatment; NaN where there is no member yet."""
        former = records.read_all(folder)
        self._control = control_of(former)
        for name in with_negative_costs(self._control, objectives):
            raise InputError(
                f"racing counts in units of what the control costs, which is its value where an objective is minimised "
                f"and 1 - value where it is maximised, and the control's {name} is {self._control.metrics[name]:.3g}: "
                "race for figures of at least 0 (min) or at most 1 (max), or give --racing 0"
            )
        for record in former:
            held_out = {name: list(values) for name, values in record.members.items() if name.startswith("final/")}
            if held_out:
                self._learn(record.treatment.canonical(), held_out)
        self._front = front(former, objectives)
        self._stopped = {record.number: record.treatment.canonical() for record in former if record.state == "stopped"}

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number, asked = numbered(trial.config)
        treatment = asked.canonical()
        if result.get(FINISHED):
            metrics = {name: float(result[name]) for name in self._objectives}
            ended = Record(number, treatment, "finished", metrics, shortfall=result[SHORTFALL])
            if np.isfinite(list(metrics.values())).all():
                self._front = front([*self._front, ended], self._objectives)
        elif "members" in result:
            self._keep(treatment, result)
            if number in self._stopped:  # but the driver died before Tune stopped it
                return TrialScheduler.STOP
            if not result["trained"] and treatment not in self._stopped.values():
                return TrialScheduler.CONTINUE
            verdict = self._judge(treatment)
            if verdict is not None and verdict.stops:
                self._stop(number, asked, verdict)
                return TrialScheduler.STOP
        return TrialScheduler.CONTINUE

    def _keep(self, treatment: Treatment, report: Mapping[str, Any]) -> None:
        """Add a member, unless it is a repeat from a restarted trial or one with an equal treatment."""
        if report["members"] != self._trained(treatment) + 1:
            return
        known = self._figures.get(treatment, {})
        metrics = [name.removeprefix("members/") for name in report if name.startswith("members/")]
        self._learn(
            treatment,
            {f"final/{name}": [*known.get(f"final/{name}", []), float(report[f"members/{name}"])] for name in metrics},
        )

    def _learn(self, treatment: Treatment, figures: dict[str, list[float]]) -> None:
        """Store the figures of a treatment's members, unless more are known already."""
        costs = self._relative(np.array([figures[name] for name in self._objectives]).T)
        if len(costs) > self._trained(treatment):
            self._figures[treatment] = figures
            self._costs[treatment] = np.full((self._members, len(self._objectives)), np.nan)
            self._costs[treatment][: len(costs)] = costs

    def _trained(self, treatment: Treatment) -> int:
        """How many members of the treatment are known, whichever trial trained them."""
        return len(next(iter(self._figures.get(treatment, {}).values()), []))

    def _relative(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return relative_costs(values, self._control, self._objectives)

    def _judge(self, treatment: Treatment) -> Verdict | None:
        """Whether the known members justify a stop; None if that cannot be judged, or if the ensemble is complete."""
        own = self._costs[treatment]
        members = own[: self._trained(treatment)]
        noise = learn_noise(np.array([costs for costs in self._costs.values() if costs is not own]))
        if noise is None or len(members) == self._members or not self._front or not np.isfinite(members).all():
            return None
        means = np.array([[record.metrics[name] for name in self._objectives] for record in self._front])
        reference = np.full(len(self._objectives), REFERENCE)
        return judge(members, noise, self._relative(means), reference, self._price)

    def _stop(self, number: int, treatment: Treatment, verdict: Verdict) -> None:
        figures = self._figures[treatment.canonical()]
        reason = (
            f"stopped after {self._trained(treatment.canonical())} of {self._members} members: the others are expected "
            f"to raise the front's hypervolume by {verdict.gain:.2%}, and {verdict.price:.2%} is their price"
        )
        records.write(self._folder, Record(number, treatment, "stopped", members=figures, reason=reason))
        self._stopped[number] = treatment.canonical()
