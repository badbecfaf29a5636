"""One JSON file per trial: what a sweep leaves behind, and all that a report reads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hardtune import durable
from hardtune.treatment import Treatment

CONTROL = -1
"""The number of the control, which is not a trial of the search and exists before the first one."""


@dataclass(frozen=True)
class Record:
    """The outcome of one trial; as a text its treatment and state, without figures, which would fill screens."""

    number: int
    treatment: Treatment
    state: str
    """``finished``, ``stopped`` (by a scheduler, so its figures cover only part of its ensemble) or ``failed``."""
    metrics: Mapping[str, float] = field(default_factory=dict, repr=False)
    """By full name, such as ``final/accuracy``; complete only if the state is ``finished``."""
    per_class: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict, repr=False)
    """By class name: ``size`` in training, the ``weight`` of each of its losses, the ``offset`` that losses subtract
    from its logit and what predictions add to it ``posthoc``, its ``hardness`` (mean score in training, by the
    treatment's estimator; None if it uses no scores); ``recall`` on held-out and ``test_recall``, ``test_precision``
    and ``test_f1`` on test samples, with their ``_std`` over members, ``test_ece`` and ``test_overconfidence`` (mean
    confidence minus recall), means over members; None for a class without samples, of which the test split has
    ``test_size``. Precision is None, too, if a member never predicts the class: a mean over the others would be of
    other members than recall's. Earlier sweeps lack ``test_size``, precision and F1."""
    members: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)
    """Each member's figures by full name, in the order of the members; member i shares its seed in every trial."""
    left_out: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)
    """Means over members by full name, on test samples (for ``ood/…``, and those out of distribution) with each part of
    them left out in turn: how much a figure depends on the images."""
    recalls: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict, repr=False)
    """By class name, recall on its test samples: of each of the ``members``, and their mean with each part of the
    samples ``left_out`` in turn. Without classes that have no test samples."""
    curves: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict, repr=False)
    """For ``members`` and ``ensemble``, on test samples: the reliability diagram's ``confidence``, ``accuracy`` and
    ``share`` of samples per non-empty bin, and the ``risk`` at coverages of 1 %, 2 %, … 100 %."""
    corruptions: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    """A row for each measured corruption: ``kind``, ``severity``, ``accuracy`` and ``ece`` with their ``_std``
    over members."""
    weight_histogram: Sequence[int] = field(default=(), repr=False)
    """Training samples by entropy weight s, in 20 bins over [0, 1]; empty if the entropy term is off."""
    warning: str = ""
    """What the trial cannot show, and what went wrong in training, in a sentence each; empty if nothing."""
    shortfall: float = 0.0
    """How much worse it is than the control less what the sweep tolerates; above 0 it cannot be on the front."""
    reason: str = ""
    """Why it failed, in a sentence."""
    again: bool = False
    """Whether it failed for an external reason, a full disk or a dead worker: a resumed sweep tries it again."""

    @property
    def is_control(self) -> bool:
        return self.number == CONTROL

    @property
    def trial(self) -> str | int:
        """What tables and files call it: ``control``, or its number."""
        return "control" if self.is_control else self.number


def control_of(records: Iterable[Record]) -> Record:
    """The control's, which is among them."""
    return next(record for record in records if record.is_control)


def by_treatment(records: Sequence[Record]) -> dict[Treatment, Record]:
    """The finished trials, of a treatment that was tried twice the first."""
    found: dict[Treatment, Record] = {}
    for record in records:
        if record.state == "finished":
            found.setdefault(record.treatment.canonical(), record)
    return found


def write(folder: Path, record: Record) -> None:
    """Write the record as ``00012.json`` (or ``control.json``), atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    durable.write(_file(folder, record.number), json.dumps(dataclasses.asdict(record), indent=1))


def read(folder: Path, number: int) -> Record | None:
    """The record of one trial, or None if there is none yet, or none that can be read."""
    return _parse(_file(folder, number))


def remove(folder: Path, number: int) -> None:
    """Delete the record of one trial."""
    _file(folder, number).unlink()


def read_all(folder: Path) -> list[Record]:
    """All records of a folder that can be read, the control first, then by number."""
    found = map(_parse, folder.glob("*.json"))
    return sorted((record for record in found if record is not None), key=lambda record: record.number)


def _file(folder: Path, number: int) -> Path:
    return folder / ("control.json" if number == CONTROL else f"{number:05d}.json")


def _parse(path: Path) -> Record | None:
    try:
        fields: dict[str, Any] = json.loads(durable.read(path))
        return Record(**{**fields, "treatment": Treatment(**fields["treatment"])})
    # Removed meanwhile by a sweep that tries the trial again; or a disk error: a resumed sweep makes the record again.
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
