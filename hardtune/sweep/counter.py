"""A number that a worker writes and the driver reads."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hardtune import durable


@dataclass(frozen=True)
class Counter:
    """A task's progress, in a file that all nodes see; a Ray actor would need a process of its own."""

    path: Path

    def write(self, done: int) -> None:
        """Replace the number atomically."""
        durable.write(self.path, str(done))

    def read(self) -> int:
        """The number written last; 0 before that, and if it cannot be read: no sweep should end over its progress."""
        with contextlib.suppress(OSError, ValueError):  # on NFS also while another node replaces the file
            return int(self.path.read_text())
        return 0


@contextlib.contextmanager
def counter_in(folder: Path) -> Iterator[Counter]:
    """A counter whose file is in ``folder`` and is deleted on exit."""
    folder.mkdir(parents=True, exist_ok=True)
    counter = Counter(folder / f"{uuid.uuid4().hex}.counter")
    try:
        yield counter
    finally:
        counter.path.unlink(missing_ok=True)
