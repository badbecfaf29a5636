"""Small files that survive a power cut, with their old content or the new, and are seen by other machines at once."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from hardtune import disk


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replace the file at ``path``; without the ``fsync``, a file system may keep the new name and lose the text.

    Names of files in a text need not be UTF-8: their bytes stay as they are.
    """
    aside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}")
    try:
        with disk.named(path), aside.open("wb") as file:
            file.write(content.encode(errors="surrogateescape") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        disk.removed(aside)
        raise


def read(path: Path) -> bytes:
    """The content of a file that another machine may just have written.

    Where a file was not there, an NFS client says so for up to a minute, unless its folder was opened since.

    Raises:
        FileNotFoundError: it is not there.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        for folder in (path.parent.parent, path.parent):
            os.close(os.open(folder, os.O_RDONLY))
        return path.read_bytes()
