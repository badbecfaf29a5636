"""Sets up a process before it trains: threads and memory."""

from __future__ import annotations

import contextlib
import ctypes

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEEP = 2_000_000_000


def threads(cpus: float) -> int:
    """How many threads train a network that has this many CPUs; another number rounds sums otherwise.

    >>> threads(0.5), threads(2.9)
    (1, 2)
    """
    return max(1, int(cpus))


def configure_process(cpus: float) -> None:
    """Use one torch thread per whole CPU that Ray granted, and one heap that keeps its memory between steps.

    By default, glibc returns freed large tensors to the system, and each training step then waits for the same pages
    again, zeroed: a fifth of ResNet-18's time, and more of a small network's (benchmarks/training.py). Also, a worker
    is reused and runs each trial in a thread: glibc would give it up to eight heaps per core, each of which would keep
    its peak size.
    """
    torch.set_num_threads(threads(cpus))
    with contextlib.suppress(OSError, AttributeError):  # another system's C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP)
