"""What a recipe leaves to the device, decided by a short trial: its precision, and how images lie in memory."""

from __future__ import annotations

import dataclasses
import time
from functools import cache

import torch
from torch import nn

from hardtune.recipe import Recipe

MEMORY_FORMATS = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
"""By the recipe's name for it."""


def is_settled(recipe: Recipe) -> bool:
    """Whether it leaves nothing to the device."""
    return "auto" not in (recipe.precision, recipe.layout)


def resolved(recipe: Recipe, device: str) -> Recipe:
    """The recipe with each ``auto`` decided for ``device``.

    What is decided is a property of the kind of device, not of the network, so that a sweep's trials agree on it.
    """
    if is_settled(recipe):
        return recipe
    kind = device.partition(":")[0]
    precision, layout = recipe.precision, recipe.layout
    if precision == "auto":
        precision = "bfloat16" if _bfloat16_is_faster(kind) else "float32"
    if layout == "auto":
        layout = "channels_first" if _channels_first_is_faster(kind, precision) else "channels_last"
    return dataclasses.replace(recipe, precision=precision, layout=layout)


def layout_of(network: nn.Module) -> torch.memory_format:
    """How the weights of a network's convolutions lie in memory, and so how its images should."""
    # One channel or one pixel lie both ways at once, which torch calls contiguous.
    last = any(weight.ndim == 4 and not weight.is_contiguous() for weight in network.parameters())
    return torch.channels_last if last else torch.contiguous_format


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
    return _is_clearly_faster(("bfloat16", "channels_last"), ("float32", "channels_last"))


@cache
def _channels_first_is_faster(kind: str, precision: str) -> bool:
    """On GPUs it is not where tensor cores take bfloat16, and is on older ones; on CPUs trying tells."""
    if kind == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    return kind == "cpu" and _is_clearly_faster((precision, "channels_first"), (precision, "channels_last"))


def _is_clearly_faster(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether the CPU takes a convolution of ``one`` precision and layout, and its gradients, faster than the other.

    A clear gain or none at all: nothing in between is worth a rounding error.
    """
    best = {one: float("inf"), other: float("inf")}
    with torch.random.fork_rng(devices=[]):
        convolution, images = nn.Conv2d(64, 64, 3, padding=1), torch.randn(64, 64, 16, 16)
    for _ in range(4):
        for precision, layout in best:
            convolution.to(memory_format=MEMORY_FORMATS[layout])  # type: ignore[call-overload]
            laid_out = images.contiguous(memory_format=MEMORY_FORMATS[layout])
            # CPU time, which what else the machine does moves little: processes and sweeps should come to one answer.
            start = time.process_time()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
                convolution(laid_out).float().sum().backward()
            best[precision, layout] = min(best[precision, layout], time.process_time() - start)
    return best[one] < best[other] / 1.1
