"""The errors that a user sees: a sentence each."""

from __future__ import annotations

from collections.abc import Iterable


class InputError(ValueError):
    """What was asked for cannot be done.

    The message is one sentence for the person who asked: what is wrong, and what would be right.
    Command lines print it on stderr without a traceback and exit with 2.
    """


class DivergedError(RuntimeError):
    """Training diverged: the loss or the logits became NaN or infinite. The message says when, and what to try."""


def in_a_line(error: BaseException) -> str:
    """What was raised: its kind, and the first line of what it says.

    >>> in_a_line(ZeroDivisionError("division by zero"))
    'ZeroDivisionError: division by zero'
    """
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing.

    >>> first_line(OSError("no route to host\\nsee the log")), first_line(TimeoutError())
    ('no route to host', 'TimeoutError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def unknown(kind: str, name: object, valid: Iterable[str]) -> InputError:
    """The error for a name that nobody registered; it lists the names that somebody did."""
    return InputError(f"unknown {kind} {name!r}: choose from {', '.join(sorted(valid))}")
