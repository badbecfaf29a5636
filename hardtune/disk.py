"""What a disk raises that is full, broken or closed to writing, told from all other errors, and where that was."""

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
    """What the disk said that an error comes of, whoever wrapped it, in a clause; None for any other error.

    ``elsewhere`` is added where the disk's own error does not name the file.

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
        # Ray has what its worker raised as the `cause` of an error of its own.
        waiting += [getattr(one, "cause", None), one.__cause__, None if one.__suppress_context__ else one.__context__]
    return None


@contextlib.contextmanager
def named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give the errors of a file that is being written its name, which only those of opening it have by themselves."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def removed(path: Path) -> None:
    """Take away a file that could not be written whole, as far as the disk lets one."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _is_of_a_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        return str(error).startswith(_OF_SQLITE)
    return isinstance(error, OSError) and error.errno in _OF_THE_SYSTEM
