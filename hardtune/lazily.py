"""Names of a package that are imported on first use (PEP 562), so importing the package costs nothing."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exported(package: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The package's ``__getattr__``; ``home`` has the module of each name."""

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home[name]), name)

    return get
