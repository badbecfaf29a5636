"""What a recipe leaves to the device: precision, how images lie in memory, and whether networks are compiled."""

from __future__ import annotations

import dataclasses
import time
from functools import cache

import torch
from torch import nn

from hardtune.recipe import Recipe

MEMORY_FORMATS = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
"""By the recipe's name for it."""
LEFT_TO_THE_DEVICE = ("precision", "layout", "compile")
"""Fields of a recipe that may be ``auto``."""
LONG = 50
"""Epochs of a run that is worth compiling for: of CIFAR's images they take an H200 two minutes, and compiling half a
minute in the first process of a machine."""


def is_resolved(recipe: Recipe) -> bool:
    """Whether it leaves nothing to the device."""
    return all(getattr(recipe, name) != "auto" for name in LEFT_TO_THE_DEVICE)


def resolved(recipe: Recipe, device: str) -> Recipe:
    """The recipe with each ``auto`` decided for ``device``.

    What is decided is a property of the kind of device, not of the network, so that a sweep's trials agree on it.
    """
    if is_resolved(recipe):
        return recipe
    kind = device.partition(":")[0]
    precision, layout, compiled = recipe.precision, recipe.layout, recipe.compile
    if precision == "auto":
        precision = "bfloat16" if _bfloat16_is_faster(kind) else "float32"
    if layout == "auto":
        layout = "channels_last" if _channels_last_is_faster(kind) else "channels_first"
    if compiled == "auto":
        compiled = recipe.epochs >= LONG and _can_compile(kind)
    return dataclasses.replace(recipe, precision=precision, layout=layout, compile=compiled)


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
    best = {False: float("inf"), True: float("inf")}
    with torch.random.fork_rng(devices=[]):
        convolution = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    try:
        # Processes and sweeps should come to one answer, and what else the machine does moves a single thread's CPU
        # time little; several threads count how long they wait for each other, too.
        torch.set_num_threads(1)
        for _ in range(6):
            for enabled in best:
                start = time.process_time()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                    convolution(images).float().sum().backward()
                best[enabled] = min(best[enabled], time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    # A clear gain or none at all: nothing in between is worth a rounding error.
    return best[True] < best[False] / 1.1


def _channels_last_is_faster(kind: str) -> bool:
    """Everywhere but on GPUs that are too old for bfloat16, whose convolutions want channels first.

    On CPUs it was never clearly slower, and up to 1.4 times as fast; what differs so little is better not tried, since
    a busy machine would come to one answer now and to another then, and train every network anew.
    """
    return kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _can_compile(kind: str) -> bool:
    """Whether ``torch.compile`` works for a GPU: it takes Triton, a C compiler and Python's headers, so it is tried."""
    if kind != "cuda":
        return False
    try:
        one = torch.ones(1, device=kind)
        torch.compile(torch.neg)(one)
    except Exception:  # torch's own, Triton's, those of the C compiler's process
        return False
    return True
