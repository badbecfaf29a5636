"""Times the training of networks: Python reads this in every process that has this folder on its path.

It looks on from outside the package. Each network adds a line to the file that ``TIME_TRAININGS`` names: the wall and
CPU seconds of its fit loop, and the CPU seconds that its process needed until it trained its first (0 for the others).
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from importlib.abc import MetaPathFinder
from typing import Any


class Timed(MetaPathFinder):
    """Waits for the module that trains members, and puts a clock around the fit loop that it imports."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing itself."""
        if name != "hardtune.member":
            return
        sys.meta_path.remove(self)
        from hardtune.training import fit as module

        train = module.fit
        starts = []

        def time_and_train(*args: Any, **kwargs: Any) -> None:
            importlib.import_module("torch._dynamo")  # which the first optimiser would load, and that is no training

            wall, own = time.perf_counter(), time.process_time()
            start = 0.0 if starts else own
            starts.append(start)
            train(*args, **kwargs)
            line = f"{time.perf_counter() - wall} {time.process_time() - own} {start}\n"
            with open(os.environ["TIME_TRAININGS"], "a") as lines:
                lines.write(line)  # one short write: lines of several processes do not mix

        module.fit = time_and_train


sys.meta_path.insert(0, Timed())
