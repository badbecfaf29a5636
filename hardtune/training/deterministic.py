"""Deterministic cuDNN kernels, for as long as any network trains."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from torch.backends import cudnn

_lock = threading.Lock()
_inside = 0
_former = (False, False)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Make cuDNN deterministic, in all threads, and restore the process's settings on exit.

    The flags are process-wide. Networks that train in parallel would reset them for each other, so the first to enter
    sets them, and the last to leave restores them. (``cudnn.flags`` would also enable TF32 for those who had disabled
    it.)
    """
    global _inside, _former
    with _lock:
        if not _inside:
            _former = cudnn.benchmark, cudnn.deterministic
            cudnn.benchmark, cudnn.deterministic = False, True
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                cudnn.benchmark, cudnn.deterministic = _former
