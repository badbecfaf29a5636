"""Two ways to do one thing, measured in turns in one run, so that whatever else the machine does hits both."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int = 7) -> list[float]:
    """Print and return how often ``ours`` could run in the CPU time of ``theirs``: one ratio a round, higher = better.

    Both are called once before, unmeasured; then in turns, the order changing every round.
    """
    ours(), theirs()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(rounds):
        for own in (True, False) if turn % 2 else (False, True):
            start = time.process_time()
            ours() if own else theirs()
            seconds[own].append(time.process_time() - start)
    ratios = sorted(b / a for a, b in zip(seconds[True], seconds[False], strict=True))
    print(
        f"{name}: {ratios[0]:.2f}-{statistics.median(ratios):.2f}-{ratios[-1]:.2f} times as fast "
        f"(min-median-max of {rounds} rounds; ours {statistics.median(seconds[True]):.2f} CPU-s, "
        f"theirs {statistics.median(seconds[False]):.2f} CPU-s)"
    )
    return ratios


def describe_machine() -> None:
    """Print what the figures were measured on, and what else it was doing."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(": ")[1].strip() for line in lines if line.startswith("model name")), model)
    print(f"{model}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, one thread")
