"""Training by hardtune against the usual loop: images per second, and the test accuracy that both reach.

    python benchmarks/training.py                            small_cnn and resnet18 on random images, on this CPU
    python benchmarks/training.py --device cuda              the same on a GPU
    python benchmarks/training.py --against layout=channels_first    fit against itself, with another choice
    python benchmarks/training.py --data fashion_mnist --accuracy 5    seeds trained to the end by both, and compared
    python benchmarks/training.py --accuracy 5 --device cuda --data cifar10 --models resnet18 --recipe compile=true

The usual loop is that of a tutorial: PIL transforms and a DataLoader, float32, channels first, the same optimiser, and
each sample's margin recorded in a loop with ``.item()``. hardtune's is ``fit`` with all dynamics scores. Both train the
same network with the same batch size, learning rates, crops and flips, each in its own process: hardtune's set up like
a sweep's worker. Times are process time with one thread on a CPU, and wall time on a GPU, where the usual loop gets 8
loader processes.
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from interleaved import compare, describe_machine
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from hardtune import Recipe, load
from hardtune.command_line import recipe_changes
from hardtune.data import Dataset, Samples
from hardtune.hardness.dynamics import Dynamics
from hardtune.training.fit import build_model, fit, predict
from hardtune.training.images import DeviceImages
from hardtune.training.schedule import learning_rate
from hardtune.training.worker import configure_process

IMAGES = {"small_cnn": 4096, "resnet18": 384}
"""Images per timed epoch: a few seconds of work on one core."""


class Images(TorchDataset):  # type: ignore[type-arg]
    """What ``torchvision.datasets.CIFAR10`` does: an array to a PIL image to a tensor, one at a time."""

    def __init__(self, data: Dataset, padding: int, flip: bool) -> None:
        self.images, self.labels = data.train.images.squeeze(), data.train.labels
        size = data.train.images.shape[1]
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(),
                transforms.RandomCrop(size, padding=padding),
                *([transforms.RandomHorizontalFlip()] if flip else []),
                transforms.ToTensor(),
                transforms.Normalize(data.mean, data.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor, int]:
        return index, self.transform(self.images[index]), int(self.labels[index])


def usual(data: Dataset, recipe: Recipe, device: str, seed: int = 0) -> torch.nn.Module:
    """Train one network by the usual loop."""
    torch.manual_seed(seed)
    model = build_model(recipe, data.train.images.shape[1:], data.num_classes, seed=seed, device=device)
    model = model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    shared: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    optimiser: torch.optim.Optimizer
    if recipe.optimiser == "adamw":
        optimiser = torch.optim.AdamW(model.parameters(), betas=(recipe.momentum, 0.999), **shared)
    else:
        optimiser = torch.optim.SGD(model.parameters(), momentum=recipe.momentum, nesterov=True, **shared)
    criterion = torch.nn.CrossEntropyLoss()
    loader = DataLoader(
        Images(data, recipe.crop_padding, recipe.flip),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=8 if device == "cuda" else 0,
        pin_memory=device == "cuda",
        persistent_workers=device == "cuda",
    )
    margins = np.zeros(len(data.train))
    for epoch in range(recipe.epochs):
        model.train()
        for step, (ids, images, labels) in enumerate(loader):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, (epoch + step / len(loader)) / recipe.epochs)
            images, labels = images.to(device), labels.to(device)
            logits = model(images)
            loss = criterion(logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            for row, sample in enumerate(ids):
                others = logits[row].detach().clone()
                others[labels[row]] = -math.inf
                margins[sample] += logits[row, labels[row]].item() - others.max().item()
    return model


def ours(
    data: Dataset,
    recipe: Recipe,
    device: str,
    seed: int = 0,
    *,
    scores: bool = True,
    on_epoch: Callable[[int], None] | None = None,
) -> torch.nn.Module:
    """Train one network by ``fit``, with all scores or none."""
    model = build_model(recipe, data.train.images.shape[1:], data.num_classes, seed=seed, device=device)
    fit(
        model,
        DeviceImages(data.train.images, mean=data.mean, std=data.std, device=device),
        torch.from_numpy(data.train.labels).to(device),
        torch.arange(len(data.train), device=device),
        recipe,
        seed=seed,
        objective=lambda logits, labels, ids: torch.nn.functional.cross_entropy(logits, labels),
        observer=Dynamics(len(data.train), device=device) if scores else None,
        on_epoch=on_epoch,
    )
    return model


@functools.cache
def made_up(count: int, seed: int = 0) -> Dataset:
    """Random images of CIFAR's shape: speed does not depend on what they show."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    train = Samples(images, np.concatenate([np.arange(10), rng.integers(0, 10, count - 10)]))
    return Dataset("random", train, train.take(np.arange(10)), tuple("0123456789"), (0.5,) * 3, (0.3,) * 3)


def accuracy(model: torch.nn.Module, data: Dataset, device: str) -> float:
    """Accuracy on test images, in percent."""
    images = DeviceImages(data.test.images, mean=data.mean, std=data.std, device=device)
    logits = predict(model, images, torch.arange(len(data.test), device=device))
    return 100 * float((logits.argmax(1).cpu().numpy() == data.test.labels).mean())


def seconds_of(
    train: Callable[..., torch.nn.Module],
    model: str,
    images: int,
    device: str,
    choices: dict[str, Any],
) -> float:
    """Seconds of one epoch and the test images after it, which wait for the GPU."""
    data, recipe = made_up(images), Recipe(model=model, epochs=1, schedule="linear", **choices)
    clock = time.perf_counter if device == "cuda" else time.process_time
    start = clock()
    accuracy(train(data, recipe, device), data, device)
    return clock() - start


def speed(model: str, images: int, device: str, rounds: int, choices: dict[str, Any], against: Sequence[str]) -> None:
    """Print how much faster ``fit`` is, one epoch each: than the usual loop, or than with other choices."""
    spawn = get_context("spawn")
    theirs, others = (ours, choices | recipe_changes(against)) if against else (usual, {})
    settled = configure_process if against else torch.set_num_threads
    with (
        ProcessPoolExecutor(1, spawn, initializer=configure_process, initargs=(1,)) as worker,
        ProcessPoolExecutor(1, spawn, initializer=settled, initargs=(1,)) as process,
    ):
        compare(
            f"{model}, (32, 32, 3): training with all scores, against {' '.join(against) or 'the usual loop'}",
            lambda: worker.submit(seconds_of, ours, model, images, device, choices).result(),
            lambda: process.submit(seconds_of, theirs, model, images, device, others).result(),
            rounds=rounds,
            units=(images, "images"),
            clock=None,
        )


def accuracies(data: Dataset, recipe: Recipe, device: str, seeds: int) -> None:
    """Print what both reach, and the difference with its 95 % interval (Welch)."""
    from scipy import stats

    a, b = [], []
    for seed in range(seeds):
        a.append(accuracy(ours(data, recipe, device, seed), data, device))
        b.append(accuracy(usual(data, recipe, device, seed), data, device))
        print(f"seed {seed}: ours {a[-1]:.2f} %, usual {b[-1]:.2f} %", flush=True)
    interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    print(
        f"{recipe.model} on {data.name}, {len(data.train):,} images, {recipe.epochs} epochs, {seeds} seeds each: "
        f"ours {statistics.mean(a):.2f} ± {statistics.stdev(a):.2f} %, usual {statistics.mean(b):.2f} ± "
        f"{statistics.stdev(b):.2f} %; difference {statistics.mean(a) - statistics.mean(b):+.2f} "
        f"[{interval.low:+.2f}, {interval.high:+.2f}]"
    )


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    flags.add_argument("--models", nargs="+", default=list(IMAGES))
    flags.add_argument("--rounds", type=int, default=7)
    flags.add_argument(
        "--against", nargs="+", default=[], metavar="NAME=VALUE", help="of the recipe, see docs/speed.md"
    )
    flags.add_argument("--recipe", nargs="+", default=[], metavar="NAME=VALUE", help="what else of ours to change")
    flags.add_argument("--data", help="real images to train on to the end, for --accuracy")
    flags.add_argument("--data-dir")
    flags.add_argument("--images", type=int, default=10_000, help="how many of them (default: %(default)s)")
    flags.add_argument("--epochs", type=int, default=6)
    flags.add_argument("--learning-rate", type=float, default=0.1)
    flags.add_argument("--accuracy", type=int, metavar="SEEDS", help="compare accuracies instead of speeds")
    options = flags.parse_args()
    torch.set_num_threads(1)
    describe_machine()
    choices = recipe_changes(options.recipe)
    if options.accuracy:
        data = load(options.data or "fashion_mnist", options.data_dir)
        few = max(1, min(options.images, len(data.train)) // data.num_classes)
        data = data.subset(classes=data.num_classes, train=few, test=10_000, seed=0)
        for model in options.models:
            recipe = Recipe(
                model=model,
                epochs=options.epochs,
                schedule="linear",
                warmup=0.2,
                crop_padding=1,
                learning_rate=options.learning_rate,
                **choices,
            )
            accuracies(data, recipe, options.device, options.accuracy)
        return
    for model in options.models:
        images = IMAGES[model] if options.device == "cpu" else 50_000
        speed(model, images, options.device, options.rounds, choices, options.against)


if __name__ == "__main__":
    main()
