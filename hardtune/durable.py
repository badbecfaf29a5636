"""Small files that survive a power cut: each has its old content or its new content, never half of it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from hardtune import disk


def write(path: Path, content: str | bytes | memoryview) -> None:
    """Replace the file at ``path``; without the ``fsync``, a file system may keep the new name and lose the text."""
    aside = path.with_name(f".{path.stem}.{uuid.uuid4().hex}")
    try:
        with disk.named(path), aside.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        disk.removed(aside)
        raise
