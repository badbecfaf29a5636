"""Fashion-MNIST from its idx files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.downloading import download, find_image_folder
from hardtune.data.image_folder import read_image_folder
from hardtune.data.loading import DATASETS
from hardtune.data.samples import Samples
from hardtune.errors import InputError

CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs the files."""


@DATASETS.register("fashion_mnist")
def load_fashion_mnist(data_dir: Path, progress: Progress | None) -> Dataset:
    """60,000 + 10,000 grayscale images of clothing, 28×28, 10 classes (Xiao et al. 2017, arXiv 1708.07747).

    Its idx files, gzipped or not, may be in ``data_dir``, in ``FashionMNIST/raw`` below it, or where Debian puts
    them; or ``data_dir`` holds the images as files, ``train/CLASS/*`` and ``test/CLASS/*``.
    """
    raw = data_dir / "FashionMNIST" / "raw"
    folders = (data_dir, raw, data_dir / "fashion_mnist", DEBIAN)
    found = _find(folders)
    if found is None:
        folder = find_image_folder((data_dir / "fashion_mnist", data_dir), len(CLASSES))
        if folder is not None:
            train, test, classes, val = read_image_folder(folder, progress=progress)
            return Dataset("fashion_mnist", train, test, classes, val=val)
        found = _download(raw, folders)
    train, test = _samples(found, "train"), _samples(found, "t10k")
    return Dataset("fashion_mnist", train, test, CLASSES)


def _find(folders: tuple[Path, ...]) -> Path | None:
    wanted = [f"{split}-{kind}" for split in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    for folder in folders:
        if all(_file(folder, name) is not None for name in wanted):
            return folder
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _download(raw: Path, folders: tuple[Path, ...]) -> Path:
    from torchvision.datasets import FashionMNIST

    files = {
        name: (tuple(mirror + name for mirror in FashionMNIST.mirrors), md5) for name, md5 in FashionMNIST.resources
    }
    looked_for = f"train-images-idx3-ubyte (or .gz) and its three companions in {', '.join(map(str, folders))}"
    download("fashion_mnist", files, raw, looked_for, "on Debian or Ubuntu apt-get install dataset-fashion-mnist")
    return raw


def _samples(folder: Path, split: str) -> Samples:
    images = read_idx(folder, f"{split}-images-idx3-ubyte", ndim=3)
    labels = read_idx(folder, f"{split}-labels-idx1-ubyte", ndim=1)
    if len(images) != len(labels):
        raise InputError(f"the {split} files in {folder} hold {len(images)} images but {len(labels)} labels")
    return Samples(images[..., None], labels.astype(np.int64))


def read_idx(folder: Path, name: str, ndim: int) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes (LeCun's MNIST format), gzipped where its name ends in .gz."""
    path = _file(folder, name)
    assert path is not None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if content[:4] != bytes([0, 0, 8, ndim]) or len(content) != start + math.prod(shape):
        raise InputError(f"{path} is not a whole idx file of {ndim}-dimensional bytes")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
