"""CSV files, which may name files whose names are not UTF-8."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO


def opened(path: Path) -> TextIO:
    """The file, empty, to be written by :mod:`csv`: in UTF-8, but for names of files, whose bytes stay as they are."""
    return path.open("w", newline="", encoding="utf-8", errors="surrogateescape")
