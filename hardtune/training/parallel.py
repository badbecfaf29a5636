"""Networks that train in parallel, since one alone does not fill a large GPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


def in_parallel(train: Callable[[int], T], numbers: Sequence[int], at_once: int) -> Iterator[T]:
    """Yield ``train(number)`` of each, in order: lazily, one by one, or ``at_once`` of them in threads.

    If the GPU's memory does not hold that many, those that ran out of it train again one by one, after the others.
    """
    if at_once == 1:
        yield from map(train, numbers)
        return

    def attempt(number: int) -> list[T]:
        """One network, or none if it ran out of memory."""
        try:
            return [train(number)]
        except torch.OutOfMemoryError as error:
            # Free the memory that its variables hold now, for those still training and for retries.
            traceback.clear_frames(error.__traceback__)
            return []

    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(attempt, number) for number in numbers]
        try:
            for number, future in zip(numbers, waiting, strict=True):
                found = future.result()
                if not found:
                    wait(waiting)
                    found = [train(number)]
                yield from found
        finally:
            for future in waiting:
                future.cancel()
