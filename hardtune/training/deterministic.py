"""cuDNN kernels that give the same sums twice, for as long as somebody trains."""

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
    """Within it cuDNN is deterministic, in all threads; outside it is as the process left it.

    The flags belong to the process. Networks that train beside each other would put them back under each other's
    feet, so the first that comes sets them, and the last that goes puts them back. (``cudnn.flags`` would also allow
    TF32 to those who had forbidden it.)
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
