"""What a network makes of an image just before it decides."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hardtune.training.fit import predict
from hardtune.training.images import DeviceImages


@torch.inference_mode()
def penultimate(
    model: nn.Module, images: DeviceImages, positions: Tensor, batch_size: int = 2048
) -> tuple[Tensor, Tensor]:
    """Eval-mode logits float32 (B, K) of the images as they are, and the features float32 (B, D) behind them.

    The features are what goes into the network's last linear layer.

    Raises:
        ValueError: The network has no linear layer.
    """
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError(f"{type(model).__name__} has no linear layer, so no penultimate features")
    seen: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].float().flatten(1)))
    try:
        logits = predict(model, images, positions, batch_size)
    finally:
        hook.remove()
    return logits, torch.cat(seen)
