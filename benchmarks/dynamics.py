"""The cost of all training-dynamics scores: real training steps with them, against steps without.

    python benchmarks/dynamics.py

Scores are updated at every other step, and the CPU time of both kinds of step is compared round by round: the steps of
a pair are milliseconds apart, so other load affects both. Then the same scores over the logits of one epoch of 50,000
samples, against a loop over samples and, if it is installed, the package `aum`, which computes one of them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from interleaved import compare, describe_machine, take_no_flags
from torch import Tensor

from hardtune.data import load
from hardtune.hardness.dynamics import Dynamics
from hardtune.recipe import Recipe
from hardtune.training.fit import build_model, fit
from hardtune.training.images import DeviceImages

ROUNDS = 7
LIMIT = 0.02


class EveryOther:
    """An observer that updates scores at every other step, and times each kind of step."""

    def __init__(self, samples: int) -> None:
        self.dynamics = Dynamics(samples)
        self.seconds: dict[bool, list[float]] = {True: [], False: []}
        self._scoring = False
        self._since: float | None = None

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """A step lasts from one call to the next: scores, backward pass, optimiser, next forward pass."""
        now = time.process_time()
        if self._since is not None:
            self.seconds[self._scoring].append(now - self._since)
        self._scoring = not self._scoring
        self._since = now
        if self._scoring:
            self.dynamics.update(ids, logits, labels)

    def end_epoch(self, predict: Callable[[], Tensor] | None = None) -> None:
        """An epoch's first step is not measured."""
        self._since = None


def overhead(name: str, shape: tuple[int, int, int], classes: int, recipe: Recipe, steps: int) -> float:
    """Print and return the median over rounds of the share that the scores add to a step."""
    samples = steps * recipe.batch_size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (samples, *shape), dtype=np.uint8)
    images = DeviceImages(pixels, mean=shape[2] * (0.5,), std=shape[2] * (0.25,), device="cpu")
    labels = torch.from_numpy(rng.integers(classes, size=samples))
    model = build_model(recipe, shape, classes, seed=0, device="cpu")
    observer = EveryOther(samples)
    shares = []
    for turn in range(ROUNDS + 1):
        observer.seconds = {True: [], False: []}
        fit(
            model,
            images,
            labels,
            torch.arange(samples),
            recipe,
            seed=turn,
            objective=lambda logits, labels, ids: torch.nn.functional.cross_entropy(logits, labels),
            observer=observer,
        )
        with_scores, without = (statistics.mean(observer.seconds[kind]) for kind in (True, False))
        shares.append(with_scores / without - 1)
    shares = sorted(shares[1:])  # the first round warms up
    low, middle, high = shares[0], statistics.median(shares), shares[-1]
    print(
        f"{name:<34} {1000 * without:8.2f} ms a step   {low:+7.2%} {middle:+7.2%} {high:+7.2%}"
        f"{'' if middle <= LIMIT else '   over the limit'}",
        flush=True,
    )
    return middle


def training() -> None:
    """The table of networks."""
    print(f"all scores, added to a training step (min, median, max of {ROUNDS} rounds; at most {LIMIT:.0%} is wanted)")
    plain = Recipe(epochs=1, crop_padding=4, learning_rate=0.01)
    for name, shape, classes, model, steps in (
        ("resnet18, 32x32x3, 100 classes", (32, 32, 3), 100, "resnet18", 7),
        ("small_cnn, 32x32x3, 10 classes", (32, 32, 3), 10, "small_cnn", 41),
        ("small_cnn, 28x28x1, 10 classes", (28, 28, 1), 10, "small_cnn", 81),
        ("small_cnn, 8x8x1, 10 classes", (8, 8, 1), 10, "small_cnn", 401),
    ):
        recipe = Recipe(**{**vars(plain), "model": model})
        overhead(name, shape, classes, recipe, steps)


def epoch_of_logits() -> None:
    """Time each way to compute scores on the same logits."""
    labels = torch.from_numpy(load("digits").train.labels).repeat(40)[:50_000]
    generator = torch.Generator().manual_seed(0)
    batches = [(ids, torch.randn(len(ids), 10, generator=generator)) for ids in torch.arange(len(labels)).split(128)]
    found: dict[str, np.ndarray] = {}

    def ours() -> None:
        dynamics = Dynamics(len(labels))
        for ids, logits in batches:
            dynamics.update(ids, logits, labels[ids])
        dynamics.end_epoch()
        found["ours"] = dynamics.scores()["aum"]

    def by_sample() -> None:
        """As training scripts do it: margin, EL2N and forgetting, sample by sample."""
        margins, el2n, forgotten = np.zeros(len(labels)), np.zeros(len(labels)), np.zeros(len(labels))
        was_correct = np.zeros(len(labels), dtype=bool)
        for ids, logits in batches:
            for i, z in zip(ids.tolist(), logits, strict=True):
                y = int(labels[i])
                rivals = torch.cat((z[:y], z[y + 1 :]))
                margins[i] += (z[y] - rivals.max()).item()
                error = z.softmax(0)
                error[y] -= 1
                el2n[i] += error.norm().item()
                correct = z.argmax().item() == y
                forgotten[i] += was_correct[i] and not correct
                was_correct[i] = correct
        found["by_sample"] = -margins

    compare("all scores of 50,000 logits, to a loop over samples for three of them", ours, by_sample, rounds=3)
    assert np.allclose(found["ours"], found["by_sample"], atol=1e-5)
    try:
        from aum import AUMCalculator  # type: ignore[import-not-found]
    except ImportError:
        print("the package `aum` is not installed (pip install aum)")
        return

    def theirs() -> None:
        with tempfile.TemporaryDirectory() as folder:
            calculator = AUMCalculator(folder)
            for ids, logits in batches:
                calculator.update(logits, labels[ids], ids.tolist())
            found["aum"] = -np.array([calculator.sums[i] for i in range(len(labels))])

    compare("all scores of 50,000 logits, to the package `aum` for AUM alone", ours, theirs)
    assert np.allclose(found["ours"], found["aum"], atol=1e-5)


if __name__ == "__main__":
    take_no_flags(__doc__)
    torch.set_num_threads(1)
    describe_machine()
    training()
    epoch_of_logits()
