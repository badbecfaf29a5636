"""Two ways to do one thing, measured alternately in one run, so that other load affects both."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable


def compare(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int = 7,
    *,
    units: tuple[int, str] | None = None,
    clock: Callable[[], float] | None = time.process_time,
) -> list[float]:
    """Print and return how often ``ours`` could run in the time of ``theirs``: one ratio per round, higher = better.

    After one unmeasured call each, they alternate, and swap their order every round. ``units``: how much work a call
    does, such as (384, "images"), to print rates. ``clock``: CPU seconds of this process; None if the work is done
    elsewhere and each call returns the seconds it took.
    """
    ours(), theirs()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(rounds):
        for own in (True, False) if turn % 2 else (False, True):
            start = clock() if clock else 0.0
            told = ours() if own else theirs()
            seconds[own].append(clock() - start if clock else float(told))  # type: ignore[arg-type]
    ratios = sorted(b / a for a, b in zip(seconds[True], seconds[False], strict=True))
    kind = "CPU-s" if clock is time.process_time else "s"

    def each(own: bool) -> str:
        median = statistics.median(seconds[own])
        return f"{median:.2f} {kind}" + (f", {units[0] / median:,.0f} {units[1]}/{kind}" if units else "")

    print(
        f"{name}: {ratios[0]:.2f}-{statistics.median(ratios):.2f}-{ratios[-1]:.2f} times as fast "
        f"(min-median-max of {rounds} rounds; ours {each(True)}, theirs {each(False)})",
        flush=True,
    )
    return ratios


def take_no_flags(doc: str | None) -> None:
    """Answer ``--help`` with the script's docstring, and refuse any other argument."""
    argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def describe_machine() -> None:
    """Print the machine that figures are measured on, and its other load."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(": ")[1].strip() for line in lines if line.startswith("model name")), model)
    print(f"{model}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, one thread", flush=True)
