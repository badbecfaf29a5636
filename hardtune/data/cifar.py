"""CIFAR-10 and CIFAR-100 from their Python batches."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardtune.data.dataset import Dataset
from hardtune.data.decoding import Progress
from hardtune.data.downloading import download, find_image_folder
from hardtune.data.image_folder import read_image_folder
from hardtune.data.loading import DATASETS
from hardtune.data.samples import Samples
from hardtune.errors import InputError


@dataclass(frozen=True)
class Cifar:
    """The files and format of one of the two, and its papers' normalisation."""

    name: str
    num_classes: int
    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    meta: str
    label_key: bytes
    names_key: bytes
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CIFAR10 = Cifar(
    name="cifar10",
    num_classes=10,
    folder="cifar-10-batches-py",
    archive="cifar-10-python.tar.gz",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    label_key=b"labels",
    names_key=b"label_names",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
)
CIFAR100 = Cifar(
    name="cifar100",
    num_classes=100,
    folder="cifar-100-python",
    archive="cifar-100-python.tar.gz",
    train=("train",),
    test="test",
    meta="meta",
    label_key=b"fine_labels",
    names_key=b"fine_label_names",
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
)


@DATASETS.register("cifar10")
def load_cifar10(data_dir: Path, progress: Progress | None) -> Dataset:
    """50,000 + 10,000 RGB images, 32×32, 10 classes (Krizhevsky 2009), normalised as in HBR (arXiv 2504.07031).

    ``data_dir`` is or holds ``cifar-10-batches-py`` or ``cifar-10-python.tar.gz``, or the images as files,
    ``train/CLASS/*`` and ``test/CLASS/*``, itself or in a sub-folder ``cifar10``.
    """
    return _load(CIFAR10, data_dir, progress)


@DATASETS.register("cifar100")
def load_cifar100(data_dir: Path, progress: Progress | None) -> Dataset:
    """50,000 + 10,000 RGB images, 32×32, 100 fine classes (Krizhevsky 2009), normalised as in HBR.

    ``data_dir`` as for ``cifar10``, with ``cifar-100-python``, ``cifar-100-python.tar.gz`` or ``cifar100``.
    """
    return _load(CIFAR100, data_dir, progress)


def _load(cifar: Cifar, data_dir: Path, progress: Progress | None) -> Dataset:
    files = _find(cifar, data_dir)
    if files is None:
        folder = find_image_folder((data_dir / cifar.name, data_dir), cifar.num_classes)
        if folder is not None:
            train, test, classes, val = read_image_folder(folder, progress=progress)
            colour = train.images.shape[3] == len(cifar.mean)  # grey copies are normalised by what they are
            mean, std = (cifar.mean, cifar.std) if colour else ((), ())
            return Dataset(cifar.name, train, test, classes, mean, std, val)
        _download(cifar, data_dir)
        files = data_dir / cifar.archive
    content = _contents(cifar, files)
    batches = [_batch(cifar, files, name, content[name]) for name in cifar.train]
    names = _unpickle(files, cifar.meta, content[cifar.meta]).get(cifar.names_key)
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise InputError(f"{files / cifar.meta} has no class names {cifar.names_key.decode()!r}")
    return Dataset(
        cifar.name,
        Samples(np.concatenate([s.images for s in batches]), np.concatenate([s.labels for s in batches])),
        _batch(cifar, files, cifar.test, content[cifar.test]),
        tuple(name.decode() for name in names),
        cifar.mean,
        cifar.std,
    )


def _find(cifar: Cifar, data_dir: Path) -> Path | None:
    """The folder with the batches, or else their archive."""
    for folder in (data_dir, data_dir / cifar.folder):
        if all((folder / name).is_file() for name in (*cifar.train, cifar.test, cifar.meta)):
            return folder
    archive = data_dir / cifar.archive
    return archive if archive.is_file() else None


def _download(cifar: Cifar, data_dir: Path) -> None:
    from torchvision import datasets as torchvision_sets

    source = getattr(torchvision_sets, cifar.name.upper())
    looked_for = (
        f"{cifar.folder}/, {cifar.archive}, and train/ and test/ with {cifar.num_classes} class folders of images, "
        f"in {data_dir} and {data_dir / cifar.name}"
    )
    files = {cifar.archive: ((source.url,), source.tgz_md5)}
    download(cifar.name, files, data_dir, looked_for, "try again with a network")


def _contents(cifar: Cifar, files: Path) -> dict[str, bytes]:
    names = (*cifar.train, cifar.test, cifar.meta)
    try:
        if files.is_dir():
            return {name: (files / name).read_bytes() for name in names}
        content = {}
        # Read directly from the archive: nothing is unpacked to disk.
        with tarfile.open(files) as archive:
            for member in archive:
                folder, _, name = member.name.rpartition("/")
                if folder.endswith(cifar.folder) and name in names and (file := archive.extractfile(member)):
                    content[name] = file.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise InputError(f"cannot read {files}: {error}") from error
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{files} lacks {cifar.folder}/{missing[0]}")
    return content


def _batch(cifar: Cifar, files: Path, name: str, content: bytes) -> Samples:
    batch = _unpickle(files, name, content)
    data, labels = batch.get(b"data"), np.array(batch.get(cifar.label_key), dtype=object)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (3072,):
        raise InputError(f"{files / name} is not a batch of {cifar.name}")
    if labels.ndim != 1 or not all(isinstance(label, (int, np.integer)) for label in labels):
        raise InputError(f"the labels {cifar.label_key.decode()!r} in {files / name} must be class numbers (N,)")
    images = np.ascontiguousarray(data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return Samples(images, labels.astype(np.int64))


def _unpickle(files: Path, name: str, content: bytes) -> dict[bytes, Any]:
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except InputError as error:
        raise InputError(f"{files / name} {error}") from None
    # A broken pickle can raise anything.
    except Exception as error:
        raise InputError(f"cannot read {files / name}: {error}") from error
    if not isinstance(batch, dict):
        raise InputError(f"{files / name} holds no dictionary")
    return batch


class _ArraysOnly(pickle.Unpickler):
    """Unpickles numbers, strings, containers and numpy arrays of them.

    The batches are distributed as pickles, and an ordinary unpickler would run whatever code a file asks for.
    """

    # _reconstruct makes an empty array, which the pickle then fills; the first name is numpy 1's.
    allowed = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise InputError(f"asks for {module}.{name}, which no batch of images needs: it is not loaded")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
