"""Every figure of a network without each of 20 parts of 10,000 test images, against evaluating the rest of them anew.

    python benchmarks/intervals.py

The ratio is printed only if both give the same figures.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from interleaved import compare, describe_machine, take_no_flags
from threadpoolctl import threadpool_limits

from hardtune.evaluation import evaluate
from hardtune.evaluation.jackknife import left_out, parts

SAMPLES, TEMPERATURE = 10_000, 1.3


def one_by_one(logits: np.ndarray, labels: np.ndarray) -> dict[str, list[float]]:
    part, count = parts(labels)
    figures = [evaluate(logits[part != one], labels[part != one], temperature=TEMPERATURE) for one in range(count)]
    return {name: [some[name] for some in figures] for name in figures[0] if name != "temperature"}


if __name__ == "__main__":
    take_no_flags(__doc__)
    describe_machine()
    rng = np.random.default_rng(0)
    for classes in (10, 100, 1_000):
        labels = rng.integers(classes, size=SAMPLES)
        logits = rng.normal(size=(SAMPLES, classes)).astype(np.float32)
        logits[np.arange(SAMPLES), labels] += 2
        with threadpool_limits(1):
            ours = left_out(logits[None], labels, temperatures=[TEMPERATURE])
            theirs = one_by_one(logits, labels)
            assert ours.keys() == theirs.keys()
            difference = max(np.abs(np.subtract(ours[name], theirs[name])).max() for name in ours)
            print(f"{classes} classes: largest difference {difference:.1e}")
            if difference < 1e-9:
                whole = partial(left_out, logits[None], labels, temperatures=[TEMPERATURE])
                compare(f"{SAMPLES} x {classes}", whole, partial(one_by_one, logits, labels), rounds=3)
