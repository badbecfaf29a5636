"""Scores, features and plans for 1,000,000 samples in less than 4 GB; fails if they take more.

    python benchmarks/memory.py

Features are float32 (N, 512), 2 GB of the 4. Images do not count: they are indexed, never copied, so the stand-in here
is one pixel wide. Each step prints its time and the process's peak so far.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from interleaved import take_no_flags
from threadpoolctl import threadpool_limits

from hardtune.data import Samples
from hardtune.hardness.dynamics import Dynamics
from hardtune.hardness.estimators import feature_scores
from hardtune.hardness.stability import rank_correlation
from hardtune.resampling.plan import make_plan
from hardtune.treatment import Treatment

T = TypeVar("T")

SAMPLES, DIMENSIONS, CLASSES, LIMIT_GB = 1_000_000, 512, 100, 4.0


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step(name: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    print(f"{name:<28} {time.perf_counter() - start:6.1f} s   peak {peak_gb():.2f} GB", flush=True)
    return result


def dynamics_scores(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Scores from two epochs of made-up logits."""
    generator = torch.Generator().manual_seed(0)
    given = torch.from_numpy(labels)
    dynamics = Dynamics(SAMPLES)
    for _ in range(2):
        for ids in torch.randperm(SAMPLES, generator=generator).split(1024):
            logits = torch.randn(len(ids), CLASSES, generator=generator)
            logits[torch.arange(len(ids)), given[ids]] += 2
            dynamics.update(ids, logits, given[ids])
        dynamics.end_epoch()
    return dynamics.scores()


def features_of(labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, DIMENSIONS)).astype(np.float32)
    features = np.empty((SAMPLES, DIMENSIONS), np.float32)
    for start in range(0, SAMPLES, 10_000):
        rows = slice(start, start + 10_000)
        features[rows] = centres[labels[rows]] + rng.normal(size=(10_000, DIMENSIONS))
    return features


def main() -> int:
    labels = np.arange(SAMPLES) % CLASSES
    train = Samples(np.zeros((SAMPLES, 1, 1, 1), np.uint8), labels)
    classes = [str(c) for c in range(CLASSES)]
    print(f"{SAMPLES:,} samples, {DIMENSIONS} features, {CLASSES} classes; before: {peak_gb():.2f} GB")
    scores = step("dynamics, two epochs", lambda: dynamics_scores(labels))
    features = step("(making features)", lambda: features_of(labels))
    for name in ("rmd", "md", "kmeans"):
        scores[name] = step(name, partial(feature_scores, name, features, labels, CLASSES, seed=0))
    step("rank correlation", partial(rank_correlation, scores["aum"], scores["rmd"]))
    for oversample in ("random", "hard", "smote_encoder"):
        treatment = Treatment(alpha=1.0, policy="shift", oversample=oversample)
        plan = partial(make_plan, treatment, train, classes, scores=scores["aum"], seed=0)
        step(f"plan with {oversample}", partial(plan, features=features))
    print(f"peak {peak_gb():.2f} GB of {LIMIT_GB:g}")
    return int(peak_gb() > LIMIT_GB)


if __name__ == "__main__":
    take_no_flags(__doc__)
    with threadpool_limits(1):
        sys.exit(main())
