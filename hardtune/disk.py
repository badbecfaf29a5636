"""Recognising the errors of a disk that is full, broken or read-only, and saying where they occurred."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_OF_SQLITE = ("database or disk is full", "disk I/O error", "attempt to write a readonly database")


def trouble(error: BaseException, elsewhere: str = "") -> str | None:
    """The disk error behind an exception, however it was wrapped, as a clause; None for any other error.

    ``elsewhere`` is added if the disk's own error does not name the file.

    >>> trouble(RuntimeError("no"))
    >>> trouble(OSError(errno.EROFS, "Read-only file system"), "in /results")
    '[Errno 30] Read-only file system (in /results)'
    """
    waiting: list[object] = [error]
    seen: list[object] = []
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        if _is_of_a_disk(one):
            named = getattr(one, "filename", None) is not None or not elsewhere
            return str(one) if named else f"{one} ({elsewhere})"
        # Ray keeps what its worker raised as the `cause` of its own error.
        waiting += [getattr(one, "cause", None), one.__cause__, None if one.__suppress_context__ else one.__context__]
    return None


@contextlib.contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add the file's name to errors raised while writing it; by themselves only errors of opening it have one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def removed(path: Path) -> None:
    """Remove a partly written file, if the disk allows it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _is_of_a_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return str(error).startswith(_OF_SQLITE)
    return isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM
