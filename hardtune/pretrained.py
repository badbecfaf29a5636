"""Pre-trained weights from a file, without running pickled code, or from a hub; and timm's metadata of its models."""

from __future__ import annotations

import difflib
import hashlib
import pickle
import socket
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from hardtune.errors import InputError

if TYPE_CHECKING:
    import torch

_hashes: dict[tuple[object, ...], str] = {}
_SETTLED = 2
"""Seconds after which a file that is written to gets another time, whatever the file system's resolution."""


def existing_file(path: str, what: str) -> Path:
    """The file at ``path``; ``InputError`` says where it was looked for if there is none."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"{what} {path!r} is not a file: looked for {file.absolute()}")
    return file


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, computed once for as long as nothing is written to the file."""
    it = path.stat()
    version = (path, it.st_ino, it.st_size, it.st_mtime_ns, it.st_ctime_ns)
    if version in _hashes:
        return _hashes[version]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time() - it.st_mtime > _SETTLED:
        _hashes[version] = found
    return found


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
    """Raise an ``InputError`` for whatever goes wrong while ``model`` loads weights from ``path``."""
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


def fetch(model: str, repository: str, files: tuple[str, ...], instead: str) -> Path:
    """The first of ``files`` that a repository of the Hugging Face hub has, downloaded unless it is in the cache."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    # Look in the cache first: without a network the hub's client would retry for most of a minute.
    for file in files:
        cached = try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached)
    wanted = f"{' or '.join(files)} of {constants.ENDPOINT}/{repository}"
    with downloading(model, wanted, constants.HF_HUB_CACHE, instead):
        if not urllib.request.getproxies():
            hub = urlparse(constants.ENDPOINT)
            port = hub.port or (80 if hub.scheme == "http" else 443)
            socket.create_connection((hub.hostname or "", port), timeout=5).close()
        for file in files:
            try:
                return Path(hf_hub_download(repository, file))
            except LocalEntryNotFoundError:  # which the hub did not say, since it did not answer
                raise
            except EntryNotFoundError:
                continue
        raise FileNotFoundError("the repository has no such file")


@contextmanager
def downloading(model: str, wanted: str, cache: str, instead: str) -> Iterator[None]:
    """Turn a failed download into an ``InputError`` that says what is missing where, and what to do ``instead``."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights of {model} are not in {cache} and cannot be downloaded ({reason}): download {wanted} where "
            f"there is a network, and {instead}"
        ) from error


def timm_config(model: str, *, weights: bool, instead: str) -> dict[str, Any]:
    """timm's description of ``NAME`` or ``NAME.TAG``: where its weights are, and what images they expect.

    Args:
        model: if it has a tag, those weights must exist.
        weights: whether a model without a tag must have weights, too: timm's default ones.
        instead: an alternative that errors suggest.

    Raises:
        InputError: timm has no such model (lists close matches) or no such weights (lists those it has).
    """
    import timm

    architecture, dot, _ = model.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=5, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() has the names"
        raise InputError(f"unknown timm model {architecture!r}: {hint}")
    known = timm.list_models(f"{architecture}.*", pretrained=True)
    if (dot or weights) and (model not in known if dot else not known):
        raise InputError(
            f"timm has no pretrained weights named {model!r}: choose from {', '.join(known) or 'none'}, or {instead}"
        )
    config = timm.get_pretrained_cfg(model)
    return config.to_dict() if config is not None else {"architecture": architecture, "tag": ""}


def timm_pretrained(model: str, config: Mapping[str, Any], instead: str, **options: Any) -> Any:
    """timm's model with the weights that ``config`` describes; ``options`` are passed to ``timm.create_model``.

    Raises:
        InputError: the weights are not in the cache and cannot be downloaded, or are broken.
    """
    import timm

    name = f"timm:{model}"
    if config.get("hf_hub_id") and not config.get("custom_load"):
        file = config.get("hf_hub_filename")
        files = (file,) if file else ("model.safetensors", "pytorch_model.bin")
        path = fetch(name, config["hf_hub_id"], files, instead)
        with fitting(path, name):
            return timm.create_model(model, pretrained=True, pretrained_cfg_overlay={"file": str(path)}, **options)
    with downloading(name, str(config.get("url") or config.get("hf_hub_id")), "timm's cache", instead):
        return timm.create_model(model, pretrained=True, **options)
