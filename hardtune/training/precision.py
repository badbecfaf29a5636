"""bfloat16 where the device is faster with it, float32 elsewhere."""

from __future__ import annotations

import contextlib
from functools import cache

import torch


@cache
def uses_bfloat16(device: str) -> bool:
    """Whether training on ``device`` runs under bfloat16 autocast.

    On CPUs only with AMX: without its matrix units bfloat16 is no faster (AVX-512) or ten times slower (AVX2).
    """
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def autocast(device: str) -> contextlib.AbstractContextManager[object]:
    """The autocast context in which networks run on ``device``."""
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=uses_bfloat16(device))
