"""bfloat16 where the device trains faster with it, float32 elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from functools import cache

import torch
from torch import nn

from hardtune.recipe import Recipe


def resolved(recipe: Recipe, device: str) -> Recipe:
    """The recipe with precision ``auto`` decided for ``device``.

    What it decides is a property of the kind of device, not of the network, so that a sweep's trials agree on it.
    """
    if recipe.precision != "auto":
        return recipe
    faster = _bfloat16_is_faster(device.partition(":")[0])
    return dataclasses.replace(recipe, precision="bfloat16" if faster else "float32")


def autocast(device: str, precision: str) -> contextlib.AbstractContextManager[object]:
    """The context in which networks are trained: weights stay float32, matrix products are of ``precision``.

    Trained networks answer in float32: rounding their logits to 8 bits would tie confidences that calibration ranks.
    """
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=precision == "bfloat16")


@cache
def _bfloat16_is_faster(kind: str) -> bool:
    """GPUs with bfloat16 units: always. CPUs with such instructions: it depends on the maker, so 150 ms of trying tell.

    With AMX it is 3 to 4 times as fast; with AVX-512's dot products twice (AMD Zen 5) or not at all (Intel); where it
    is emulated, ten times slower.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    if not (capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")):
        return False
    best = {False: float("inf"), True: float("inf")}
    with torch.random.fork_rng(devices=[]):
        convolution = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    for _ in range(6):
        for enabled in best:
            # CPU time, which what else the machine does moves little: processes and sweeps should come to one answer.
            start = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                convolution(images).float().sum().backward()
            best[enabled] = min(best[enabled], time.process_time() - start)
    # A clear gain or none at all: nothing in between is worth a rounding error.
    return best[True] < best[False] / 1.1
