"""What a hard class gains: one function an oversampler, registered by name."""

from hardtune.resampling.oversamplers import pool, repeat, smote
from hardtune.resampling.oversamplers.request import OVERSAMPLERS, Added, Oversampler, Pool, Request, oversampler

__all__ = ["OVERSAMPLERS", "Added", "Oversampler", "Pool", "Request", "oversampler", "pool", "repeat", "smote"]
