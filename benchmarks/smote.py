"""SMOTE's neighbours and images for one class of 5,000 images of 32 x 32 x 3, against imbalanced-learn's; then all ten.

    python benchmarks/smote.py

The ratio is printed only if both find the same neighbours. The whole data set is 50,000 x 3,072: an N x N matrix of
distances would take 10 GB, so peak memory is printed too.
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from imblearn.over_sampling import SMOTE
from interleaved import compare, describe_machine, take_no_flags
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from hardtune.data import Samples
from hardtune.resampling.neighbours import nearest
from hardtune.resampling.oversamplers import OVERSAMPLERS, Request
from hardtune.resampling.oversamplers.smote import NEIGHBOURS
from hardtune.resampling.plan import make_plan
from hardtune.treatment import Treatment

CLASSES, SIZE = 10, 5_000


def synthetic_images(count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images with meaningful neighbours: smooth blotches and some noise, as photographs have."""
    blotches = rng.normal(128, 60, (count, 8, 8, 3)).repeat(4, axis=1).repeat(4, axis=2)
    return np.clip(blotches + rng.normal(0, 10, blotches.shape), 0, 255).astype(np.uint8)


def one_class(images: NDArray[np.uint8]) -> None:
    # imbalanced-learn balances classes: a second one, twice as large, makes it double the first.
    others = np.zeros((2 * SIZE, images[0].size), np.float32)
    stacked = np.vstack([images.reshape(SIZE, -1).astype(np.float32) / 255, others])
    labels = np.repeat([1, 0], [SIZE, 2 * SIZE])
    sampler = SMOTE(k_neighbors=NEIGHBOURS, random_state=0)
    train = Samples(images, np.zeros(SIZE, np.int64))
    request = Request("one", 0, SIZE, np.arange(SIZE), np.empty(0, np.int64), train)

    def ours() -> object:
        return OVERSAMPLERS["smote"].draw(request, np.random.default_rng(0))

    def theirs() -> object:
        return sampler.fit_resample(stacked, labels)

    theirs()
    found = sampler.nn_k_.kneighbors(stacked[:SIZE], return_distance=False)[:, 1:]
    own = nearest(images.reshape(SIZE, -1), np.arange(SIZE), NEIGHBOURS)
    same = float((found == own).mean())
    print(f"{same:.2%} of {own.size} neighbours are the same")
    if same > 0.999:
        compare(f"SMOTE, {SIZE} new images of {SIZE}", ours, theirs)


def whole_data_set(images: NDArray[np.uint8]) -> None:
    labels = np.arange(len(images)) % CLASSES
    scores = labels.astype(np.float32)
    treatment = Treatment(alpha=3.0, policy="shift", oversample="smote", estimator="el2n")
    classes = [str(c) for c in range(CLASSES)]

    def plan() -> int:
        made = make_plan(treatment, Samples(images, labels), classes, scores=scores, seed=0)
        return len(made.images)

    plan()  # loads torch
    start = time.process_time()
    count = plan()
    seconds = time.process_time() - start
    tracemalloc.start()  # which is slow
    plan()
    peak = tracemalloc.get_traced_memory()[1] / 2**30
    tracemalloc.stop()
    print(
        f"a plan for {len(images)} images with {count} by SMOTE: {seconds:.1f} CPU-s, "
        f"{peak:.2f} GB at its peak beside the images"
    )


if __name__ == "__main__":
    take_no_flags(__doc__)
    describe_machine()
    rng = np.random.default_rng(0)
    with threadpool_limits(1):
        whole_data_set(synthetic_images(CLASSES * SIZE, rng))
        one_class(synthetic_images(SIZE, rng))
