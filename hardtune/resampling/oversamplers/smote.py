"""SMOTE (Chawla 2002): new images on the lines between neighbours of one class.

imbalanced-learn's SMOTE uses the same neighbours; this one finds only those of the drawn samples, and can search an
encoder's feature space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.resampling.neighbours import nearest
from hardtune.resampling.oversamplers.request import Added, Request, oversampler

NEIGHBOURS = 5
"""k in HBR and in Chawla 2002."""

_ROWS = 512  # float32 images held at a time


def _too_few_neighbours(request: Request) -> str | None:
    if request.add == 0 or len(request.members) > NEIGHBOURS:
        return None
    samples = "1 sample" if len(request.members) == 1 else f"{len(request.members)} samples"
    return (
        f"class {request.name!r} has {samples}, and SMOTE with {NEIGHBOURS} neighbours needs at least "
        f"{NEIGHBOURS + 1} that are trained on: choose another oversample, such as random"
    )


@oversampler("smote", images=True, infeasible=_too_few_neighbours)
def smote(request: Request, rng: np.random.Generator) -> Added:
    """x + u (x_nn - x), u ~ U(0, 1), x_nn one of the 5 nearest of the class in pixel space (HBR v2).

    In a class of n images of D values, all of which are drawn, that takes time O(n² D), and memory O(n D) for copies of
    its pixels: see :func:`~hardtune.resampling.neighbours.nearest`.
    """
    pixels = request.train.images[request.members].reshape(len(request.members), -1)
    return _interpolate(request, pixels, rng)


@oversampler("smote_encoder", needs="features", images=True, infeasible=_too_few_neighbours)
def smote_encoder(request: Request, rng: np.random.Generator) -> Added:
    """SMOTE whose neighbours are the nearest in a frozen encoder's space; images are still mixed in pixels (ours)."""
    assert request.features is not None  # checked before any draw
    points = request.features[request.members]
    if not np.isfinite(points).all():
        raise InputError(f"the features of class {request.name!r} contain NaN or infinity")
    return _interpolate(request, points, rng)


def _interpolate(request: Request, points: NDArray[np.generic], rng: np.random.Generator) -> Added:
    drawn = rng.integers(len(request.members), size=request.add)
    column = rng.integers(NEIGHBOURS, size=request.add)
    u = rng.random(request.add, dtype=np.float32)
    bases, row = np.unique(drawn, return_inverse=True)
    partners = nearest(points, bases, NEIGHBOURS)[row, column]

    parents = request.members[drawn]
    others = request.members[partners]
    images = np.empty((request.add, *request.train.images.shape[1:]), np.uint8)
    for start in range(0, request.add, _ROWS):
        rows = slice(start, start + _ROWS)
        x = request.train.images[parents[rows]].astype(np.float32)
        step = request.train.images[others[rows]] - x
        images[rows] = np.rint(x + u[rows, None, None, None] * step)
    return Added(images=images, parents=parents)
