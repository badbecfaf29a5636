"""What a hard class gains: one function per oversampler, registered by name."""

from hardtune.resampling.oversamplers import pool, repeat, smote
from hardtune.resampling.oversamplers.request import (
    OVERSAMPLERS,
    Added,
    Oversampler,
    Pool,
    Request,
    checked_added,
    oversampler,
)

__all__ = [
    "OVERSAMPLERS",
    "Added",
    "Oversampler",
    "Pool",
    "Request",
    "checked_added",
    "oversampler",
    "pool",
    "repeat",
    "smote",
]
