"""What a training loop hands to ``Dynamics``, a saved state as well, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Set

import torch
from torch import Tensor

from hardtune.errors import InputError


def check_batch(ids: Tensor, logits: Tensor, labels: Tensor) -> None:
    """Raise ``InputError`` for other types or shapes than ids (B,), logits (B, K) and labels (B,); never waits."""
    for name, given in (("ids", ids), ("logits", logits), ("labels", labels)):
        if not isinstance(given, Tensor) or not _fits(given, name):
            kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
            hint = " (pass its .logits)" if name == "logits" and hasattr(given, "logits") else ""
            if name == "ids" and isinstance(given, list | tuple) and given and isinstance(given[0], str):
                hint = " of strings (map ids to positions 0..N-1)"
            message = "update takes tensors, ids and labels of integers and logits of floats"
            raise InputError(f"{message}; {name}: {kind}{hint}")
    if logits.ndim != 2 or logits.shape[1] < 2 or ids.shape != logits.shape[:1] or labels.shape != ids.shape:
        hint = ": flatten tokens to (B * L, K), each with an id of its own" if logits.ndim == 3 else ""
        if ids.ndim == 1 and logits.shape in (ids.shape, (*ids.shape, 1)):  # a sigmoid is a softmax of (0, z)
            hint = f": of one logit z, pass torch.{'stack' if logits.ndim == 1 else 'cat'}([0 * z, z], 1)"
        raise InputError(
            "update needs ids (B,), logits (B, K) with K of at least 2 and labels (B,), "
            f"got {tuple(ids.shape)}, {tuple(logits.shape)} and {tuple(labels.shape)}{hint}"
        )


def _fits(given: Tensor, name: str) -> bool:
    """Whether its type is one of the name's; a mask is no ids, but labels of two classes may be booleans."""
    if name == "logits":
        return given.is_floating_point()
    return not (given.is_floating_point() or given.is_complex() or (name == "ids" and given.dtype == torch.bool))


def check_range(values: Tensor, count: int, name: str) -> None:
    """Raise ``InputError`` unless all are in 0..count-1; waits for the device."""
    if len(values):
        low, high = (int(bound) for bound in values.aminmax())
        if low < 0 or high >= count:
            hint = ": number the samples of a subset from 0" if name == "ids" and high >= count else ""
            raise InputError(f"{name} must be in 0..{count - 1}, got {low}..{high}{hint}")


def check_state(state: object, names: Set[str], *, may: Set[str]) -> None:
    """Raise ``InputError`` unless it is a mapping that has all the names, and whose values of these are tensors.

    Those that it ``may`` have must be, too; others are its owner's.
    """
    given = state if isinstance(state, Mapping) else {}
    lacking = sorted(names - set(given))
    if lacking:
        raise InputError(f"that is no state of Dynamics: it lacks {', '.join(lacking)}")
    for name in sorted((names | may) & set(given)):
        if not isinstance(given[name], Tensor):
            kind = type(given[name]).__name__
            raise InputError(f"that is no state of Dynamics: its {name} is no tensor, but a {kind}")


def check_fits(
    state: Mapping[str, Tensor], mine: Mapping[str, Tensor], num_samples: int, early_epoch: int | None
) -> None:
    """Raise ``InputError`` unless a state is of the same numbers and shapes as the tensors that it is loaded into."""
    for name, has, wants in (
        ("num_samples", state["labels"].numel(), num_samples),
        ("early_epoch", int(state["early_epoch"]) or None, early_epoch),
    ):
        if has != wants:
            raise InputError(f"the state is of {name}={has}, and this is of {name}={wants}")
    for name, value in mine.items():
        if state[name].shape != value.shape:
            has_shape, wants_shape = tuple(state[name].shape), tuple(value.shape)
            raise InputError(f"the state's {name} are {has_shape}, and here they are {wants_shape}")
