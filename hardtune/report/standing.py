"""A sweep's standing: its front so far, and the networks that it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hardtune.report.hypervolume import hypervolume, with_negative_costs
from hardtune.report.pareto import front
from hardtune.report.records import Record, control_of
from hardtune.treatment import Treatment


class Standing:
    """The front and the costs of a sweep, updated as each trial ends."""

    def __init__(self, records: Sequence[Record], objectives: Mapping[str, str], members: int) -> None:
        """
        Args:
            records: The control's, and those of the trials that have ended already.
            members: The size of a whole ensemble.
        """
        self._objectives, self._members = objectives, members
        self._control = control_of(records)
        self._front = [self._control]
        self._trained: dict[Treatment, int] = {}
        self._stopped: set[Treatment] = set()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Add a trial that has ended. One that equals the control adds nothing, since that is known already."""
        if record.treatment.is_control:
            return
        treatment = record.treatment.canonical()
        known = len(next(iter(record.members.values()), ()))
        self._trained[treatment] = max(known, self._trained.get(treatment, 0))
        self._stopped |= {treatment} if record.state == "stopped" else set()
        self._front = front([*self._front, record], self._objectives)

    @property
    def trained(self) -> int:
        """Members of the trials that have ended; equal treatments count once, the control not at all."""
        return sum(self._trained.values())

    @property
    def saved(self) -> int:
        """Members saved by stopping; equal treatments count once."""
        return sum(self._members - self._trained[treatment] for treatment in self._stopped)

    def figures(self) -> dict[str, float]:
        """What MLflow shows over time; no hypervolume if the control's costs cannot be its unit."""
        volume = {}
        if not with_negative_costs(self._control, self._objectives):
            volume["front/hypervolume"] = hypervolume(self._front, self._control, self._objectives)
        return {
            **volume,
            "front/size": len(self._front),
            "members_trained": self.trained,
            "members_saved": self.saved,
        }


def kept_off_front(records: Sequence[Record], limited: Sequence[str]) -> str:
    """A sentence on the trials that are too much worse than the control in these metrics; empty if none is."""
    worse = sum(record.state == "finished" and record.shortfall > 0 for record in records)
    if not worse:
        return ""
    names = " or ".join(limited)
    are = "is" if worse == 1 else "are"
    return f"{worse} of {len(records) - 1} trials {are} kept off the front, as worse than the control in {names}"


def saved_by_stopping(records: Sequence[Record], objectives: Mapping[str, str], members: int) -> str:
    """A sentence on what racing saved; empty if it stopped no trial. Arguments: as for :class:`Standing`."""
    stopped = sum(record.state == "stopped" for record in records)
    if not stopped:
        return ""
    cost = Standing(records, objectives, members)
    were = "was" if stopped == 1 else "were"
    return (
        f"{stopped} of {len(records) - 1} trials {were} stopped, which saved {cost.saved} of "
        f"{cost.saved + cost.trained} networks"
    )
