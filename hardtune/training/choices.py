"""What a recipe leaves to the device: precision, the memory layout of images, and whether to compile networks."""

from __future__ import annotations

import dataclasses
import time
from functools import cache

import torch
from torch import nn

from hardtune.recipe import Recipe

MEMORY_FORMATS = {"channels_last": torch.channels_last, "channels_first": torch.contiguous_format}
"""By their names in a recipe."""
LEFT_TO_THE_DEVICE = ("precision", "layout", "compile")
"""Fields of a recipe that may be ``auto``."""
LONG = 50
"""Epochs from which a run is worth compiling for: on CIFAR they take an H200 two minutes, and compiling takes half a
minute in the first process on a machine."""


def is_resolved(recipe: Recipe) -> bool:
    """Whether it leaves nothing to the device."""
    return all(getattr(recipe, name) != "auto" for name in LEFT_TO_THE_DEVICE)


def resolved(recipe: Recipe, device: str) -> Recipe:
    """The recipe with each ``auto`` decided for ``device``.

    The decision depends on the kind of device, not on the network, so that a sweep's trials agree on it.
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
    """The memory layout of a network's convolution weights, which its images should have too."""
    # With one channel or one pixel both layouts coincide, which torch calls contiguous.
    last = any(weight.ndim == 4 and not weight.is_contiguous() for weight in network.parameters())
    return torch.channels_last if last else torch.contiguous_format


@cache
def _bfloat16_is_faster(kind: str) -> bool:
    """GPUs with bfloat16 units: always. CPUs with such instructions: it depends on the maker, so try for 150 ms.

    With AMX it is 3 to 4 times as fast; with AVX-512's dot products twice as fast (AMD Zen 5) or no faster (Intel);
    emulated, ten times slower.
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
        # All processes and sweeps should get the same answer. Other load on the machine hardly changes a single
        # thread's CPU time; that of several threads includes waiting for each other.
        torch.set_num_threads(1)
        for _ in range(6):
            for enabled in best:
                start = time.process_time()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                    convolution(images).float().sum().backward()
                best[enabled] = min(best[enabled], time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    # Only a clear gain counts: a smaller one is not worth a rounding error.
    return best[True] < best[False] / 1.1


def _channels_last_is_faster(kind: str) -> bool:
    """True except on GPUs that are too old for bfloat16, whose convolutions want channels first.

    On CPUs it was never clearly slower, and up to 1.4 times as fast. Such a small difference is not worth measuring: on
    a busy machine the answer would vary between runs, and every network would be trained anew.
    """
    return kind != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


@cache
def _can_compile(kind: str) -> bool:
    """Whether ``torch.compile`` works for a GPU: it needs Triton, a C compiler and Python's headers, so try it."""
    if kind != "cuda":
        return False
    try:
        one = torch.ones(1, device=kind)
        torch.compile(torch.neg)(one)
    except Exception:  # from torch, Triton or the C compiler's process
        return False
    return True
