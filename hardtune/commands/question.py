"""What is asked of a sweep by ``results``, and which of its trials and figures there are to answer with."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from hardtune.errors import InputError, unknown
from hardtune.report.metric_names import UNSEEN, figures_of_members, is_spread
from hardtune.report.pareto import check_objective
from hardtune.report.pooled import alike, pooled
from hardtune.report.records import Record, control_of
from hardtune.report.sweeps import Kept, kept


@dataclass(frozen=True)
class Question:
    """What is asked of a sweep; ``InputError`` if not even its control is trained."""

    sweep: Kept
    options: argparse.Namespace

    def __post_init__(self) -> None:
        if not any(record.is_control for record in self.records):
            raise InputError(f"sweep {self.sweep.id} has no results yet: not even its control is trained")

    @cached_property
    def pool(self) -> list[Kept]:
        """The sweeps that are pooled, this one last; or this one alone."""
        if not self.options.pool:
            return [self.sweep]
        return alike(self.sweep, self.namesakes)

    @property
    def namesakes(self) -> list[Kept]:
        """All sweeps of the name, this one among them."""
        return kept(self.sweep.folder.parent.parent, self.sweep.name)

    @property
    def title(self) -> str:
        """What a figure, or a file's rows, are of."""
        return self.sweep.id if len(self.pool) == 1 else self.sweep.name

    @property
    def over(self) -> str:
        """What comparisons are paired over."""
        return "members" if len(self.pool) == 1 else "sweeps"

    @cached_property
    def records(self) -> list[Record]:
        """Those of the trials that have ended by now."""
        return self.sweep.records if len(self.pool) == 1 else pooled(self.pool)

    @property
    def control(self) -> Record:
        return control_of(self.records)

    @cached_property
    def finished(self) -> dict[int, Record]:
        """The finished trials but the control."""
        return {one.number: one for one in self.records if one.state == "finished" and not one.is_control}

    def check_finished(self, named: Iterable[int], what: str) -> None:
        """Raise ``InputError`` for a trial that has not; ``what``: ``compared``, say."""
        ended = {record.number for record in self.records}
        for number in named:
            if number not in self.finished:
                choices = ", ".join(map(str, self.finished)) or "none yet"
                why = "has not finished" if number in ended else "is not there"
                raise InputError(f"trial {number} {why}, so it cannot be {what}: choose from {choices}")

    @property
    def figures(self) -> list[str]:
        """The names of the control's figures but their standard deviations over members."""
        return [name for name in self.control.metrics if not is_spread(name)]

    @cached_property
    def objectives(self) -> Mapping[str, str]:
        """Those of the front, asked for or the search's own, and which way each is better."""
        asked = self.options.objectives
        return _directions(asked, self.sweep, self.figures) if asked else self.sweep.objectives

    @property
    def note(self) -> str:
        """What readers of any figure must know of how the front was chosen; often nothing."""
        by_test = any(name.startswith(UNSEEN) for name in self.objectives)
        said = "Chosen on the test split." if self.sweep.is_search else "The front is by figures of the test split."
        return said if by_test else self.sweep.selection_note


def _directions(names: Sequence[str], sweep: Kept, there: Sequence[str]) -> dict[str, str]:
    """Each figure's better direction: as given on the command line, as the sweep had it, or as known in general."""
    known: Mapping[str, str] = {**figures_of_members(metrics=sweep.metrics), **sweep.objectives}
    metrics: Mapping[str, str] = sweep.metrics
    directions = {}
    for text in names:
        name, _, way = text.partition("=")
        if name not in there:
            raise unknown("figure", name, there)
        check_objective(name)
        usual = known.get(name) or metrics.get(name.rpartition("/")[2], "")
        directions[name] = way or usual
        if directions[name] not in ("min", "max"):
            raise InputError(f"say which way {name} is better: {name}=min or {name}=max")
        if usual and directions[name] != usual:
            raise InputError(f"objective {name!r} is {way!r}, but {usual!r} is better")
    return directions
