"""Which samples an easy class loses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardtune.registry import Registry
from hardtune.resampling.keeping import KEEPING

Undersampler = Callable[[NDArray[np.floating], int, np.random.Generator], NDArray[np.int64]]
"""(scores (n,) of a class with higher = harder, how many to drop, generator) to the positions that stay, ascending."""

UNDERSAMPLERS: Registry[Undersampler] = Registry("undersampling")


@UNDERSAMPLERS.register("easiest")
def easiest(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop the easiest (HBR); ties break at random, since the first of a class may be of one kind.

    >>> easiest(np.array([0.9, 0.1, 0.5]), 1, np.random.default_rng(0))
    array([0, 2])
    """
    return np.sort(np.lexsort((rng.permutation(len(scores)), scores))[drop:])


@UNDERSAMPLERS.register("random")
def random(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop uniformly at random; with the same seed, dropping more drops the same ones and others."""
    return np.sort(rng.permutation(len(scores))[drop:])


def keep_all(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop none: :data:`~hardtune.resampling.keeping.KEEPING` says what happens instead, by the name."""
    return np.arange(len(scores))


for _name in KEEPING:
    UNDERSAMPLERS.register(_name)(keep_all)
