"""SMOTE (Chawla 2002): new images on the lines between neighbours of one class.

imbalanced-learn's SMOTE takes the same neighbours; this one finds them with a matrix product over blocks of rows, for
the drawn samples only, and can look for them in an encoder's space.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hardtune.resampling.oversamplers.request import Added, Request, oversampler

NEIGHBOURS = 5
"""k in HBR and in Chawla 2002."""

_ROWS = 512  # of distances, and of images in float32, that are held at a time


def _too_few_neighbours(request: Request) -> str | None:
    if request.add == 0 or len(request.members) > NEIGHBOURS:
        return None
    return (
        f"class {request.name!r} has {len(request.members)} samples, and SMOTE with {NEIGHBOURS} neighbours "
        f"needs at least {NEIGHBOURS + 1}"
    )


@oversampler("smote", infeasible=_too_few_neighbours)
def smote(request: Request, rng: np.random.Generator) -> Added:
    """x + u (x_nn - x), u ~ U(0, 1), x_nn one of the 5 nearest of the class in pixel space (HBR v2)."""
    pixels = request.train.images[request.members].reshape(len(request.members), -1)
    return _interpolate(request, pixels, rng)


@oversampler("smote_encoder", needs="features", infeasible=_too_few_neighbours)
def smote_encoder(request: Request, rng: np.random.Generator) -> Added:
    """SMOTE whose neighbours are the nearest in a frozen encoder's space; images are still mixed in pixels (ours)."""
    assert request.features is not None  # the check before any draw
    return _interpolate(request, request.features[request.members], rng)


def nearest(points: NDArray[np.generic], queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest other rows of ``points`` (n, D) to each of the rows ``queries`` (q,): int64 (q, k), nearest first.

    Euclidean, in float32; never more than a block of the n × n distances exists.

    >>> nearest(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 2]), k=2)
    array([[1, 2],
           [1, 0]])
    """
    centred = points.astype(np.float32)
    centred -= centred.mean(axis=0)  # float32 cancels less around zero
    squares = np.einsum("nd,nd->n", centred, centred)
    result = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _ROWS):
        block = queries[start : start + _ROWS]
        distances = squares - 2 * (centred[block] @ centred.T)  # squared, less a constant for each row
        distances[np.arange(len(block)), block] = np.inf
        found = np.argpartition(distances, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(distances, found, axis=1), axis=1, kind="stable")
        result[start : start + _ROWS] = np.take_along_axis(found, order, axis=1)
    return result


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
