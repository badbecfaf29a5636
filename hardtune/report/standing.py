"""How a sweep stands: its front so far, and the networks that it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hardtune.report.hypervolume import costing_less_than_nothing, hypervolume
from hardtune.report.pareto import front
from hardtune.report.records import Record
from hardtune.treatment import Treatment


class Standing:
    """The front and the costs of a sweep, trial by trial, each told as it ends."""

    def __init__(self, records: Sequence[Record], objectives: Mapping[str, str], members: int) -> None:
        """
        Args:
            records: The control's, and those of the trials that have ended already.
            members: How many an ensemble has that is trained whole.
        """
        self._objectives, self._members = objectives, members
        self._control = next(record for record in records if record.is_control)
        self._front = [self._control]
        self._trained: dict[Treatment, int] = {}
        self._stopped: set[Treatment] = set()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """One more trial has ended. One that changes nothing adds nothing: the control is known already."""
        if record.treatment.is_control:
            return
        treatment = record.treatment.canonical()
        known = len(next(iter(record.members.values()), ()))
        self._trained[treatment] = max(known, self._trained.get(treatment, 0))
        self._stopped |= {treatment} if record.state == "stopped" else set()
        self._front = front([*self._front, record], self._objectives)

    @property
    def trained(self) -> int:
        """Members of the trials that have ended, those of equal treatments once, the control's not at all."""
        return sum(self._trained.values())

    @property
    def saved(self) -> int:
        """Members that stopping spared, of equal treatments once."""
        return sum(self._members - self._trained[treatment] for treatment in self._stopped)

    def figures(self) -> dict[str, float]:
        """What MLflow shows over time; without a hypervolume where the control's costs are no unit of it."""
        volume = {}
        if not costing_less_than_nothing(self._control, self._objectives):
            volume["front/hypervolume"] = hypervolume(self._front, self._control, self._objectives)
        return {
            **volume,
            "front/size": len(self._front),
            "members_trained": self.trained,
            "members_saved": self.saved,
        }
