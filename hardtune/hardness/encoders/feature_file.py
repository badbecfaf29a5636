"""A user's own features, from a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset, Progress, Split
from hardtune.errors import InputError
from hardtune.hardness.encoders.encoder import ENCODERS
from hardtune.pretrained import existing_file, sha256

_ROWS = 4096
"""Rows of a memory-mapped file that are checked at once."""


@dataclass(frozen=True)
class FeatureFile:
    """Features of a data set's whole training split (without imbalance), one row per sample, in its order.

    ``.npy`` is one array of numbers (N, D) that are finite in float32. ``.npz`` and ``.safetensors`` hold it as
    ``features`` or as their only entry besides ``fingerprint``, the ``Dataset.fingerprint`` of the data that it was
    made from: an array in ``.npz`` and metadata in ``.safetensors``. If present, it must match the data in use::

        np.savez("features.npz", features=features, fingerprint=dataset.fingerprint)
    """

    path: str

    def check(self, dataset: Dataset) -> None:
        origin = dataset.traced()
        self._read(dataset.name, len(origin.labels), origin.fingerprint)

    def identity(self) -> dict[str, str]:
        return {"kind": "file", "sha256": sha256(existing_file(self.path, "feature file"))}

    def encode(self, split: Split, *, device: str, batch_size: int, progress: Progress | None) -> NDArray[np.float32]:
        features = self._read(split.name, split.origin_size, split.origin_fingerprint)[split.kept].astype(np.float32)
        if progress is not None:
            progress(len(features), len(features))
        return features

    def _read(self, data: str, size: int, data_fingerprint: str) -> NDArray[np.floating]:
        path = existing_file(self.path, "feature file")
        features, fingerprint = read_features(path)
        if features.ndim != 2 or not features.shape[1] or features.dtype.kind not in "iuf":
            raise InputError(f"features in {path} must be numbers (N, D), got {features.dtype} {features.shape}")
        if len(features) != size:
            raise InputError(
                f"{path} has features of {len(features)} samples, but the whole training split of {data} has {size}"
            )
        if fingerprint not in (None, data_fingerprint):
            raise InputError(
                f"{path} was made from other data: its fingerprint is {fingerprint}, but that of {data} is "
                f"{data_fingerprint}"
            )
        for start in range(0, size, _ROWS):
            with np.errstate(over="ignore"):
                finite = np.isfinite(features[start : start + _ROWS].astype(np.float32)).all(axis=1)
            if not finite.all():
                row = start + int(finite.argmin())
                raise InputError(f"{path} has features that are not finite in float32, first in row {row}, from 0")
        return features


def read_features(path: Path) -> tuple[NDArray[np.floating], str | None]:
    """The array in a file of features, and its fingerprint, or None if it has none."""
    readers = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise InputError(f"features are read from .npy, .npz or .safetensors files, not from {path}")
    try:
        return readers[path.suffix](path)
    except InputError:
        raise
    # numpy refuses pickled objects with a ValueError; a damaged file can raise nearly anything.
    except Exception as error:
        pickled = "it is no file of numbers, or one of Python objects" if "allow_pickle" in str(error) else ""
        raise InputError(f"cannot read features from {path}: {pickled or error}") from error


def _read_npy(path: Path) -> tuple[NDArray[np.floating], None]:
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _read_npz(path: Path) -> tuple[NDArray[np.floating], str | None]:
    with np.load(path, allow_pickle=False) as arrays:
        features = arrays[_key(path, arrays.files)]
        return features, str(arrays["fingerprint"]) if "fingerprint" in arrays else None


def _read_safetensors(path: Path) -> tuple[NDArray[np.floating], str | None]:
    from safetensors import safe_open

    # Through torch, which supports bfloat16; numpy doesn't.
    with safe_open(path, framework="pt") as tensors:
        features = tensors.get_tensor(_key(path, list(tensors.keys())))
        return features.float().numpy(), (tensors.metadata() or {}).get("fingerprint")


def _key(path: Path, keys: list[str]) -> str:
    candidates = [key for key in keys if key != "fingerprint"]
    if "features" in candidates:
        return "features"
    if len(candidates) != 1:
        raise InputError(f"{path} must hold an array named 'features', and holds {', '.join(candidates) or 'none'}")
    return candidates[0]


@ENCODERS.register("file")
def _file(rest: str) -> FeatureFile:
    if not rest:
        raise InputError("the encoder 'file' needs a path: file:/path/features.npy")
    return FeatureFile(rest)
