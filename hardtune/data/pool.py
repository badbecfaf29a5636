"""A pool of synthetic images that a user supplies, such as HBR v2's from diffusion models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.image_folder import class_folders, read_classes
from hardtune.data.samples import Samples
from hardtune.errors import InputError


def load_pool(path: str | Path, dataset: Dataset, *, progress: Progress | None = None) -> Samples:
    """The pool's images with the data set's labels; checked to fit the data set.

    Args:
        path: a folder with one sub-folder of images per class, named like the data set's; or an ``.npz`` file
            with ``images`` uint8 (P, H, W, C) and ``labels``, class numbers or names (or ``image`` and ``label``,
            as in the 1 M images from EDM that Wang et al. 2023 publish and HBR v2 draws on). A class may
            be missing: a treatment that needs its images says so.
        dataset: whose classes the images were made for. A generator should have seen its training split only.
        progress: called with (images read, images) while a folder is read.

    Raises:
        InputError: nothing there or nothing readable, a class that the data set lacks, images of another size.
    """
    check_pool(path)
    path = Path(path).expanduser()
    images, names = _read_folder(path, dataset.classes, progress) if path.is_dir() else _read_npz(path)
    shape = dataset.train.images.shape[1:]
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0 or len(names) != len(images):
        raise InputError(
            f"the pool {path} must have images uint8 (P, H, W, C) and a label for each, got {images.dtype} "
            f"{images.shape} and {len(names)} labels"
        )
    if images.shape[1:] != shape:
        raise InputError(
            f"the pool's images in {path} are {_by(images.shape[1:])}, and those of {dataset.name} are {_by(shape)}"
        )
    return Samples(images, _numbers(path, names, dataset.classes))


def check_pool(path: str | Path | None) -> None:
    """Raise ``InputError`` if there is nothing that :func:`load_pool` could read, before any data are."""
    if path is None:
        return
    path = Path(path).expanduser()
    if not path.is_dir() and not (path.suffix == ".npz" and path.is_file()):
        raise InputError(
            f"there is no pool of images at {path}: "
            "give a folder with one sub-folder of images a class, or an .npz file"
        )


def _read_folder(
    folder: Path, classes: Sequence[str], progress: Progress | None
) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    found = class_folders(folder)
    if not found:
        raise InputError(f"the pool {folder} has no sub-folders: it needs one a class, of {', '.join(classes)}")
    unknown = sorted(set(found) - set(classes))
    if unknown:  # before a million images are read
        raise _unknown(folder, unknown[0], classes)
    images, names = read_classes(folder, found, progress=progress)
    return images, np.array(names)


def _read_npz(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for images, labels in (("images", "labels"), ("image", "label")):
                if images in arrays and labels in arrays:
                    pixels = arrays[images]
                    return pixels[..., None] if pixels.ndim == 3 else pixels, arrays[labels]
            held = ", ".join(arrays.files)
    # numpy refuses pickled objects with a ValueError; a damaged file can raise nearly anything.
    except Exception as error:
        raise InputError(f"cannot read the pool {path}: {error}") from error
    raise InputError(f"the pool {path} must hold arrays 'images' and 'labels', and holds {held or 'none'}")


def _numbers(path: Path, labels: NDArray[np.generic], classes: Sequence[str]) -> NDArray[np.int64]:
    """Class numbers 0..K-1 of labels (P,) that are numbers or names."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise InputError(
            f"the labels of the pool {path} must be class numbers or names (P,), got {labels.dtype} {labels.shape}"
        )
    if labels.dtype.kind == "U":
        names, which = np.unique(labels, return_inverse=True)
        for name in names:
            if name not in classes:
                raise _unknown(path, str(name), classes)
        return np.array([classes.index(name) for name in names], dtype=np.int64)[which]
    if labels.min() < 0 or labels.max() >= len(classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise _unknown(path, str(wrong), [f"0..{len(classes) - 1}"])
    return labels.astype(np.int64)


def _unknown(path: Path, name: str, classes: Sequence[str]) -> InputError:
    return InputError(f"the pool {path} has a class {name!r}, which the data have not: they have {', '.join(classes)}")


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
