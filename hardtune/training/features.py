"""The features that a network's last linear layer sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardtune.errors import InputError
from hardtune.training.fit import predict
from hardtune.training.images import DeviceImages


def last_linear(model: nn.Module) -> nn.Linear:
    """The network's last linear layer; ``InputError`` if it has none."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            f"{type(model).__name__} has no linear layer (nn.Linear), and out-of-distribution images are told by the "
            "features that go into the last one: leave ood out, or end the network with one"
        )
    return linear[-1]


@torch.inference_mode()
def penultimate(model: nn.Module, images: DeviceImages, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Eval-mode logits float32 (B, K) of the images as they are, and their features float32 (B, D).

    The features are the inputs of the network's last linear layer.

    Raises:
        InputError: The network has no linear layer.
    """
    seen: list[Tensor] = []
    hook = last_linear(model).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].float().flatten(1))
    )
    try:
        logits = predict(model, images, positions)
    finally:
        hook.remove()
    return logits, torch.cat(seen)
