"""Passing on hardtune's own warnings, and none of libraries'; nobody reads the stderr of workers."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

from hardtune.errors import HardtuneWarning


def pass_on(say: Callable[[str], None]) -> None:
    """From now on, ``say`` each of hardtune's own warnings once, and drop all others."""
    said = set()

    def show(message: Warning | str, *where: object, **more: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            say(str(message))

    warnings.simplefilter("ignore")
    warnings.simplefilter("always", HardtuneWarning)
    warnings.showwarning = show


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Collects hardtune's own warnings within the block, each once."""
    said: list[str] = []
    with warnings.catch_warnings():
        pass_on(said.append)
        yield said
