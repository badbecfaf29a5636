"""Weights of frozen encoders: from a file without running what is pickled in it, or from a hub."""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
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
    from safetensors import SafetensorError

    try:
        yield
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not loaded, since it is broken or holds pickled objects or code beside the weights; "
            "save the model's state_dict as .safetensors instead"
        ) from error
    except (RuntimeError, OSError, EOFError, KeyError, ValueError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        if "TorchScript" in reason:
            reason = "it is a TorchScript archive, which holds code; save its state_dict as .safetensors instead"
        raise InputError(f"weights in {path} do not fit {model}: {reason[:300]}") from error


@contextmanager
def downloading(encoder: str, address: str, hub_files: tuple[str, ...] = ()) -> Iterator[None]:
    """Turns a download that cannot be into an ``InputError`` that says what is missing and what to do instead.

    ``address`` is that of the weights, or a repository of the Hugging Face hub, of which one of ``hub_files`` is
    wanted; a hub that cannot be reached is told in a second, where the hub's client would try for most of a minute.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    cache = constants.HF_HUB_CACHE if hub_files else str(Path.home() / ".cache")
    try:
        here = any(isinstance(try_to_load_from_cache(address, file), str) for file in hub_files)
        if hub_files and not here and not urllib.request.getproxies():
            host = urlparse(constants.ENDPOINT)
            port = host.port or (80 if host.scheme == "http" else 443)
            socket.create_connection((host.hostname or "", port), timeout=5).close()
        yield
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        source = f"{constants.ENDPOINT}/{address}" if hub_files else address
        reason = " ".join(str(error).split())
        raise InputError(
            f"weights of {encoder} are not in {cache} and cannot be downloaded from {source} ({reason[:200]}): "
            f"download them on a machine with a network and name the file, as in {encoder}@{os.sep}path{os.sep}to"
            f"{os.sep}model.safetensors"
        ) from error
