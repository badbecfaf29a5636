"""The registry that each corruption adds itself to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardtune.registry import Registry

Images = NDArray[np.float32]
"""(N, H, W, C) in [0, 1]."""

CORRUPTIONS: Registry[Callable[[Images, int, np.random.Generator], Images]] = Registry("corruption", reserved=("all",))
"""``(images, severity 1..5, generator)`` to images, which :func:`corrupt` clips to [0, 1]; the input is unchanged."""


def pixels(images: Images) -> float:
    """How many pixels one CIFAR pixel is: 1 up to 32 × 32, more for larger images."""
    return max(1.0, float(min(images.shape[1:3])) / 32)
