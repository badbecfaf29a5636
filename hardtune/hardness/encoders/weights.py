"""Weights of frozen encoders: from a file without running what is pickled in it, or from a hub."""

from __future__ import annotations

import hashlib
import pickle
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from hardtune.errors import InputError

if TYPE_CHECKING:
    import torch


def existing_file(path: str, what: str) -> Path:
    """The file at ``path``; ``InputError`` says where it was looked for if there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{what} {path!r} is not a file: looked for {file.absolute()}")
    return file


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name from a ``.safetensors`` file or a ``torch.save``, without executing pickled code."""
    import torch
    from safetensors.torch import load_file

    state: Any
    if path.suffix == ".safetensors":
        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path} holds no dictionary of weights")
    return {name.removeprefix("module."): value for name, value in state.items()}


@contextmanager
def fitting(path: Path, model: str) -> Iterator[None]:
    """Turns whatever goes wrong while weights are read from ``path`` into ``model`` into an ``InputError``."""
    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not loaded, since it is broken or holds pickled objects or code beside the weights; "
            "save the model's state_dict as .safetensors instead"
        ) from error
    # A broken file, or one of another network, can raise nearly anything.
    except Exception as error:
        reason = " ".join(str(error).split())
        if "TorchScript" in reason:
            reason = "it is a TorchScript archive, which holds code; save its state_dict as .safetensors instead"
        raise InputError(f"weights in {path} cannot be loaded into {model}: {reason[:300]}") from error


def fetch(encoder: str, repository: str, files: tuple[str, ...]) -> Path:
    """The first of ``files`` that a repository of the Hugging Face hub has, downloaded unless it is in the cache."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    # The cache first, by hand: without a network the hub's client would try for most of a minute.
    for file in files:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
    wanted = f"{' or '.join(files)} of {constants.ENDPOINT}/{repository}"
    with downloading(encoder, wanted, constants.HF_HUB_CACHE):
        if not urllib.request.getproxies():
            hub = urlparse(constants.ENDPOINT)
            port = hub.port or (80 if hub.scheme == "http" else 443)
            socket.create_connection((hub.hostname or "", port), timeout=5).close()
        for file in files:
            try:
                return Path(hf_hub_download(repository, file))
            except EntryNotFoundError:
                continue
        raise FileNotFoundError("the repository has no such file")


@contextmanager
def downloading(encoder: str, wanted: str, cache: str) -> Iterator[None]:
    """Turns a failed download into an ``InputError`` that says what is missing where, and what to do instead."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights of {encoder} are not in {cache} and cannot be downloaded ({reason}): download {wanted} where "
            f"there is a network, and name the file as in {encoder}@/path/to/model.safetensors"
        ) from error
