"""Which treatment of hard classes and hard samples gives the best trade-off on your data?

Seven names are exported here; everything else is in modules of the sub-packages, such as ``hardtune.hardness.dynamics``
and ``hardtune.resampling.plan``. They are imported on first use, so ``import hardtune`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hardtune.lazily import exported

if TYPE_CHECKING:
    from hardtune.data import Dataset, load
    from hardtune.errors import InputError
    from hardtune.recipe import Recipe
    from hardtune.store import Store
    from hardtune.treatment import Treatment
    from hardtune.trial import run

__all__ = ["Dataset", "InputError", "Recipe", "Store", "Treatment", "load", "run"]

_HOME = {
    "Dataset": "hardtune.data",
    "InputError": "hardtune.errors",
    "Recipe": "hardtune.recipe",
    "Store": "hardtune.store",
    "Treatment": "hardtune.treatment",
    "load": "hardtune.data",
    "run": "hardtune.trial",
}

__getattr__ = exported(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
