"""Images of none of a data set's classes, converted to its size and channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.duplicates import first_same
from hardtune.data.image_folder import read_unlabelled
from hardtune.data.loading import DATASETS, load
from hardtune.errors import InputError, blamed
from hardtune.registry import Registry

Images = NDArray[np.uint8]
"""uint8 (N, H, W, C)."""

VIEWS: Registry[Callable[[Images], Images]] = Registry("out-of-distribution view", for_workers=False)
"""Ways to turn a data set's own test images into images of none of its classes; they need no second data set."""


@VIEWS.register("inverted")
def inverted(images: Images) -> Images:
    """Like a photographic negative."""
    return 255 - images


@VIEWS.register("rotated")
def rotated(images: Images) -> Images:
    """A quarter turn to the left; some images look alike both ways (a 0, an 8), so no detector can be perfect."""
    return np.rot90(images, axes=(1, 2))


def check_ood(source: str | None, data: str) -> None:
    """Raise ``InputError`` for a source that :func:`load_ood` would refuse for these data, before any are read."""
    if source is None:
        return
    _check_name(source, data)
    folders = source not in VIEWS and not {source, data} & DATASETS.keys()
    if folders and Path(source).expanduser().resolve() == Path(data).expanduser().resolve():
        raise _own(source)


def _check_name(source: str, data: str) -> None:
    if source in DATASETS and source == data:
        raise _own(source)
    if source in VIEWS or source in DATASETS:
        return
    if not source or not Path(source).expanduser().is_dir():  # an empty path would be the current folder
        names = ", ".join(sorted({*VIEWS, *DATASETS} - {data}))
        raise InputError(f"unknown out-of-distribution set {source!r}: choose from {names}, or give a folder of images")


def _own(source: str) -> InputError:
    return InputError(f"{source!r} cannot be out of distribution for itself: choose another data set")


def load_ood(
    source: str | Path | Images, dataset: Dataset, data_dir: str | Path | None = None, progress: Progress | None = None
) -> Images:
    """Out-of-distribution images for a data set: uint8 (N', H, W, C), sized and coloured like its own.

    At most as many as there are test samples, drawn with a fixed seed if there are more: that bounds the cost, and
    the base rate of a precision-recall curve does not depend on how large a folder happens to be (our choice).
    Other sizes are scaled to H x W by bilinear interpolation with antialiasing, without keeping proportions; a folder's
    images cover H x W and are cropped to it. Grey images are repeated over the channels, RGB images become luma
    (ITU-R 601) where the data are grey.

    Args:
        source: ``inverted`` or ``rotated`` (the data's own test images, turned into something else), a registered data
            set, whose test split is taken, the path of a folder with images anywhere below it (or below its ``test/``
            or ``val/``; sub-folders need not be classes), or images: uint8 (N', H', W', C').
        dataset: What the networks are trained on.
        data_dir: As in :func:`hardtune.data.load`.

    Raises:
        InputError: An unknown name, the data set itself, missing files, a view that fails, or images that are not of
            that type, whose channels cannot be converted, or that have most of the data's own test images among them.

    >>> digits = load("digits")
    >>> load_ood("inverted", digits).shape == digits.test.images.shape
    True
    """
    images, whose = source, ""
    if isinstance(source, str | Path):
        _check_name(str(source), dataset.name)
        images, whose = _named(str(source), dataset, data_dir, progress), f" from {str(source)!r}"
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.size:
        raise InputError(
            f"out-of-distribution images must be uint8 (N, H, W, C), got {images.dtype} of shape {images.shape}{whose}"
        )
    own = int(np.count_nonzero(first_same(dataset.test.images, images) >= 0))
    if own > len(dataset.test) / 2:  # a few may look alike both ways, or be blank
        raise InputError(
            f"the out-of-distribution images{whose} have {own} of the data's own {len(dataset.test)} test images among "
            "them, and those cannot be out of distribution: choose another set"
        )
    return fitted(_few(images, len(dataset.test)), *dataset.test.images.shape[1:])


def _named(name: str, dataset: Dataset, data_dir: str | Path | None, progress: Progress | None) -> Images:
    if name in VIEWS:
        with blamed(f"{VIEWS.kind} {name!r} fails"):
            return VIEWS[name](dataset.test.images)
    if name in DATASETS:
        return load(name, data_dir, progress=progress).test.images
    size = dataset.test.images.shape[1:3]
    return read_unlabelled(Path(name).expanduser(), size, len(dataset.test), progress=progress)


def fitted(images: Images, height: int, width: int, channels: int) -> Images:
    """The images converted to a size and number of channels, as in :func:`load_ood`.

    >>> fitted(np.full((1, 2, 2, 3), 100, np.uint8), 4, 4, 1)[0, 0, 0]
    array([100], dtype=uint8)
    """
    has = images.shape[3]
    if has == 3 and channels == 1:
        luma = images @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
        images = np.rint(luma).astype(np.uint8)[..., None]
    elif has == 1 and channels > 1:
        images = np.repeat(images, channels, axis=3)
    elif has != channels:
        raise InputError(f"images of {has} channels cannot be shown to networks for {channels}")
    images = np.ascontiguousarray(images)  # a rotated view has negative strides, which torch does not accept
    return images if images.shape[1:3] == (height, width) else _scaled(images, height, width)


def _scaled(images: Images, height: int, width: int) -> Images:
    import torch
    from torch.nn.functional import interpolate

    result = np.empty((len(images), height, width, images.shape[3]), dtype=np.uint8)
    for start in range(0, len(images), 1024):
        batch = torch.tensor(images[start : start + 1024]).permute(0, 3, 1, 2).float()
        scaled = interpolate(batch, (height, width), mode="bilinear", antialias=True).round().clamp(0, 255)
        result[start : start + 1024] = scaled.permute(0, 2, 3, 1).numpy()
    return result


def _few(images: Images, most: int) -> Images:
    if len(images) <= most:
        return images
    return images[np.sort(np.random.default_rng(0x00D).permutation(len(images))[:most])]
