"""Images of one part of a split that are in another part, too, or in the same as another class; and their files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune import csv_files
from hardtune.data.duplicates import first_same
from hardtune.data.samples import Samples
from hardtune.data.split import Split
from hardtune.errors import MAX_NAMED

Files = tuple[Sequence[str], Sequence[str]]
"""Of the data set's whole training and test split; empty unless it is a folder of images."""


@dataclass(frozen=True, eq=False)
class Side:
    """Some images of a part of a split."""

    part: str
    """``training``, ``held-out``, ``test`` or ``pool``."""
    rows: NDArray[np.int64]
    """(n,) in the data set's training or test split, or in the pool."""
    labels: NDArray[np.int64]
    """(n,)"""

    def files(self, files: Files) -> list[str]:
        """Each image's file; none if that is unknown, as it is of the pool."""
        of_part = {"training": files[0], "held-out": files[0], "test": files[1]}.get(self.part)
        return [of_part[row] for row in self.rows] if of_part else []

    def first_few(self, classes: Sequence[str], files: Files, *, of_classes: bool) -> list[str]:
        """What the first images are called: by their files, with classes if ``of_classes``; or by rows and classes."""
        rows, labels = self.rows[:MAX_NAMED].tolist(), self.labels[:MAX_NAMED]
        known = self.files(files)[:MAX_NAMED]
        if known and not of_classes:
            return known
        called = known or [f"{self.part} image {row}" for row in rows]
        return [f"{name} ({classes[label]!r})" for name, label in zip(called, labels, strict=True)]


@dataclass(frozen=True, eq=False)
class Copies:
    """Images (n) that are there twice."""

    one: Side
    other: Side
    """The first of the images of this part that each is equal to."""
    size: int
    """How many images the part of ``one`` has."""

    def __len__(self) -> int:
        return len(self.one.rows)

    def examples(self, classes: Sequence[str], files: Files) -> str:
        """The first few of them."""
        wrong = self.one.part == self.other.part  # labels need not be those of the folders
        ours, theirs = (side.first_few(classes, files, of_classes=wrong) for side in (self.one, self.other))
        more = f", and {len(self) - MAX_NAMED:,} more" if len(self) > MAX_NAMED else ""
        return ", ".join(f"{one} is {other}" for one, other in zip(ours, theirs, strict=True)) + more


def copies_in(split: Split, *, pool: bool = False) -> list[Copies]:
    """All copies that matter to figures, by the parts that they are in; those in the pool only if ``pool``.

    Copies of a training image with the same label are none of them.
    """
    training = _training(split)
    test = ("test", split.test, np.arange(len(split.test)))
    held_out = ("held-out", split.held_out, split.held)
    parts = [test] if split.chooses_on_test else [test, held_out]
    pairs = [(part, training) for part in parts]
    if not split.chooses_on_test:
        pairs.append((test, held_out))
    if pool and split.pool is not None:
        pairs += [(part, ("pool", split.pool, np.arange(len(split.pool)))) for part in parts]
    found = [_between(*pair) for pair in pairs]
    return [copies for copies in (*found, copies_of_another_class(split)) if len(copies)]


def copies_of_another_class(split: Split) -> Copies:
    """Training images that are there once more with another label."""
    return _between(_training(split), _training(split))


def _training(split: Split) -> _Part:
    return "training", split.train, split.kept


_Part = tuple[str, Samples, NDArray[np.int64]]
"""Its name, its samples, and the row of each."""


def _between(part: _Part, other: _Part) -> Copies:
    (name, samples, rows), (others_name, others, others_rows) = part, other
    first = first_same(samples.images, others.images)
    there = first >= 0
    if samples is others:  # where each is equal at least to itself
        there &= samples.labels != others.labels[first]
    at = first[there]
    return Copies(
        Side(name, rows[there], samples.labels[there]),
        Side(others_name, others_rows[at], others.labels[at]),
        len(samples),
    )


def write_copies(found: Sequence[Copies], classes: Sequence[str], files: Files, path: Path) -> None:
    """Write a CSV with a line for each copy: part, row, file (if known) and class of both images."""
    columns = [f"{prefix}{name}" for prefix in ("", "copy_") for name in ("part", "row", "file", "class")]
    with csv_files.opened(path) as table:
        lines = csv.writer(table)
        lines.writerow(columns)
        for copies in found:
            both = [_cells(side, classes, files) for side in (copies.one, copies.other)]
            lines.writerows([*ours, *theirs] for ours, theirs in zip(*both, strict=True))


def _cells(side: Side, classes: Sequence[str], files: Files) -> list[tuple[str, int, str, str]]:
    named = side.files(files) or [""] * len(side.rows)
    return [
        (side.part, row, file, classes[label])
        for row, file, label in zip(side.rows.tolist(), named, side.labels, strict=True)
    ]
