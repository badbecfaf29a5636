"""The errors that users see, one sentence each."""

from __future__ import annotations

import contextlib
import difflib
import os
import site
import sysconfig
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path


class InputError(ValueError):
    """The request cannot be carried out.

    The message is one sentence for the user: what is wrong, and how to fix it.
    Command lines print it on stderr without a traceback and exit with 2.
    """


class ContractError(InputError):
    """A user's function gives something of another kind or size than it must, whatever it is given."""


class DivergedError(RuntimeError):
    """Training diverged: the loss or the logits became NaN or infinite. The message says when, and what to try."""


class HardtuneWarning(UserWarning):
    """Something a sweep's user should know although work goes on: a damaged file, slower training."""


MAX_NAMED = 3
"""Files or classes that a sentence names of many."""

TRANSIENT = (MemoryError, OSError)
"""What may be otherwise the next time: a trial that failed by it, or by an ``InputError`` from it, is tried again."""


def in_a_line(error: BaseException) -> str:
    """The error's type and the first line of its message.

    >>> in_a_line(ZeroDivisionError("division by zero"))
    'ZeroDivisionError: division by zero'
    """
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


@contextlib.contextmanager
def blamed(says: str) -> Iterator[None]:
    """Turn what is raised within, by a user's code perhaps, into an ``InputError`` that begins with ``says``."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{says}: {in_a_line(error)}{where(error)}") from error


def where(error: BaseException) -> str:
    """The last line of a user's own code that an error went through; empty if there was none.

    Nobody sees a traceback: commands print a sentence, and workers leave it in a record.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_NOT_A_USERS)]
    return f" ({Path(own[-1].filename).name}:{own[-1].lineno}, in {own[-1].name})" if own else ""


_LIBRARIES = (
    Path(__file__).parent,
    *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")),
    site.getusersitepackages(),
)
_NOT_A_USERS = ("<frozen", *(f"{folder}{os.sep}" for folder in _LIBRARIES))


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none.

    >>> first_line(OSError("no route to host\\nsee the log")), first_line(TimeoutError())
    ('no route to host', 'TimeoutError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def first_few(names: Sequence[str]) -> str:
    """The first ``MAX_NAMED`` of the names, and how many more there are.

    >>> first_few(["a.png", "b.png", "c.png", "d.png"])
    'a.png, b.png, c.png and 1 more'
    """
    more = f" and {len(names) - MAX_NAMED:,} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more


def classes_named(names: Sequence[str]) -> str:
    """The subject of a sentence on classes, at least one.

    >>> classes_named(["cat"]), classes_named(["cat", "dog"])
    ("class 'cat'", "classes 'cat', 'dog'")
    """
    return f"class{'es' if len(names) > 1 else ''} {first_few([repr(name) for name in names])}"


def classes_have(names: Sequence[str]) -> str:
    """The same, and the verb."""
    return f"{classes_named(names)} {'have' if len(names) > 1 else 'has'}"


def unknown(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """The error for a name that is not registered; it lists the names that are, and of many the most similar first."""
    names = sorted(valid)
    if len(names) > 20:
        similar = [known for known in names if known.rpartition("/")[2] == name]
        similar += difflib.get_close_matches(str(name), names)
        names = list(dict.fromkeys([*similar, *names]))
    return InputError(f"unknown {kind} {name!r}: choose from {', '.join(names)}")
