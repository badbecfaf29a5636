"""The 15 corruptions of CIFAR-10-C at 5 severities (Hendrycks & Dietterich 2019), for images of any size.

Made on the fly with the parameters that CIFAR-10-C was made with; nothing is downloaded. Lengths in pixels are CIFAR's
up to 32 × 32 and grow with larger images. Three kinds differ from the original: ``frost`` generates its ice
instead of pasting photographs, ``glass_blur`` shuffles all pixels at once instead of one after the other, and
``elastic_transform`` interpolates once instead of twice (images are about 13 % sharper at severities 3 to 5). Results
are rounded, where the original truncates. So compare figures with each other rather than with published CIFAR-10-C
tables.
"""

from __future__ import annotations

import zlib
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.evaluation.corruptions import blur, digital, noise, weather  # noqa: F401  (they register their kinds)
from hardtune.evaluation.corruptions.kinds import CORRUPTIONS

__all__ = ["CIFAR10_C", "CORRUPTIONS", "SEVERITIES", "checked_severity", "corrupt"]

CIFAR10_C = tuple(CORRUPTIONS)
"""The 15 kinds, without those that users add."""

SEVERITIES = (1, 2, 3, 4, 5)
CHUNK_VALUES = 2**21
"""How many values are corrupted at once: it bounds memory, and each chunk has its own random stream."""


def corrupt(images: NDArray[np.uint8], kind: str, severity: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """A corrupted copy of ``images``, uint8 (N, H, W, C) like them.

    Args:
        images: Any H, W of at least 2; C = 3 is taken as RGB, other C channel by channel.
        kind: A name in :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5.
        seed: Equal arguments give equal images; kinds, severities and seeds draw independently.

    Raises:
        InputError: An unknown kind, a severity outside 1..5, or images of another type or shape.

    >>> grey = np.full((1, 8, 8, 1), 128, dtype=np.uint8)
    >>> corrupt(grey, "brightness", severity=5)[0, 0, 0]  # 128 + 0.3 · 255, rounded
    array([205], dtype=uint8)
    """
    function = CORRUPTIONS[kind]
    severity = checked_severity(severity)
    if images.dtype != np.uint8 or images.ndim != 4 or min(images.shape[1:3]) < 2:
        raise InputError(f"images must be uint8 (N, H, W, C), at least 2 × 2, got {images.dtype} {images.shape}")
    result = np.empty_like(images)
    size = max(1, CHUNK_VALUES // int(np.prod(images.shape[1:])))
    for number, start in enumerate(range(0, len(images), size)):
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), severity, number])
        part = slice(start, start + size)
        changed = np.asarray(function(np.divide(images[part], 255, dtype=np.float32), severity, rng))
        if changed.shape != images[part].shape or changed.dtype.kind not in "fiub" or not np.isfinite(changed).all():
            raise InputError(
                f"corruption {kind!r} must give finite images {images[part].shape}, got {changed.dtype} {changed.shape}"
            )
        result[part] = np.rint(np.clip(changed, 0, 1) * 255)
    return result


def checked_severity(severity: Any) -> int:
    """The severity as an int; ``InputError`` unless it is a whole number, perhaps numpy's, from 1 to 5."""
    if isinstance(severity, bool) or not isinstance(severity, Integral) or severity not in SEVERITIES:
        raise InputError(f"severity must be a whole number from 1 to 5, got {severity!r}")
    return int(severity)
