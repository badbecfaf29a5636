"""Oversampling from a pool of synthetic images that the user supplies (HBR v2's diffusion images).

A pool image has no parent among the training samples; it stands for a random one of its class (our choice), whose
entropy weight it borrows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardtune.resampling.oversamplers.request import Added, Request, oversampler

CANDIDATES = 2
"""The m that are added are chosen from this many times m (HBR v2)."""


def _of_class(request: Request) -> NDArray[np.int64]:
    assert request.pool is not None  # checked before any draw
    return np.flatnonzero(request.pool.labels == request.label)


def _short(request: Request, factor: int) -> str | None:
    assert request.pool is not None
    have, need = len(_of_class(request)), factor * request.add
    if request.pool.images.shape[1:] != request.train.images.shape[1:]:
        return (
            f"the pool's images are {request.pool.images.shape[1:]}, and the training images "
            f"{request.train.images.shape[1:]}"
        )
    if have < need:
        return f"class {request.name!r} needs {need} images of the pool, and it has {have}"
    return None


def _short_for_random(request: Request) -> str | None:
    return _short(request, 1)


def _short_for_hard(request: Request) -> str | None:
    if request.pool is not None and request.pool.confidence is None:
        return "choosing from the pool by confidence needs the scoring ensemble's confidence in its images"
    return _short(request, CANDIDATES)


def _short_for_mean(request: Request) -> str | None:
    if request.pool is not None and request.pool.class_confidence is None:
        return "oversampling 'pool_mean' needs the scoring ensemble's confidence in the real images of each class"
    return _short_for_hard(request)


@oversampler("pool_random", needs="pool", images=True, infeasible=_short_for_random)
def pool_random(request: Request, rng: np.random.Generator) -> Added:
    """Random pool images of the class, without replacement (HBR v2's rEDM)."""
    return _take(request, rng.choice(_of_class(request), request.add, replace=False), rng)


@oversampler("pool_hard", needs="judged pool", images=True, infeasible=_short_for_hard)
def pool_hard(request: Request, rng: np.random.Generator) -> Added:
    """The least confident among twice as many random pool images (HBR v2's hEDM)."""
    assert request.pool is not None
    assert request.pool.confidence is not None
    return _lowest(request, request.pool.confidence, rng)


@oversampler("pool_mean", needs="judged pool", images=True, infeasible=_short_for_mean)
def pool_mean(request: Request, rng: np.random.Generator) -> Added:
    """Among twice as many random pool images, those closest to the mean confidence in the class's real images.

    HBR v2's aEDM as described; its published code differs, and choosing from twice as many, as ``pool_hard``
    does, is our choice.
    """
    assert request.pool is not None
    assert request.pool.confidence is not None
    assert request.pool.class_confidence is not None
    return _lowest(request, np.abs(request.pool.confidence - request.pool.class_confidence[request.label]), rng)


def _lowest(request: Request, key: NDArray[np.floating], rng: np.random.Generator) -> Added:
    candidates = rng.choice(_of_class(request), CANDIDATES * request.add, replace=False)
    return _take(request, candidates[np.argsort(key[candidates], kind="stable")[: request.add]], rng)


def _take(request: Request, chosen: NDArray[np.int64], rng: np.random.Generator) -> Added:
    assert request.pool is not None
    return Added(images=request.pool.images[chosen], parents=rng.choice(request.members, request.add))
