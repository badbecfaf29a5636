"""Which versions of packages are installed here."""

from __future__ import annotations

import importlib.metadata
import platform

COMPUTING = ("ray", "torch", "torchvision", "numpy", "scikit-learn", "open_clip_torch", "timm")
"""What workers compute with, so that versions must match on all nodes, as Ray demands of Ray and Python."""
ALL = ("hardtune", *COMPUTING, "optuna", "mlflow")
"""What a sweep's results may depend on."""


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Python's version and each package's, or ``missing``."""
    return {"python": platform.python_version(), **{name: _version(name) for name in packages}}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
