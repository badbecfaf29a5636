"""All cores of this machine, one single-threaded process each, against one core: images per second of equal training.

    python benchmarks/cores.py

Once as Ray actors, as a sweep's trials run, and once as plain processes, to separate the cost of Ray from effects of
the machine: shared caches and memory, turbo clocks, hyperthreads. Every round trains in one process
alone and then in all of them. Wall-clock rates need a quiet machine; CPU-time rates, printed next to them, do not
count the time that other programs took.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import ray
import torch
from interleaved import describe_machine, take_no_flags

from hardtune.recipe import Recipe
from hardtune.training.fit import build_model, fit
from hardtune.training.images import DeviceImages
from hardtune.training.worker import configure_process

ROUNDS = 7
NETWORKS = (("small_cnn", (28, 28, 1), 60), ("resnet18", (32, 32, 3), 4))
"""Model, image shape, steps per measurement."""

Rates = tuple[float, float]
"""Images per second, by wall-clock time and by the process's CPU time."""


def train(model: str, shape: tuple[int, int, int], steps: int) -> Rates:
    """Train on random images with one thread."""
    configure_process(1)
    recipe = Recipe(model=model, epochs=1, learning_rate=0.01)
    count = steps * recipe.batch_size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    images = DeviceImages(pixels, mean=shape[2] * (0.5,), std=shape[2] * (0.25,), device="cpu")
    labels = torch.from_numpy(rng.integers(10, size=count))
    network = build_model(recipe, shape, 10, seed=0, device="cpu")
    wall, own = time.perf_counter(), time.process_time()
    fit(
        network,
        images,
        labels,
        torch.arange(count),
        recipe,
        seed=0,
        objective=lambda logits, labels, ids: torch.nn.functional.cross_entropy(logits, labels),
    )
    return count / (time.perf_counter() - wall), count / (time.process_time() - own)


class Trainer:
    """A separate process, as a Ray actor."""

    def train(self, *network: object) -> Rates:
        """Call the function."""
        return train(*network)  # type: ignore[arg-type]


def measure(name: str, network: tuple[str, tuple[int, int, int], int], run: Callable[[int], list[Rates]]) -> None:
    """``run(n)`` trains in n processes at once."""
    cores = len(os.sched_getaffinity(0))
    run(cores)
    gains: list[list[float]] = [[], []]
    alone_rates = []
    for _ in range(ROUNDS):
        (alone,), together = run(1), run(cores)
        alone_rates.append(alone[1])
        for clock in (0, 1):
            gains[clock].append(sum(rates[clock] for rates in together) / alone[clock])
    shown = (f"{min(g):.2f}-{statistics.median(g):.2f}-{max(g):.2f}" for g in gains)
    print(
        f"{network[0]:<10} {name:<16} {statistics.median(alone_rates):6.0f} images/CPU-s alone;  {cores} cores "
        f"{' by the wall, '.join(shown)} by CPU time, times one (wanted: {0.9 * cores:.1f})",
        flush=True,
    )


def main() -> None:
    describe_machine()
    cores = len(os.sched_getaffinity(0))
    pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(cores)]
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    actors = [ray.remote(num_cpus=1)(Trainer).remote() for _ in range(cores)]
    for network in NETWORKS:

        def by_ray(count: int, network: tuple[Any, ...] = network) -> list[Rates]:
            return ray.get([actor.train.remote(*network) for actor in actors[:count]])

        def plainly(count: int, network: tuple[Any, ...] = network) -> list[Rates]:
            return [future.result() for future in [pool.submit(train, *network) for pool in pools[:count]]]

        measure("Ray actors", network, by_ray)
        measure("plain processes", network, plainly)
    ray.shutdown()
    for pool in pools:
        pool.shutdown()


if __name__ == "__main__":
    take_no_flags(__doc__)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
