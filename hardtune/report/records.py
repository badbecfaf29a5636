"""One JSON file a trial: what a sweep leaves behind, and all that a report reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardtune import durable
from hardtune.treatment import Treatment

CONTROL = -1
"""The number of the control, which is no trial of the search: it is there before the first one."""


@dataclass(frozen=True)
class Record:
    """What became of one trial."""

    number: int
    treatment: Treatment
    state: str
    """``finished``, ``stopped`` (by a scheduler, so its figures are of a part of its ensemble) or ``failed``."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """By full name, ``final/accuracy`` for one; complete only where the state is ``finished``."""
    per_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By class name: ``size`` in training, ``recall`` on held-out and ``test_recall`` on test samples, and there also
    ``test_ece`` and ``test_overconfidence`` (mean confidence minus recall), all means over members."""
    members: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Each member's figures by full name, in the order of the members; member i shares its seed in every trial."""
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    """Of ``members`` and ``ensemble`` on test samples: the reliability diagram's ``confidence``, ``accuracy`` and
    ``share`` of samples by filled bin, and the ``risk`` at coverages of 1 %, 2 %, … 100 %."""
    corruptions: Sequence[Mapping[str, Any]] = ()
    """A row for each corruption that was measured: ``kind``, ``severity``, ``accuracy`` and ``ece`` with their ``_std``
    over members."""
    weight_histogram: Sequence[int] = ()
    """Training samples by entropy weight s, in 20 bins over [0, 1]; empty where the entropy term is off."""
    warning: str = ""
    """What the trial cannot show, and what went wrong as it trained, in a sentence each; empty if there is nothing."""
    shortfall: float = 0.0
    """How far it is behind the control where the sweep says it must not be; above 0 it cannot be on the front."""
    reason: str = ""
    """Why it failed, in a sentence."""
    again: bool = False
    """Whether it failed for something around it, a full disk or a worker that died: a resumed sweep tries it again."""

    @property
    def is_control(self) -> bool:
        return self.number == CONTROL


def write(folder: Path, record: Record) -> None:
    """Write the record as ``00012.json`` (or ``control.json``), whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(_file(folder, record.number), json.dumps(dataclasses.asdict(record), indent=1))


def read(folder: Path, number: int) -> Record | None:
    """The record of one trial, or None where there is none yet, or none that can be read."""
    path = _file(folder, number)
    return _parse(path) if path.exists() else None


def remove(folder: Path, number: int) -> None:
    """Forget what became of one trial."""
    _file(folder, number).unlink()


def read_all(folder: Path) -> list[Record]:
    """All records of a folder that can be read, the control first, then by number."""
    found = map(_parse, folder.glob("*.json"))
    return sorted((record for record in found if record is not None), key=lambda record: record.number)


def _file(folder: Path, number: int) -> Path:
    return folder / ("control.json" if number == CONTROL else f"{number:05d}.json")


def _parse(path: Path) -> Record | None:
    try:
        fields: dict[str, Any] = json.loads(path.read_text())
        return Record(**{**fields, "treatment": Treatment(**fields["treatment"])})
    except (ValueError, TypeError, KeyError):  # a disk's doing; a resumed sweep makes the record again
        return None
