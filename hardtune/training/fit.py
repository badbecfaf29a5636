"""The fit loop: one network, from its seed to its last epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from hardtune.errors import DivergedError
from hardtune.recipe import Recipe
from hardtune.training.images import DeviceImages
from hardtune.training.models import MODELS
from hardtune.training.precision import autocast, resolved
from hardtune.training.schedule import learning_rate

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, K), labels (B,), positions (B,)) to the scalar that is minimised."""


Probe = Callable[[int, nn.Module], None]
"""(epochs finished, network): looks into a network as it trains, before the first step too, and leaves it as it is."""


class Observer(Protocol):
    """Who watches a network train; training dynamics are such observers."""

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """See a training batch: positions (B,), logits (B, K) before that step's update, labels (B,)."""

    def end_epoch(self, predict: Callable[[], Tensor] | None = None) -> None:
        """See an epoch end; ``predict()`` costs a pass: eval-mode logits (N, K) of the images as they are."""


def build_model(recipe: Recipe, shape: tuple[int, ...], num_classes: int, *, seed: int, device: str) -> nn.Module:
    """A fresh network for images of ``shape`` (H, W, C), initialised from ``seed`` alone."""
    make = MODELS[recipe.model]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make(shape[2], num_classes, min(shape[:2]))
    return network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


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
) -> None:
    """Train ``model`` in place by the recipe.

    Args:
        images, labels: what positions 0..N-1 (and N.. for synthesised images) mean; labels int64 on the device.
        rows: positions (M,) that make up an epoch; a position may stand there more than once.
        seed: of the order of the samples and of their augmentation.
        observer: sees every batch, and the end of every epoch.
        on_epoch: called with the number of finished epochs.
        probe: shown the network before the first epoch and after each.
        until: stop after this many epochs; up to there it is the whole run, schedule and all.

    Raises:
        DivergedError: the objective became NaN or infinite; looked at once an epoch.
    """
    device = images.images.device
    recipe = resolved(recipe, device.type)
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
        fused=True,
    )
    generator = torch.Generator().manual_seed(seed)
    bounds = _batch_bounds(len(rows), recipe.batch_size)
    if probe is not None:
        probe(0, model)
    for epoch in range(recipe.epochs if until is None else until):
        model.train()
        order, dy, dx, flip = _draw_epoch(rows, recipe, generator, device)
        total = torch.zeros((), device=device)
        for step, (start, end) in enumerate(bounds):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, (epoch + step / len(bounds)) / recipe.epochs)
            ids = order[start:end]
            batch = images.augmented(
                ids, recipe.crop_padding, dy[start:end], dx[start:end], None if flip is None else flip[start:end]
            )
            with autocast(device.type, recipe.precision):
                logits = model(batch).float()
            loss = objective(logits, labels[ids], ids)
            if observer is not None:
                observer.update(ids, logits.detach(), labels[ids])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.detach()
        if not torch.isfinite(total):
            raise DivergedError(
                f"training diverged in epoch {epoch + 1} of {recipe.epochs}: the loss is no longer a finite number; "
                "a lower learning rate or entropy weight may help"
            )
        if observer is not None:
            observer.end_epoch(lambda: predict(model, images, torch.arange(len(images.images), device=device)))
        if probe is not None:
            probe(epoch + 1, model)
        if on_epoch is not None:
            on_epoch(epoch + 1)


@torch.inference_mode()
def predict(model: nn.Module, images: DeviceImages, positions: Tensor, batch_size: int = 2048) -> Tensor:
    """Eval-mode logits float32 (len(positions), K) of the images as they are."""
    model.eval()
    return torch.cat([model(images.batch(part)) for part in positions.split(batch_size)])


def _batch_bounds(count: int, size: int) -> list[tuple[int, int]]:
    """Slices of at most ``size`` that cover ``count``; batch norm cannot train on one sample, so none is left alone."""
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], count], strict=True))


def _draw_epoch(
    rows: Tensor, recipe: Recipe, generator: torch.Generator, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """An epoch's order, crop offsets and flips, drawn on the CPU so that every device trains on the same views."""
    count = len(rows)
    order = rows[torch.randperm(count, generator=generator).to(device)]
    offsets = torch.randint(2 * recipe.crop_padding + 1, (2, count), generator=generator).to(device)
    flip = torch.rand(count, generator=generator).lt(0.5).to(device) if recipe.flip else None
    return order, offsets[0], offsets[1], flip
