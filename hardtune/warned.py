"""What hardtune itself warns of, told apart from what libraries say; workers' stderr is read by nobody."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

OWN = r"training goes on without|set aside |the training data include "
"""How warnings begin that a user should see. Their module does not tell: torch's name whoever called it."""


def pass_on(say: Callable[[str], None]) -> None:
    """From now on, ``say`` each of hardtune's own warnings once, and drop all others."""
    said = set()

    def show(message: Warning | str, *where: object, **more: object) -> None:
        if str(message) not in said:
            said.add(str(message))
            say(str(message))

    warnings.simplefilter("ignore")
    warnings.filterwarnings("always", OWN, UserWarning)
    warnings.showwarning = show


@contextlib.contextmanager
def collected() -> Iterator[list[str]]:
    """Hardtune's own warnings of what is done meanwhile, each once."""
    said: list[str] = []
    with warnings.catch_warnings():
        pass_on(said.append)
        yield said
