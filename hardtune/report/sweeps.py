"""The sweeps in a storage: a folder each, with the sweep's description and a record for each trial."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hardtune.errors import InputError
from hardtune.evaluation.metric import Better, directions
from hardtune.recipe import Recipe
from hardtune.report import records
from hardtune.report.comparison import Comparison
from hardtune.report.front_table import render, rows
from hardtune.report.pareto import front
from hardtune.report.records import Record, control_of
from hardtune.treatment import Treatment

STAMP = r"-\d{8}-\d{6}(-\d+)?"
"""What an id has after the sweep's name."""
VERSIONS, CODE, SCORES = "version of hardtune", "plug-ins", "scores of one's own"
"""Keys of a sweep's description that are phrases, since messages name them."""


@dataclass(frozen=True)
class Kept:
    """A sweep's folder, whether it has ended or not."""

    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def name(self) -> str:
        return re.sub(STAMP + "$", "", self.id)

    @cached_property
    def content(self) -> dict[str, Any]:
        """All of ``sweep.json``, which ``hardtune.sweep.ledger`` writes and the properties below read."""
        content: dict[str, Any] = json.loads((self.folder / "sweep.json").read_text())
        if "recipe" in content:  # that of an earlier version had no choice
            content["recipe"].setdefault("budget", Recipe.budget)
        return content

    @property
    def trials(self) -> Path:
        """The folder with a record of each trial."""
        return self.folder / "trials"

    @property
    def has_results(self) -> bool:
        """Whether its control is trained: before that, there is nothing to show or compare."""
        return (self.trials / "control.json").exists()

    @property
    def lock(self) -> FileLock:
        """Held by the process that runs it, however that may die."""
        return FileLock(self.folder / ".lock")

    @property
    def is_running(self) -> bool:
        try:
            with self.lock.acquire(timeout=0):
                return False
        except Timeout:
            return True

    @property
    def records(self) -> list[Record]:
        """Those of the trials that have ended so far, the control first."""
        return records.read_all(self.trials)

    @property
    def front(self) -> list[Record]:
        """Those on the Pareto front so far, which may have the control among them."""
        return front(self.records, self.objectives)

    def _repr_markdown_(self) -> str:
        """Its front as a table, in a notebook."""
        from hardtune.report.paper_tables import markdown

        if not self.has_results:
            return f"{self.id}: no results yet"
        lines = rows(self.front, control_of(self.records), self.objectives)
        title = f"Pareto front of {self.id}"
        return markdown(render(lines, self.objectives, title, self.selection_note, searched=self.is_search))

    @property
    def described(self) -> dict[str, Any]:
        """What must match for two sweeps to be the same one."""
        return {name: value for name, value in self.content.items() if name not in ("about", "owner")}

    @property
    def data(self) -> str:
        """The data's name or path."""
        name: str = self.content["about"]["data"]
        return name

    @property
    def data_fingerprint(self) -> str | None:
        return self.content.get("data")

    @property
    def pool_fingerprint(self) -> str | None:
        """That of its synthetic images, if it had any."""
        return self.content.get("pool")

    @property
    def cpus_per_trial(self) -> float:
        cpus: float = self.content["about"]["cpus_per_trial"]
        return cpus

    @property
    def training_version(self) -> int:
        """That of training, ``hardtune.member.VERSION``, by which its networks were trained."""
        version: int = self.content[VERSIONS][0]
        return version

    @property
    def plug_in_code(self) -> dict[str, str]:
        """A digest of each piece of code of one's own, by what it is."""
        code: dict[str, str] = self.content[CODE]
        return code

    @property
    def own_scores(self) -> dict[str, str] | None:
        """A digest of the scores of each estimator of one's own; None if an earlier version did not record them."""
        return self.content[SCORES] or {} if SCORES in self.content else None

    @property
    def objectives(self) -> dict[str, str]:
        objectives: dict[str, str] = self.content["objectives"]
        return objectives

    @property
    def no_worse_than_control(self) -> list[str]:
        """The metrics in which a trial must not be worse than the control to be on the front."""
        return list(self.content.get("no_worse_than_control", ()))

    @property
    def metrics(self) -> dict[str, Better]:
        """Which way each metric is better; those of its script, too, which may not be registered here."""
        own: dict[str, Better] = self.content["about"]["metrics"]
        return directions() | own

    @property
    def asked_recipe(self) -> dict[str, Any]:
        """Its recipe as it was given, by field, in JSON's types."""
        fields: dict[str, Any] = self.content["recipe"]
        return fields

    @property
    def recipe(self) -> Recipe:
        """Its recipe, with what it left to the device resolved."""
        choices = {name: value for name, value in self.settled.items() if name != "device"}
        return Recipe(**self.asked_recipe | choices)

    @property
    def settled(self) -> dict[str, Any]:
        """What was decided as its training began: the kind of device, and what a recipe leaves to it."""
        path = self.folder / "settled.json"
        return json.loads(path.read_text()) if path.exists() else {}

    @property
    def is_search(self) -> bool:
        """Whether it searched for treatments; else it compared a list of them."""
        return not isinstance(self.content["space"], list)

    @property
    def comparisons(self) -> list[Comparison]:
        """Those that it makes in the end."""
        return [
            Comparison(
                tuple(Treatment(**fields) for fields in one["treatments"]),
                Treatment(**one["reference"]),
                tuple(one["metrics"]),
            )
            for one in self.content["about"]["comparisons"]
        ]

    @property
    def selection_note(self) -> str:
        """:func:`selection_note` of its recipe."""
        return selection_note(self.recipe.validation, searched=self.is_search)


def selection_note(validation: float | str, *, searched: bool = True) -> str:
    """The note that every figure needs if treatments were chosen by it on the test split, or would be; else empty.

    ``searched``: whether treatments were searched for; else they are a list's, of which nothing is chosen.
    """
    if validation != "test":
        return ""
    if searched:
        return "Treatments were chosen on this test split (the papers' protocol)."
    return "No samples were held out: who chooses a treatment by these figures chooses on the test split."


def kept(storage: Path, name: str | None = None) -> list[Kept]:
    """All sweeps in a storage, or those of one name, the latest last."""
    stamped = re.compile(("(.+)" if name is None else re.escape(name)) + STAMP)
    by_age = sorted((*_begun(path.name), path) for path in _folders(storage) if stamped.fullmatch(path.name))
    return [Kept(folder) for *_, folder in by_age]


def _folders(storage: Path) -> list[Path]:
    """Those with a sweep in them, whatever they are called."""
    return [path.parent for path in (storage / "sweeps").glob("*/sweep.json")]


def _begun(id: str) -> tuple[str, int]:
    """The second in which a sweep began, and which of its name it was in that second."""
    _, day, second, *number = re.search(STAMP + "$", id)[0].split("-")  # type: ignore[index]
    return day + second, int(*number or [1])


def find(storage: Path, wanted: str) -> Kept:
    """The sweep of this id, or the latest of this name; one without results only if there is no other.

    The path of a sweep's folder, which a sweep prints, is as good as its id.

    Raises:
        InputError: there is none.
    """
    there, name = kept(storage), Path(wanted).name
    for sweep in there:
        if sweep.id == name:
            return sweep
    named = kept(storage, name)
    if named:
        return next((sweep for sweep in reversed(named) if sweep.has_results), named[-1])
    choices = f"choose from {', '.join(sweep.id for sweep in there)}" if there else "no sweep left anything there"
    renamed = sorted({folder.name for folder in _folders(storage)} - {sweep.id for sweep in there})
    if renamed:
        lost = "lost the date stamp that a sweep's folder ends in (NAME-20260101-120000): rename it back"
        choices += f"; {' and '.join(renamed)} {lost}"
    raise InputError(f"there is no sweep {wanted!r} in {storage}: {choices}")
