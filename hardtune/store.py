"""A content-addressed store: what was computed once from the same inputs is never computed again.

An entry is a few named arrays under an *identity*, a JSON description of everything that determines them. Its file
name is the hash of that identity, so entries never need invalidating: different inputs have different names.
Files are safetensors (no pickled code), are written atomically (aside, then renamed) and carry a checksum.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem
from numpy.typing import NDArray

from hardtune import durable
from hardtune.disk import named
from hardtune.errors import HardtuneWarning, InputError

Arrays = Mapping[str, NDArray[Any]]

_RESULT = r"[^/]+/[0-9a-f]{64}\.safetensors(\.[^/]+)?"
"""How a result's file lies in the store, and what is written or set aside next to it."""
_SCRATCH = r"[0-9a-f]{32}\.counter|\.[0-9a-f]{32}\.[0-9a-f]{32}|\.probe-[0-9a-f]{32}(\.[0-9a-f]{32}\.tmp)?"
"""How files are named that exist in a store's folder while it is checked, or while a task counts."""


def digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over dtype, shape and content of arrays, to represent them in an identity."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


@dataclass(frozen=True)
class Entry:
    """One file of a store."""

    path: str
    size: int
    """In bytes."""
    age: float
    """Seconds since it was written."""

    @property
    def kind(self) -> str:
        """What its identity calls it: ``member``, ``dynamics``, ``features``, …"""
        return self.path.split("/")[-2]

    @property
    def is_result(self) -> bool:
        """False for damaged files that were set aside and for leftovers of killed writers."""
        return self.path.endswith(".safetensors")


def local_folder(path: str | Path) -> Path:
    """The absolute path of a folder, existing or not, that can hold locks and databases.

    Raises:
        InputError: it is a URL, a file, or empty, like an unset shell variable.

    >>> local_folder(Path("s3://bucket/results"))
    Traceback (most recent call last):
    hardtune.errors.InputError: the storage is a folder, with locks and databases in it, and not a URL such as \
s3://bucket/results: mount that and give its path
    """
    if path == "":
        raise InputError("the storage has no name: give the path of a folder (. for the one that this is run in)")
    path = Path(path)
    url = _url_in(path)
    if url is not None:
        raise InputError(
            f"the storage is a folder, with locks and databases in it, and not a URL such as {url}: "
            "mount that and give its path"
        )
    folder = path.expanduser().resolve()
    if folder.is_file():
        raise InputError(f"the storage is a folder, and {folder} is a file: give another path")
    return folder


def _url_in(path: Path) -> str | None:
    """The URL that the path was made from, or None."""
    scheme, colon, rest = str(path).partition(":/")  # Path reduces :// to :/
    return f"{scheme}://{rest.lstrip('/')}" if colon and scheme.replace("+", "").isalnum() else None


class Store:
    """A folder of results, on a local or shared file system or at any fsspec URL (``s3://…``).

    >>> import tempfile
    >>> store = Store(tempfile.mkdtemp())
    >>> store.put({"kind": "scores", "seed": 1}, {"aum": np.zeros(3)})
    >>> store.get({"seed": 1, "kind": "scores"})["aum"]
    array([0., 0., 0.])
    >>> store.get({"kind": "scores", "seed": 2}) is None
    True
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        """``InputError`` for no name, and for a URL that fsspec does not support, or only with another package."""
        if root == "":  # as an unset variable is; its path would be the working directory's
            raise InputError("the store has no name: give the path of a folder (. for the one that this is run in)")
        if "://" not in str(root):
            url = _url_in(Path(root))
            if url is not None:
                raise InputError(f"a Path does not hold a URL such as {url}: give the store's as a string")
            folder = Path(root).expanduser().resolve()
            self.root = str(folder)
            # Not by name: fsspec would take :: in it for a chain of file systems.
            self._files, self._path = LocalFileSystem(), folder.as_posix()
            return
        self.root = str(root)
        try:
            self._files, self._path = fsspec.core.url_to_fs(self.root)
        except (ImportError, ValueError) as error:
            raise InputError(f"cannot open the store {self.root}: {error}") from error

    def check_writable(self) -> None:
        """Raise ``InputError`` unless a file can be written here, before hours of work depend on it."""
        probe = f"{self._path}/.probe-{uuid.uuid4().hex}"
        try:
            self._files.makedirs(self._path, exist_ok=True)
            self._write(probe, b"hardtune")
            self._files.rm_file(probe)
        except Exception as error:  # every file system has its own exceptions
            raise InputError(f"cannot write results to {self.root}: {error}") from error

    def get(self, identity: Mapping[str, Any]) -> dict[str, NDArray[Any]] | None:
        """The arrays stored under ``identity``, or None.

        A file that is truncated, altered or belongs to another identity is set aside (``….corrupt``) with a
        warning and counts as absent: its content is computed again.
        """
        from safetensors import SafetensorError

        path = self._file(identity)
        try:
            local = isinstance(self._files, LocalFileSystem)
            data = durable.read(Path(path)) if local else self._files.cat_file(path)
        except FileNotFoundError:
            return None
        try:
            return _decode(data, identity)
        except (SafetensorError, ValueError, KeyError) as error:
            message = f"set aside {path}, which is damaged ({error}); it will be computed again"
            warnings.warn(message, HardtuneWarning, stacklevel=2)
            self._set_aside(path, data)
            return None

    def put(self, identity: Mapping[str, Any], arrays: Arrays) -> None:
        """Store ``arrays`` under ``identity``. Concurrent writers are safe: the last complete file wins."""
        path = self._file(identity)
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._write(path, _encode(identity, arrays))

    @contextlib.contextmanager
    def alone(self, identity: Mapping[str, Any]) -> Iterator[None]:
        """Lock ``identity`` while computing it: other processes wait here, and then find it stored.

        The system frees the lock of a process that dies. Without locks (at URLs, on some file systems) two processes
        may compute the same at once, which costs time but does no harm.
        """
        with contextlib.ExitStack() as held:
            if isinstance(self._files, LocalFileSystem):
                held.enter_context(_locked(f"{self._file(identity)}.lock"))
            yield

    def __contains__(self, identity: Mapping[str, Any]) -> bool:
        return bool(self._files.exists(self._file(identity)))

    def entries(self) -> list[Entry]:
        """Every file of the store, sorted by path: results and leftovers, but no locks, and nobody else's files."""
        if not self._files.exists(self._path):
            return []
        files = self._files.find(self._path, maxdepth=2, detail=True).values()
        ours = re.compile(rf"{re.escape(self._path)}/({_RESULT}|{_SCRATCH})")
        found = [item for item in files if ours.fullmatch(item["name"]) and not item["name"].endswith(".lock")]
        return sorted((Entry(item["name"], item["size"], _age(item)) for item in found), key=lambda entry: entry.path)

    def verify(self, entry: Entry) -> str | None:
        """What is wrong with an entry's file, which is then set aside, or None; reads the whole file."""
        from safetensors import SafetensorError

        data = self._files.cat_file(entry.path)
        try:
            identity = json.loads(_header(data)["identity"])
            _decode(data, identity)
            if self._file(identity) != entry.path:
                raise ValueError("it holds another result")
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            self._set_aside(entry.path, data)
            return str(error)
        return None

    def remove(self, entry: Entry) -> None:
        """Delete the file; a result is computed again when it is next asked for."""
        self._files.rm_file(entry.path)

    def _set_aside(self, path: str, damaged: bytes) -> None:
        """Rename a damaged file, unless it was renamed or repaired meanwhile, or the store is read-only."""
        with contextlib.suppress(Exception):  # each file system has its own
            if self._files.cat_file(path) == damaged:
                self._rename(path, f"{path}.corrupt")

    def _write(self, path: str, data: bytes) -> None:
        """Write a file atomically: whole or not at all."""
        aside = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            with named(path):
                self._files.pipe_file(aside, data)
                self._rename(aside, path)
        except BaseException:
            with contextlib.suppress(Exception):  # each file system has its own
                self._files.rm_file(aside)
            raise

    def _rename(self, path: str, target: str) -> None:
        if type(self._files).mv is AbstractFileSystem.mv:  # it copies, too, but takes brackets for a glob pattern
            self._files.cp_file(path, target)
            self._files.rm_file(path)
        else:
            self._files.mv(path, target)

    def _file(self, identity: Mapping[str, Any]) -> str:
        name = hashlib.sha256(_canonical(identity).encode()).hexdigest()
        return f"{self._path}/{identity['kind']}/{name}.safetensors"


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Lock a file that exists only while it is locked; filelock would tolerate one that outlives its holder."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    while True:
        with open(path, "ab") as file:
            with contextlib.suppress(ImportError, OSError):  # Windows, or a file system without locks
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:
                continue  # its last holder removed it while this process waited: it guards nothing any more
            try:
                yield
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            return


def _canonical(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(arrays: Arrays) -> str:
    names = sorted(arrays)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest() + digest(*(arrays[name] for name in names))


def _encode(identity: Mapping[str, Any], arrays: Arrays) -> bytes:
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(contiguous, {"identity": _canonical(identity), "checksum": _checksum(contiguous)})


def _decode(data: bytes, identity: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load

    arrays: dict[str, NDArray[Any]] = load(data)
    header = _header(data)
    if header["identity"] != _canonical(identity):
        raise ValueError("it holds another result")
    if header["checksum"] != _checksum(arrays):
        raise ValueError("its checksum does not match")
    return arrays


def _header(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def _age(item: Mapping[str, Any]) -> float:
    """Seconds since a file was written; file systems differ in the field's name, and some lack it."""
    written = item.get("mtime") or item.get("LastModified") or item.get("created") or time.time()
    return max(0.0, time.time() - (written.timestamp() if hasattr(written, "timestamp") else float(written)))
