"""Counts networks as they begin to be trained: Python reads this in every process that has this folder on its path.

It looks on from outside the package, so that the package need not know that it is looked at. Each training adds a line
with its process to the file that ``COUNT_TRAININGS`` names.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from typing import Any


class Counted(MetaPathFinder):
    """Waits for the module that trains members, and puts a count before the fit loop that it imports."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        """Find nothing itself."""
        if name != "hardtune.member":
            return
        sys.meta_path.remove(self)
        from hardtune.training import fit as module

        train = module.fit

        def count_and_train(*args: Any, **kwargs: Any) -> None:
            with open(os.environ["COUNT_TRAININGS"], "a") as lines:
                lines.write(f"{os.getpid()}\n")  # one short write: lines of several processes do not mix
            train(*args, **kwargs)

        module.fit = count_and_train


sys.meta_path.insert(0, Counted())
