"""Exact nearest neighbours among 50,000 points of 3,072 dimensions, against scikit-learn's brute force.

    python benchmarks/neighbours.py [--data-dir DIR]

The points are CIFAR-10's training images if `--data-dir` (or HARDTUNE_DATA) has them, else synthetic ones of the same
size: ours as pixels (uint8), which SMOTE compares, and then in float32, like features; scikit-learn's in float32. It
would take minutes for all of them, so both answer the same 4,096 queries against all 50,000. The ratio is printed only
if both find the same neighbours, except for ties in float32. With two threads, times are wall-clock.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from interleaved import compare, describe_machine
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from smote import synthetic_images
from threadpoolctl import threadpool_limits

from hardtune.data import load
from hardtune.errors import InputError
from hardtune.resampling.neighbours import nearest

QUERIES, NEIGHBOURS = 4096, 10


def images(data_dir: Path | None) -> tuple[str, NDArray[np.uint8]]:
    """50,000 images of 32 x 32 x 3, and their description."""
    try:
        return "CIFAR-10", load("cifar10", data_dir).train.images
    except InputError as error:
        print(f"synthetic images, since {error}")
        return "synthetic images", synthetic_images(50_000, np.random.default_rng(0))


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data-dir", type=Path)
    describe_machine()
    name, pixels = images(flags.parse_args().data_dir)
    pixels = pixels.reshape(len(pixels), -1)
    points: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(255)
    queries = np.random.default_rng(0).choice(len(points), QUERIES, replace=False)
    index = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, algorithm="brute").fit(points)

    def theirs() -> NDArray[np.int64]:
        return index.kneighbors(points[queries], return_distance=False)

    for kind, given in (("pixels", pixels), ("float32", points)):

        def ours(given: NDArray[np.generic] = given) -> NDArray[np.int64]:
            return nearest(given, queries, NEIGHBOURS)

        for threads in (1, 2):
            torch.set_num_threads(threads)
            with threadpool_limits(threads):
                if threads == 1 and not same(points, queries, ours(), theirs()):
                    return
                compare(
                    f"{QUERIES} queries, {name} as {kind}, {threads} thread{'s' * (threads > 1)}",
                    ours,
                    theirs,
                    rounds=5,
                    clock=time.process_time if threads == 1 else time.perf_counter,
                )


def same(
    points: NDArray[np.float32], queries: NDArray[np.int64], own: NDArray[np.int64], found: NDArray[np.int64]
) -> bool:
    """Whether both found equally near neighbours, up to float32 rounding; scikit-learn includes the query."""
    others = np.array([[j for j in row if j != i][:NEIGHBOURS] for i, row in zip(queries, found, strict=True)])
    gaps = 0.0
    for start in range(0, QUERIES, 256):
        rows = slice(start, start + 256)
        here = points[queries[rows]][:, None].astype(np.float64)
        mine, its = (np.linalg.norm(points[which[rows]] - here, axis=2) for which in (own, others))
        gaps = max(gaps, float(np.abs(mine / its - 1).max()))
    print(f"{(own == others).mean():.3%} of {own.size} neighbours are the same, distances to {gaps:.0e}")
    return gaps < 1e-5


if __name__ == "__main__":
    main()
