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
"""Steps before the capture, in which libraries initialise and choose their kernels."""

AHEAD = 2
"""Maximum replays in flight. Launching into a full queue spins on a core: eight networks in parallel kept two cores
busy that way, and with this limit less than one, at the same rate (H200)."""

_one_capture = threading.Lock()


class Replayed:
    """Calls ``step(batch)``, always the same step, through a CUDA graph from the fourth full batch on.

    The first steps are ordinary training steps, so there is no warm-up to undo. Batches of another size than the first,
    such as the last of an epoch, are ordinary steps too. Whatever ``step`` reads and writes besides its argument must
    keep its address, and nothing in it may wait for the device. A step that cannot be captured is still called as it
    is, and a warning says so once.

    The step is not stored, since its owner stores this: such a cycle would hold GPU memory until the garbage collector
    runs.
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
        """Wait until no more than ``AHEAD`` replays are in flight."""
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
