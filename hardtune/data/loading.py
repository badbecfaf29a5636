"""Loading a data set by name, or any folder of images; and finding its files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.image_folder import listed_files, read_image_folder
from hardtune.errors import InputError, blamed
from hardtune.registry import Registry

Loader = Callable[[Path, Progress | None], Dataset]
"""Reads one data set, whose files are looked for in and downloaded to the folder it is called with."""

DATASETS: Registry[Loader] = Registry("data set", for_workers=False)


def load(
    name: str,
    data_dir: str | Path | None = None,
    *,
    image_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Load a data set by name, or a folder of images by path.

    Args:
        name: ``digits``, ``fashion_mnist``, ``cifar10``, ``cifar100``, or a path of a folder with one sub-folder of
            images per class: ``train/CLASS/*.png`` with ``test/`` or ``val/`` beside ``train/``, or ``CLASS/*.png``
            alone, of which a stratified 20 % (always the same ones) become the test split. ``val/`` beside both is
            trained on, unless ``validation="val"`` holds it out. Images may be in nested folders below their class.
        data_dir: where a named data set's files are, or will be downloaded to. By default
            the environment variable ``HARDTUNE_DATA``, or else ``~/.cache/hardtune/data``.
        image_size: pixels, or (height, width), that a folder's images are resized to; without it all must have
            the same size.
        progress: called with (images read, images) while a folder is read.

    Raises:
        InputError: an unknown name, files that are missing or unreadable (it says what was looked for, where, and
            how to get it), or a folder that is no data set (it names the class or the file).

    >>> digits = load("digits")
    >>> digits.train.images.shape, digits.test.images.shape, digits.num_classes
    ((1258, 8, 8, 1), (539, 8, 8, 1), 10)
    """
    if name in DATASETS:
        if image_size is not None:
            raise InputError(f"an image size is for folders of images; {name} has a size of its own")
        where = _data_dir(data_dir)
        with blamed(f"the loader of data set {name!r} fails"):
            dataset = DATASETS[name](where, progress)
        if not isinstance(dataset, Dataset):
            raise InputError(f"the loader of data set {name!r} must return a Dataset, got {type(dataset).__name__}")
        return dataset
    folder = Path(name).expanduser()
    if not name or not folder.is_dir():  # an empty path would be the current folder
        names = ", ".join(sorted(DATASETS))
        raise InputError(f"unknown data set {name!r}: choose from {names}, or give the path of a folder of images")
    train, test, classes, val = read_image_folder(folder, image_size=image_size, progress=progress)
    return Dataset(folder.resolve().name, train, test, classes, val=val)


def files_of(name: str) -> tuple[list[str], list[str]]:
    """The files of the whole training and test split that :func:`load` reads; none unless it is a folder of images."""
    return ([], []) if name in DATASETS else listed_files(Path(name).expanduser())


def _data_dir(given: str | Path | None) -> Path:
    for source, path in (("data directory", given), ("HARDTUNE_DATA", os.environ.get("HARDTUNE_DATA"))):
        if path:
            folder = Path(path).expanduser()
            if not folder.is_dir():
                raise InputError(f"{source} {str(path)!r} is not a directory")
            return folder
    return Path.home() / ".cache" / "hardtune" / "data"
