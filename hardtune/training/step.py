"""One step of training: a batch's views in, better weights out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from hardtune.recipe import Recipe
from hardtune.training.choices import layout_of
from hardtune.training.compiled import Compiled
from hardtune.training.convolution import convolutions
from hardtune.training.descent import descent
from hardtune.training.deterministic import deterministic
from hardtune.training.images import DeviceImages
from hardtune.training.replay import Replayed

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(logits (B, K), labels (B,), positions (B,)) to the scalar that is minimised."""


class Observer(Protocol):
    """Watches a network train; training dynamics are such observers."""

    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """See a training batch: positions (B,), logits (B, K) before that step's update, labels (B,).

        On a GPU it becomes part of a CUDA graph, so it must change tensors in place and wait for nothing.
        """

    def end_epoch(self, predict: Callable[[], Tensor] | None = None) -> None:
        """See an epoch end; ``predict()`` costs a pass: eval-mode logits (N, K) of the images as they are."""


class Step:
    """What all training steps of a network share: its images, its optimiser, and how a step is run.

    On a GPU a step is replayed as a CUDA graph on its own stream, so that several networks can train in parallel, each
    in a thread, with the same numbers as without.
    """

    def __init__(
        self,
        model: nn.Module,
        images: DeviceImages,
        labels: Tensor,
        recipe: Recipe,
        objective: Objective,
        observer: Observer | None,
    ) -> None:
        """The arguments are those of ``fit``; the recipe must be resolved."""
        self._images, self._labels = images, labels
        self._recipe, self._objective, self._observer = recipe, objective, observer
        self._device = images.images.device
        compiled = recipe.compile is True
        self._network = Compiled(model, recipe.batch_size, self._device.type) if compiled else model
        self._layout = layout_of(model)
        shape: tuple[int, int, int] = tuple(images.images.shape[1:])  # type: ignore[assignment]
        self._convolutions = convolutions(model, self._device.type, recipe.precision, compiled, shape)
        # A captured step reads the learning rate from this tensor; a plain number would be fixed for ever.
        self.rate = torch.zeros((), device=self._device)
        """The learning rate of the next step."""
        self._weights = [weight for weight in model.parameters() if weight.requires_grad]
        self._descend = descent(self._weights, recipe, self.rate)
        self._total = torch.zeros((), device=self._device)
        self._replayed = Replayed() if recipe.cuda_graphs and self._device.type == "cuda" else None

    def __call__(self, views: Tensor, rate: float) -> None:
        """Train on a batch of ``views`` (B, 4), as ``draw_views`` makes them, with this learning rate."""
        self.rate.fill_(rate)
        if self._replayed is None:
            self.once(views)
        else:
            self._replayed(self.once, views)

    def once(self, views: Tensor) -> None:
        """The step itself: only tensors with fixed addresses and shapes, and no waiting for the device."""
        ids, dy, dx, flip = views.unbind(1)
        labels = self._labels[ids]
        batch = self._images.augmented(ids, self._recipe.crop_padding, dy, dx, flip if self._recipe.flip else None)
        # Weights stay float32; matrix products use the recipe's precision.
        bfloat16 = self._recipe.precision == "bfloat16"
        with torch.autocast(self._device.type, torch.bfloat16, enabled=bfloat16), self._convolutions:
            logits = self._network(batch.contiguous(memory_format=self._layout)).float()
        loss = self._objective(logits, labels, ids)
        if self._observer is not None:
            self._observer.update(ids, logits.detach(), labels)
        for weight in self._weights:
            weight.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        self._descend()
        self._total += loss.detach()

    def all_finite(self) -> bool:
        """Whether the losses so far were finite; waits for the device."""
        return bool(torch.isfinite(self._total))

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)

    @contextlib.contextmanager
    def stream(self) -> Iterator[None]:
        """Run steps on the network's own GPU stream, by deterministic kernels; later work waits for them."""
        if self._device.type != "cuda":
            yield
            return
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream), deterministic():
                yield
        finally:  # after an error too, since queued work still writes to memory that is freed then
            outside.wait_stream(self._stream)
