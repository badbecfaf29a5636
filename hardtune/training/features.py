"""The features that a network's last linear layer sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardtune.errors import InputError
from hardtune.training.fit import predict
from hardtune.training.images import DeviceImages


def last_linear(model: nn.Module, images: DeviceImages, positions: Tensor) -> nn.Linear:
    """The linear layer that logits come from: the last one that runs, of those with as many outputs.

    It is found by a pass over the images at the first two of the positions.

    Raises:
        InputError: there is none.
    """
    ran: list[nn.Linear] = []
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    hooks = [one.register_forward_pre_hook(lambda module, inputs: ran.append(module)) for one in linear]
    try:
        classes = predict(model, images, positions[:2]).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    heads = [module for module in ran if module.out_features == classes]
    if not heads:
        raise InputError(
            f"{type(model).__name__} has no linear layer (nn.Linear) that gives its logits, and out-of-distribution "
            "images are told by the features that go into it: leave ood out, or end the network with one"
        )
    return heads[-1]


@torch.inference_mode()
def penultimate(model: nn.Module, images: DeviceImages, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Eval-mode logits float32 (B, K) of the images as they are, and their features float32 (B, D).

    The features are the inputs of the network's last linear layer.

    Raises:
        InputError: The network has no linear layer.
    """
    seen: list[Tensor] = []
    hook = last_linear(model, images, positions).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].float().flatten(1))
    )
    try:
        logits = predict(model, images, positions)
    finally:
        hook.remove()
    return logits, torch.cat(seen)
