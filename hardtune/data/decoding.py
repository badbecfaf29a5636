"""Files of images as one array, decoded by a pool of threads."""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardtune import csv_files
from hardtune.errors import InputError, first_few

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[int, int], None]
"""Called with (done, of) now and then."""

MAX_REASONS = 4
"""That an error names."""


class UnreadableError(InputError):
    """Images cannot be read."""

    files: Sequence[tuple[str, str]] = ()
    """Each of them, and why."""


@contextlib.contextmanager
def listed_in(folder: Path) -> Iterator[None]:
    """If images cannot be read within, write all to ``unreadable.csv`` in ``folder``, which the error then names."""
    try:
        yield
    except UnreadableError as error:
        path = folder / "unreadable.csv"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with csv_files.opened(path) as table:
                csv.writer(table).writerows([("file", "reason"), *error.files])
        except OSError:  # the images are what is to be mended first
            raise error from None
        listed = f"; all are listed in {path}" if len(error.files) > 1 else ""
        raise InputError(f"{error}{listed}") from None


def decode(
    files: Sequence[str], image_size: int | tuple[int, int] | None, progress: Progress | None
) -> NDArray[np.uint8]:
    """Images as uint8 (N, H, W, C), C = 1 where all are grayscale and 3 otherwise.

    Each is resized to ``image_size``, in pixels or as (height, width). ``progress`` is called with (images read,
    images) at the start, now and then, and at the end.

    Raises ``InputError`` at once if sizes differ without ``image_size``, and ``UnreadableError`` after all were tried:
    it says how many cannot be read for which reason, and names the first few of each.
    """
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if image_size is not None and min(image_size) < 1:
        raise InputError(f"image_size must be at least 1 pixel, got {image_size}")
    first, size = (files[0], image_size) if image_size is not None else _first_size(files)
    images = np.empty((len(files), *size, 3), dtype=np.uint8)

    def chunk(start: int) -> tuple[bool, list[tuple[str, str]]]:
        colour = False
        unread: list[tuple[str, str]] = []
        for i in range(start, min(start + 64, len(files))):
            try:
                image, has_colour = _read(files[i], image_size)
            except UnreadableError as error:
                unread += error.files  # not the error, which would keep the partial pixels alive
                continue
            if image.shape[:2] != size:
                raise InputError(
                    f"images differ in size: {files[i]} is {_by(image.shape)}, but {first} is {_by(size)} "
                    "(width x height; --image-size N brings a data set's images to one; in Python: image_size=N)"
                )
            images[i] = image
            colour |= has_colour
        return colour, unread

    colour = False
    unread: list[tuple[str, str]] = []
    if progress is not None:
        progress(0, len(files))
    # Threads: Pillow's decoders release the interpreter lock.
    pool = ThreadPoolExecutor(min(32, os.cpu_count() or 1))
    try:
        for done, (has_colour, failed) in enumerate(pool.map(chunk, range(0, len(files), 64)), start=1):
            colour |= has_colour
            unread += failed
            if progress is not None:
                progress(min(64 * done, len(files)), len(files))
    finally:
        pool.shutdown(cancel_futures=True)
    if unread:
        raise _unreadable(unread, len(files))
    return images if colour else np.ascontiguousarray(images[..., :1])


def _first_size(files: Sequence[str]) -> tuple[str, tuple[int, int]]:
    """The first file that can be read, and the height and width of its image."""
    for file in files:
        with contextlib.suppress(UnreadableError):
            height, width, _ = _read(file, None)[0].shape
            return file, (height, width)
    return files[0], (0, 0)


def _unreadable(files: Sequence[tuple[str, str]], of: int = 1) -> UnreadableError:
    """The error for the unreadable files of ``of``, given as (file, reason); the most frequent reasons come first."""
    by_reason: dict[str, list[str]] = {}
    for file, reason in files:
        alike = re.sub(r" \([^()]*\)$", "", reason)  # without how many bytes are missing, and the like
        by_reason.setdefault(alike, []).append(file)
    ranked = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    said = [f"{reason} ({len(named):,}: {first_few(named)})" for reason, named in ranked[:MAX_REASONS]]
    if len(ranked) > MAX_REASONS:
        said.append(f"other reasons ({sum(len(named) for _, named in ranked[MAX_REASONS:]):,})")
    whole = f"{len(files):,} of {of:,} images cannot be read: {'; '.join(said)}"
    error = UnreadableError(whole if len(files) > 1 else f"cannot read the image {files[0][0]}: {files[0][1]}")
    error.files = tuple(files)
    return error


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _read(file: str, size: tuple[int, int] | None) -> tuple[NDArray[np.uint8], bool]:
    """An image as uint8 (H, W, 3 or 1), and whether it has colour."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image: Image.Image = _eight_bit(opened, file)
    # Decoders report broken files with nearly any of these.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, UnreadableError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable([(file, reason.replace(f" {file!r}", ""))]) from error
    if size is not None:
        image = ImageOps.fit(image, (size[1], size[0]), method=Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return (pixels[..., None], False) if image.mode == "L" else (pixels, True)


def _eight_bit(image: Image, file: str) -> Image:
    """Decoded as L or RGB, upright; transparency is dropped."""
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        # Pillow would silently clip these to 255.
        raise _unreadable([(file, f"its pixels are of mode {image.mode}, and only 8-bit images can be read")])
    image.info.pop("transparency", None)  # Pillow would warn of it
    decoded = image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB")
    with contextlib.suppress(Exception):  # invalid EXIF rotates nothing
        ImageOps.exif_transpose(decoded, in_place=True)
    return decoded
