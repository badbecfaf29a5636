"""Which files below a folder are images, and which are left out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hardtune.errors import HardtuneWarning, InputError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".avif", ".tif", ".tiff", ".ppm", ".pgm"}
)
BESIDE_IMAGES = frozenset({".txt", ".csv", ".json", ".xml", ".md", ".db", ".ini"})
"""Of files that lie beside images and are none: lists, annotations, Thumbs.db, desktop.ini. Nothing is said of them."""
MAX_SUFFIXES = 5
"""Of files left out, that a warning names: numbered files may have one each."""


class Files(NamedTuple):
    """The files below a folder, sorted by path."""

    images: list[str]
    left_out: list[str]
    """Those that may be images by another suffix, or without one."""


def files_below(folder: Path) -> Files:
    """All files below ``folder``, following links but visiting each folder once; none if the folder is missing.

    Hidden files and folders are skipped, and files ``BESIDE_IMAGES``.
    """
    files = Files([], [])
    seen: set[str] = set()
    for path, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        above = os.path.join(path, "")
        for name in names:
            suffix = _suffix(name)
            if suffix not in BESIDE_IMAGES and not name.startswith("."):
                (files.images if suffix in IMAGE_SUFFIXES else files.left_out).append(above + name)
    return Files(sorted(files.images), sorted(files.left_out))


def images_in(folder: Path) -> list[str]:
    """The images in the folder itself, sorted; hidden ones are skipped."""
    with os.scandir(folder) as entries:
        files = [entry.path for entry in entries if not entry.name.startswith(".") and entry.is_file()]
    return sorted(file for file in files if _suffix(file) in IMAGE_SUFFIXES)


def warn_of(left_out: Sequence[str], beside: Sequence[str] = ()) -> None:
    """Warn of files that are left out, for their suffix or as they lie ``beside`` the class folders, if there are any.

    Classes would otherwise be smaller than their folders look.
    """
    if left_out:
        warnings.warn(what_is_left_out(left_out), HardtuneWarning, stacklevel=4)
    if beside:
        some = "1 image is" if len(beside) == 1 else f"{len(beside):,} images are"
        said = f"{some} in no class's folder, but beside these, and left out ({beside[0]})"
        warnings.warn(said, HardtuneWarning, stacklevel=4)


def what_is_left_out(files: Sequence[str]) -> str:
    """A clause that counts the files by their suffix, the most frequent first, with an example of each.

    >>> what_is_left_out(["a/1.heic", "a/2.heic", "a/3"]).partition("; ")[0]
    '3 files are left out for their suffix, 2 .heic (a/1.heic) and 1 without (a/3)'
    """
    of_suffix: dict[str, list[str]] = {}
    for file in files:
        of_suffix.setdefault(_suffix(file), []).append(file)
    ranked = sorted(of_suffix.items(), key=lambda of: -len(of[1]))
    said = [f"{len(of):,} {suffix or 'without'} ({of[0]})" for suffix, of in ranked[:MAX_SUFFIXES]]
    if len(ranked) > MAX_SUFFIXES:
        said.append(f"{sum(len(of) for _, of in ranked[MAX_SUFFIXES:]):,} of {len(ranked) - MAX_SUFFIXES} others")
    *most, last = said
    counts = f"{', '.join(most)} and {last}" if most else last
    are, their = ("file is", "its") if len(files) == 1 else ("files are", "their")
    return f"{len(files):,} {are} left out for {their} suffix, {counts}; images are {', '.join(sorted(IMAGE_SUFFIXES))}"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _refuse(error: OSError) -> None:
    """Raise ``InputError`` for a folder that cannot be read: its images must not be left out silently."""
    if not isinstance(error, FileNotFoundError):
        raise InputError(f"cannot look into {error.filename}: {error.strerror}") from error
