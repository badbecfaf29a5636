"""CUDA graphs: a training step's 250 kernel launches become one."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from hardtune.errors import HardtuneWarning, first_line

EAGER_STEPS = 3
"""Steps before the capture: in them libraries set themselves up and choose their kernels."""

AHEAD = 2
"""Replays that may be under way. Those that launch into a full queue spin on a core: eight networks beside each other
kept two cores busy so, and now less than one, at the same rate (H200)."""

_one_capture = threading.Lock()


class Replayed:
    """Calls ``step(batch)``, always the same step, through a CUDA graph from the fourth full batch on.

    The first steps are ordinary ones, and count; so nothing has to be put back after a warm-up. Smaller batches than
    the first, the last of an epoch for one, are ordinary steps too. Whatever ``step`` reads and writes beside its
    argument must stay at its address, and nothing in it may wait for the device. Where a step cannot be captured, it
    goes on being called, and a warning says so once.

    The step is not kept, since its owner keeps this: what holds each other holds a GPU's memory until the garbage
    collector comes by.
    """

    def __init__(self) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        self._batch: Tensor | None = None
        self._eager_steps_left = EAGER_STEPS
        self._under_way: deque[torch.cuda.Event] = deque()

    def __call__(self, step: Callable[[Tensor], None], batch: Tensor) -> None:
        if self._batch is None:
            self._batch = torch.empty_like(batch)
        if batch.shape != self._batch.shape:
            step(batch)
        elif self._graph is not None:
            self._batch.copy_(batch)
            self._graph.replay()
            self._wait()
        else:
            step(batch)
            self._eager_steps_left -= 1
            if self._eager_steps_left == 0:
                self._capture(step, self._batch)

    def _wait(self) -> None:
        """Until no more than ``AHEAD`` replays are under way."""
        done = torch.cuda.Event(blocking=True)
        done.record()
        self._under_way.append(done)
        if len(self._under_way) > AHEAD:
            self._under_way.popleft().synchronize()

    def _capture(self, step: Callable[[Tensor], None], batch: Tensor) -> None:
        graph = torch.cuda.CUDAGraph()
        # Other threads may train other members meanwhile; only their captures must wait.
        with _one_capture:
            try:
                with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                    step(batch)
            except RuntimeError as error:
                reason = first_line(error)
                message = f"training goes on without a CUDA graph, and slower: {reason}"
                warnings.warn(message, HardtuneWarning, stacklevel=2)
                return
        self._graph = graph
