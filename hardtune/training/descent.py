"""How gradients change the weights: SGD with Nesterov momentum, or AdamW.

Both are torch's functions: the first instance of one of its optimiser classes loads ``torch.compile``, which takes
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from hardtune.recipe import Recipe

Descent = Callable[[], None]
"""Updates weights in place by their ``grad``; one without stays as it is. Part of a CUDA graph on GPUs."""


def descent(weights: Sequence[Tensor], recipe: Recipe, rate: Tensor) -> Descent:
    """The recipe's update of these weights.

    Args:
        rate: 0-d on their device: the learning rate, read at each update.
    """
    return {"sgd": _sgd, "adamw": _adamw}[recipe.optimiser](weights, recipe, rate)


def _sgd(weights: Sequence[Tensor], recipe: Recipe, rate: Tensor) -> Descent:
    momenta = {weight: torch.zeros_like(weight) for weight in weights}

    @torch.no_grad()
    def update() -> None:
        trained = [weight for weight in weights if weight.grad is not None]
        sgd(
            trained,
            [weight.grad for weight in trained],  # type: ignore[misc]
            [momenta[weight] for weight in trained],
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            lr=rate,  # type: ignore[arg-type]
            dampening=0,
            nesterov=recipe.momentum > 0,
            maximize=False,
            fused=True,
        )

    return update


def _adamw(weights: Sequence[Tensor], recipe: Recipe, rate: Tensor) -> Descent:
    means, squares = ({weight: torch.zeros_like(weight) for weight in weights} for _ in range(2))
    steps = {weight: torch.zeros((), device=weight.device) for weight in weights}

    @torch.no_grad()
    def update() -> None:
        trained = [weight for weight in weights if weight.grad is not None]
        adamw(
            trained,
            [weight.grad for weight in trained],  # type: ignore[misc]
            [means[weight] for weight in trained],
            [squares[weight] for weight in trained],
            [],
            [steps[weight] for weight in trained],
            weight_decay=recipe.weight_decay,
            beta1=recipe.momentum,
            beta2=0.999,
            eps=1e-8,
            lr=rate,
            amsgrad=False,
            maximize=False,
            fused=True,
        )

    return update
