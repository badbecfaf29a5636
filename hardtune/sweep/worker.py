"""How a worker process settles in before it trains: threads and memory."""

from __future__ import annotations

import contextlib
import ctypes

import torch

_M_ARENA_MAX = -8


def settle(cpus: float) -> None:
    """One torch thread for each whole CPU that Ray granted, and one heap for all threads of the process.

    A worker is reused, and each of its trials is a thread; glibc would give it up to eight heaps a core, of which each
    keeps the most that was ever in it.
    """
    torch.set_num_threads(max(1, int(cpus)))
    with contextlib.suppress(OSError, AttributeError):  # another system's C library
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, 1)
