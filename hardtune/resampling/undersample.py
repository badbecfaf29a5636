"""Which samples an easy class loses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hardtune.registry import Registry

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


@UNDERSAMPLERS.register("none")
def none(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop none: easy classes keep what they have, and the training set grows by what hard classes gain."""
    return np.arange(len(scores))


@UNDERSAMPLERS.register("reweight")
def reweight(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop none, but let the class's samples count less in the loss: as much as those that would have stayed (ours)."""
    return np.arange(len(scores))


@UNDERSAMPLERS.register("posthoc")
def posthoc(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop none, and train as if nothing were asked; predictions divide the class's odds by n / what would have stayed.

    Post-hoc logit adjustment (Menon et al. 2021, arXiv 2007.07314), with ratios that follow from hardness (ours), of
    logits calibrated by a temperature.
    """
    return np.arange(len(scores))


@UNDERSAMPLERS.register("adjust")
def adjust(scores: NDArray[np.floating], drop: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Drop none, but train on logits raised by log(n / what would have stayed): the class needs no large margin.

    Logit adjustment (Menon et al. 2021, arXiv 2007.07314), with ratios that follow from hardness (ours).
    """
    return np.arange(len(scores))
