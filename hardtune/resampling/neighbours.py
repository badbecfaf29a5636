"""Exact nearest neighbours by brute force, which is faster than trees in thousands of dimensions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# torch is imported late, so that code which only names an oversampler starts quickly.

_ROWS = 512  # rows of distances held at a time
_LARGE = 1e38  # float32 ends at 3.4e38

_Distances = Callable[[NDArray[np.int64]], "Tensor"]
"""Rows (b,) to their squared distances (b, n) from all points, minus a constant per row."""


def nearest(points: NDArray[np.generic], queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k nearest other rows of ``points`` (n, D) to each of the rows ``queries`` (q,): int64 (q, k), nearest first.

    Euclidean. Pixels (uint8) are compared exactly, as integers, on CPUs that multiply these four times as fast as
    floats (VNNI), with one copy of the points in memory; all else in float32, with two copies briefly and then one, so
    that distances are known to about 1e-7 of the squared spread of all points: of neighbours closer than that, any.
    Besides, it takes 512 rows of the n × n distances: for 50,000 x 3,072 pixels 0.3 GB in all, in float32 1.2 GB.

    Raises:
        InputError: points with NaN or infinity or too large to be summed, queries that are no rows, or a k that is not
            in 1..n-1.

    >>> nearest(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 2]), k=2)
    array([[1, 2],
           [1, 0]])
    """
    import torch

    queries = np.asarray(queries)
    if not len(queries):
        return np.empty((0, k), np.int64)
    if queries.dtype.kind not in "iu" or not 0 <= queries.min() <= queries.max() < len(points):
        raise InputError(f"queries must be whole numbers in 0..{len(points) - 1}, the rows of the points")
    queries = queries.astype(np.int64, copy=False)  # torch takes uint8 for a mask
    if not 1 <= k < len(points):
        raise InputError(f"{len(points)} points have 1 to {len(points) - 1} neighbours each, got k={k}")
    integers = points.dtype == np.uint8 and 1 < points.shape[1] <= _MAX_DIMENSIONS and _multiplies_bytes()
    distances = _by_integers(points) if integers else _by_floats(points)
    result = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), _ROWS):
        block = queries[start : start + _ROWS]
        found = distances(block)
        found[torch.arange(len(block)), torch.from_numpy(block)] = _largest(found)
        result[start : start + _ROWS] = found.topk(k, largest=False).indices
    return result


def _by_floats(points: NDArray[np.generic]) -> _Distances:
    """Through oneDNN (torch's mkldnn): it uses all of a CPU's vector units, which numpy's BLAS may not."""
    import torch

    pack = torch.Tensor.to_mkldnn if torch.backends.mkldnn.is_available() else torch.Tensor.contiguous
    with np.errstate(over="ignore", invalid="ignore"):
        mean = points.mean(axis=0, dtype=np.float64)  # centring loses fewer digits in float32
        largest = np.maximum(points.max(axis=0) - mean, mean - points.min(axis=0)).max(initial=0.0)
    if not np.isfinite(largest):
        raise InputError("the points contain NaN or infinity, or are too large to be summed")
    # The difference from the mean may be too large for float32 although the points are not.
    mean = mean.astype(np.float64 if largest > _LARGE else np.result_type(points.dtype, np.float32))
    # Halved or doubled often enough that no square of a length overflows, or vanishes; which loses no digit at all.
    exponent = -int(np.frexp(largest)[1])
    centred = points - mean
    centred = np.ldexp(centred, exponent, out=centred).astype(np.float32, copy=False)
    squares = torch.from_numpy(np.einsum("nd,nd->n", centred, centred))
    packed = pack(torch.from_numpy(centred))

    def distances(block: NDArray[np.int64]) -> Tensor:
        rows = torch.from_numpy(-2 * np.ldexp(points[block] - mean, exponent).astype(np.float32, copy=False))
        return torch.nn.functional.linear(pack(rows), packed, squares).to_dense()

    return distances


_MAX_DIMENSIONS = 2**31 // (3 * 128**2)
"""Most bytes per point whose distances fit into 32 bits. (Of one byte, torch 2.12 leaves the products unwritten.)"""


def _by_integers(points: NDArray[np.generic]) -> _Distances:
    import torch

    pixels = points.astype(np.uint8, copy=False)
    signed = torch.from_numpy((pixels ^ 128).view(np.int8))  # minus 128, which changes no distance
    squares = torch.from_numpy(np.einsum("nd,nd->n", signed, signed, dtype=np.int32))

    def distances(block: NDArray[np.int64]) -> Tensor:
        return torch._int_mm(signed[torch.from_numpy(block)], signed.t()).mul_(-2).add_(squares)

    return distances


@functools.cache
def _multiplies_bytes() -> bool:
    """Whether products of 8-bit integers are fast here, and exact: without VNNI, oneDNN's sums of two saturate."""
    import torch

    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if not (has.get("avx512_vnni") or has.get("avx_vnni")):
        return False
    extremes = torch.full((64, 512), 127, dtype=torch.int8)  # ONEDNN_MAX_CPU_ISA may forbid what the CPU has
    return bool((torch._int_mm(extremes, extremes.t()) == 512 * 127**2).all())


def _largest(distances: Tensor) -> float | int:
    import torch

    return torch.inf if distances.is_floating_point() else torch.iinfo(distances.dtype).max
