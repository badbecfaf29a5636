"""Networks that train beside each other, since one alone does not fill a large GPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")


def beside_each_other(train: Callable[[int], T], numbers: Sequence[int], at_once: int) -> Iterator[T]:
    """``train(number)`` of each, in their order: as they are asked for, or ``at_once`` of them in threads.

    Where the GPU's memory does not hold so many, those that found no room train again one by one, after the others.
    """
    if at_once == 1:
        yield from map(train, numbers)
        return
    with ThreadPoolExecutor(at_once) as pool:
        waiting = [pool.submit(train, number) for number in numbers]
        try:
            for number, future in zip(numbers, waiting, strict=True):
                try:
                    trained = future.result()
                except torch.OutOfMemoryError as error:
                    traceback.clear_frames(error.__traceback__)  # whose variables are what has filled the memory
                    wait(waiting)
                    trained = train(number)
                yield trained
        finally:
            for future in waiting:
                future.cancel()
