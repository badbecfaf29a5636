"""The fit loop: one network, from its seed to its last epoch."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hardtune.errors import DivergedError, InputError, blamed
from hardtune.recipe import Recipe
from hardtune.training.choices import MEMORY_FORMATS, layout_of, resolved
from hardtune.training.images import DeviceImages
from hardtune.training.models import MODELS
from hardtune.training.schedule import learning_rate
from hardtune.training.step import Objective, Observer, Step
from hardtune.training.views import draw_views

PREDICTED_PIXELS = 2**21
"""Maximum number in a batch that is predicted."""

_one_at_a_time = threading.RLock()  # reentrant: an observer may build its own network

Probe = Callable[[int, nn.Module], None]
"""(epochs finished, network): inspects a network as it trains, also before the first step, without changing it."""


def build_model(recipe: Recipe, shape: tuple[int, ...], num_classes: int, *, seed: int, device: str) -> nn.Module:
    """A fresh network for images of ``shape`` (H, W, C), initialised from ``seed`` alone, in the recipe's layout."""
    make, layout = MODELS[recipe.model], MEMORY_FORMATS[resolved(recipe, device).layout]
    with _drawing_from(torch.Generator().manual_seed(seed)):
        network = make(shape[2], num_classes, min(shape[:2]))
    return network.to(device).to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def check_model(recipe: Recipe, images: DeviceImages, num_classes: int) -> nn.Module:
    """Build the recipe's network and run it forward and backward on the first two of the images, on the CPU.

    Raises:
        InputError: an unknown model, one that raises, or one whose answer is not (2, num_classes) finite logits.
    """
    MODELS[recipe.model]
    layout = "channels_last" if recipe.layout == "auto" else recipe.layout  # as training has it, or nearly always
    settled = dataclasses.replace(recipe, precision="float32", layout=layout)  # no need to be fast here
    shape = tuple(images.images.shape[1:])
    two = torch.arange(2)
    size = " x ".join(map(str, shape))
    batches = f" in batches of {recipe.batch_size}" if recipe.batch_size == 1 else ""
    # Dropout draws.
    with blamed(f"model {recipe.model!r} fails on images of {size}{batches}"), torch.random.fork_rng(devices=[]):
        network = build_model(settled, shape, num_classes, seed=0, device="cpu")
        logits = predict(network, images, two)
        if not isinstance(logits, Tensor) or logits.shape != (2, num_classes):
            gives = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
            raise InputError(
                f"model {recipe.model!r} gives {gives} for 2 images of {num_classes} classes; "
                f"it must give {(2, num_classes)}, in one tensor"
            )
        batch = images.batch(two[: recipe.batch_size]).contiguous(memory_format=layout_of(network))
        network.train()(batch).sum().backward()
    if not logits.isfinite().all():
        raise InputError(
            f"model {recipe.model!r} gives logits that are not finite, before any training: mask classes by -1e4"
        )
    if logits.min() >= 0 and torch.allclose(logits.sum(dim=1), torch.ones(2), atol=1e-4):
        raise InputError(
            f"model {recipe.model!r} gives probabilities, and the loss would take a softmax of them again: leave its "
            "softmax out, so that it gives logits"
        )
    return network


def fit(
    model: nn.Module,
    images: DeviceImages,
    labels: Tensor,
    rows: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    objective: Objective,
    observer: Observer | None = None,
    on_epoch: Callable[[int], None] | None = None,
    probe: Probe | None = None,
    until: int | None = None,
    steps: int | None = None,
) -> None:
    """Train ``model`` in place by the recipe.

    Args:
        images, labels: what positions 0..N-1 (and N.. for synthesised images) mean; labels int64 on the device.
        rows: positions (M,) that make up an epoch; a position may occur more than once.
        seed: for the order of the samples and their augmentation; on a CPU also for random layers (dropout).
        observer: sees every batch, and the end of every epoch.
        on_epoch: called with the number of finished epochs.
        probe: shown the network before the first epoch and after each.
        until: stop after this many epochs; up to there all is as in the whole run, including the schedule.
        steps: train for so many steps instead of the recipe's epochs. The last epoch then may be broken off, and counts
            as finished for all of the above.

    Raises:
        DivergedError: the objective became NaN or infinite; looked at once an epoch.
    """
    device = images.images.device
    recipe = resolved(recipe, device.type)
    step = Step(model, images, labels, recipe, objective, observer)
    shown = torch.Generator().manual_seed(seed)
    layers = torch.Generator().manual_seed(seed + 1)  # separate, so that layers' draws do not change the views
    bounds = _batch_bounds(len(rows), recipe.batch_size)
    if steps is None:
        steps = recipe.epochs * len(bounds)
    epochs = math.ceil(steps / len(bounds))
    if probe is not None:
        probe(0, model)
    for epoch in range(epochs if until is None else min(until, epochs)):
        model.train()
        views = draw_views(rows, recipe, shown)
        # On a GPU, layers draw from the GPU's generator, so parallel networks need not take turns.
        with step.stream(), _drawing_from(layers) if device.type == "cpu" else contextlib.nullcontext():
            for number, (start, end) in enumerate(bounds[: steps - epoch * len(bounds)]):
                done = (epoch + number / len(bounds)) / (steps / len(bounds))
                step(views[start:end], learning_rate(recipe, done))
            diverged = not step.all_finite()
        if diverged:
            raise DivergedError(
                f"training diverged in epoch {epoch + 1} of {epochs}: the loss is no longer a finite number; "
                "a lower learning rate or entropy weight may help"
            )
        if observer is not None:
            observer.end_epoch(lambda: predict(model, images, torch.arange(len(images.images), device=device)))
        if probe is not None:
            probe(epoch + 1, model)
        if on_epoch is not None:
            on_epoch(epoch + 1)


@torch.inference_mode()
def predict(model: nn.Module, images: DeviceImages, positions: Tensor) -> Tensor:
    """Eval-mode logits float32 (len(positions), K) of the images as they are.

    Batches hold 2,048 images of 32 x 32 pixels, and fewer of larger ones: prediction must not take more memory than
    training, after which it comes.

    Inference is in float32 whatever the training precision: rounding logits to 8 bits would create ties among the
    confidences that calibration ranks.
    """
    model.eval()
    layout = layout_of(model)
    height, width = images.images.shape[1:3]
    size = max(1, min(2048, PREDICTED_PIXELS // (height * width)))
    parts = (model(images.batch(part).contiguous(memory_format=layout)) for part in positions.split(size))
    first = next(parts)
    if isinstance(first, Tensor):  # else whoever checks the model says so
        first = first.float()  # NumPy has no bfloat16
    if len(positions) <= size:
        return first  # type: ignore[no-any-return]
    logits = first.new_empty(len(positions), *first.shape[1:])  # torch.cat would take the memory twice
    logits[:size] = first
    for number, part in enumerate(parts, 1):
        logits[number * size : number * size + len(part)] = part
    return logits


@contextlib.contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Make modules on the CPU draw from ``generator``, which continues from there afterwards.

    They draw from torch's global generator, which all threads share: one at a time holds it, and restores its state.
    (``torch.manual_seed`` would also seed every GPU's, and not restore it.)
    """
    with _one_at_a_time, torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator.get_state())
        yield
        generator.set_state(torch.default_generator.get_state())


def batches(count: int, size: int) -> int:
    """The steps of an epoch of ``count`` samples in batches of ``size``."""
    return len(_batch_bounds(count, size))


def _batch_bounds(count: int, size: int) -> list[tuple[int, int]]:
    """Slices of ``size`` that cover ``count``; a lone last sample joins the slice before it, for batch norm's sake."""
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))
