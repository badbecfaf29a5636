"""Folders of images, one sub-folder per class: which split and class each file belongs to."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hardtune.data.decoding import Progress, decode
from hardtune.data.image_files import Files, files_below, images_in, warn_of, what_is_left_out
from hardtune.data.samples import Samples
from hardtune.data.split import stratified
from hardtune.errors import HardtuneWarning, InputError, classes_have

TEST_NAMES = ("test", "val")
VALIDATION_NAMES = ("val", "valid", "validation")
TEST_SHARE = 0.2
SPLIT_WORDS = frozenset({"train", "training", "test", "testing", *VALIDATION_NAMES})


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the sub-folders, sorted: the classes of a folder of images.

    Raises ``InputError`` for a name that is not UTF-8, which neither figures nor MLflow could show.
    """
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    for name in names:
        if any("\udc80" <= letter <= "\udcff" for letter in name):  # a byte that is no letter, as Python reads it
            raise InputError(f"the name of the class folder {name!r} in {folder} is not UTF-8: give it another")
    return tuple(names)


def read_image_folder(
    folder: Path,
    *,
    image_size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> tuple[Samples, Samples, tuple[str, ...], NDArray[np.int64] | None]:
    """A folder of images: training split, test split, class names, and which training samples are a validation split.

    ``folder`` holds ``train/`` and ``test/`` (or ``val/``, where there is no ``test/``), each with one sub-folder of
    images per class; or it holds the class folders themselves, and a stratified 20 % of every class, drawn with a
    fixed seed, becomes the test split. If ``val/`` (or ``valid/``, ``validation/``) exists next to ``train/`` and
    ``test/``, its images are appended to the training split, and these are their rows, else None. Warns of either.

    A class folder's images may be in nested folders; they are sorted by path. Hidden files and folders are skipped, and
    so are, with one warning each, files without a suffix of ``IMAGE_SUFFIXES`` and images beside the class folders.

    Images are 8-bit, and rotated upright by their EXIF; they are read as grayscale (C = 1) if all of them are, else as
    RGB. ``image_size`` scales each to cover (height, width) with bicubic interpolation and crops the centre.

    Raises ``InputError`` naming the class or file for an empty class, fewer than 2 classes, a class that ``train/``
    lacks, classes in ``train/`` without a test split beside it, splits of other names, unreadable images (after all
    were tried), or images of different sizes without ``image_size``.
    """
    files = _listed(folder)
    if files.added:
        warnings.warn(
            f"{' and '.join(map(str, files.added))} became a part of the training data, which --recipe validation=val "
            "holds out, while a number holds out a random share of all",
            HardtuneWarning,
            stacklevel=3,
        )
    if files.tested not in (None, folder / "test"):
        warnings.warn(f"the test split is {files.tested}, for lack of another", HardtuneWarning, stacklevel=3)
    warn_of(files.left_out, files.beside)
    images = decode(files.train + files.test, image_size, progress)
    boundary = len(files.train)
    train = Samples(images[:boundary], files.train_labels)
    val = np.arange(boundary - files.added_size, boundary) if files.added_size else None
    return train, Samples(images[boundary:], files.test_labels), files.classes, val


def listed_files(folder: Path) -> tuple[list[str], list[str]]:
    """The files of the training and the test split that :func:`read_image_folder` makes of ``folder``, in its order."""
    files = _listed(folder)
    return files.train, files.test


class _Listed(NamedTuple):
    train: list[str]
    train_labels: NDArray[np.int64]
    test: list[str]
    test_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    left_out: list[str]
    """Files that are in neither, for their suffix."""
    beside: list[str]
    """Images beside the class folders, which have no class."""
    added: tuple[Path, ...] = ()
    """Folders beside ``train/`` whose images are trained on, too, after its own."""
    added_size: int = 0
    """How many images these have."""
    tested: Path | None = None
    """The folder of the test split, if it has one."""


def _listed(folder: Path) -> _Listed:
    test_name = next((name for name in TEST_NAMES if (folder / name).is_dir()), None)
    if (folder / "train").is_dir() and test_name:
        classes = _classes(folder / "train")
        others = _validation(folder, test_name)
        for other in (folder / test_name, *others):
            extra = set(class_folders(other)) - set(classes)
            if extra:
                raise InputError(f"class {min(extra)!r} is in {other}, but not in {folder / 'train'}")
        tested = folder / test_name
        parts = [_files(folder / "train", classes), *(_files(other, classes, lacking=True) for other in others)]
        added = tuple(other for other, (files, _) in zip(others, parts[1:], strict=True) if files.images)
        test, test_labels = _files(tested, classes)
        train = [file for files, _ in parts for file in files.images]
        return _Listed(
            train=train,
            train_labels=np.concatenate([labels for _, labels in parts]),
            test=test.images,
            test_labels=test_labels,
            classes=classes,
            left_out=[file for files, _ in (*parts, (test, test_labels)) for file in files.left_out],
            beside=[file for split in (folder / "train", *others, tested) for file in images_in(split)],
            added=added,
            added_size=len(train) - len(parts[0][0].images),
            tested=tested,
        )
    if (folder / "train").is_dir() and class_folders(folder / "train"):  # else train may be a class
        raise InputError(
            f"{folder} has train/, but no test split beside it: name that test/ or val/, or give {folder / 'train'} "
            "alone, of which a fifth becomes one"
        )
    classes = _classes(folder)
    _check_no_splits(folder, classes)
    files, labels = _files(folder, classes)
    held = stratified(labels, classes, TEST_SHARE, seed=0, what="image")
    kept = np.delete(np.arange(len(labels)), held)
    most, fifth = ([files.images[i] for i in rows] for rows in (kept, held))
    return _Listed(most, labels[kept], fifth, labels[held], classes, files.left_out, images_in(folder))


def _validation(folder: Path, test_name: str) -> list[Path]:
    """Splits besides ``train/`` and the test split, each once; links to either of these are skipped."""
    seen = {(folder / name).resolve() for name in ("train", test_name)}
    found = []
    for path in (folder / name for name in VALIDATION_NAMES):
        if path.is_dir() and path.resolve() not in seen:
            seen.add(path.resolve())
            found.append(path)
    return found


def _check_no_splits(folder: Path, classes: Sequence[str]) -> None:
    """Raise ``InputError`` for classes that look like splits: ``Training/`` and ``Testing/`` with folders, say."""
    named = [name for name in classes if SPLIT_WORDS & set(re.split(r"[\W_]+", name.lower()))]
    splits = [name for name in named if class_folders(folder / name)]
    if len(splits) > 1:
        raise InputError(
            f"{folder} has {'/ and '.join(splits)}/ with folders in them, which look like splits rather than classes: "
            "name them train/ and test/, or otherwise if they are classes"
        )


def read_unlabelled(
    folder: Path,
    image_size: tuple[int, int],
    most: int,
    *,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Images from anywhere below ``folder``, or below its ``test/`` or ``val/``, whatever classes they have.

    At most ``most`` of them, drawn with a fixed seed; each covers ``image_size`` (height, width). uint8 (N, H, W, C).
    """
    below = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), folder)
    files, left_out = files_below(below)
    if not files:
        raise InputError(f"there are no images in {below}{_since(left_out)}")
    warn_of(left_out)
    drawn = np.sort(np.random.default_rng(0).permutation(len(files))[:most])
    return decode([files[i] for i in drawn], image_size, progress)


def read_classes(
    folder: Path, classes: Sequence[str], *, progress: Progress | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """The images uint8 (N, H, W, C) in the sub-folders ``classes``, and the class of each; all must be of one size."""
    (files, left_out), labels = _files(folder, classes)
    warn_of(left_out, images_in(folder))
    return decode(files, None, progress), [classes[label] for label in labels]


def _classes(folder: Path) -> tuple[str, ...]:
    classes = class_folders(folder)
    if len(classes) < 2:
        raise InputError(
            f"{folder} needs a sub-folder of images for each of at least 2 classes, and has {len(classes)}"
        )
    return classes


def _files(folder: Path, classes: Sequence[str], *, lacking: bool = False) -> tuple[Files, NDArray[np.int64]]:
    """The files of each class in turn, and the images' labels; a class may have no images only if ``lacking``."""
    files = Files([], [])
    counts = []
    empty: dict[str, list[str]] = {}
    for name in classes:
        found = files_below(folder / name)
        if not found.images:
            empty[name] = found.left_out
        files.images.extend(found.images)
        files.left_out.extend(found.left_out)
        counts.append(len(found.images))
    if empty and not lacking:
        left_out = [file for own in empty.values() for file in own]
        why = _since(left_out) or ": add some, or leave the class out"
        raise InputError(f"{classes_have([*empty])} no images in {folder}{why}")
    return files, np.repeat(np.arange(len(classes), dtype=np.int64), counts)


def _since(left_out: Sequence[str]) -> str:
    return f", since {what_is_left_out(left_out)}" if left_out else ""
