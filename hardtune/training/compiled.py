"""``torch.compile`` where the recipe asks for it: fewer passes over memory, for half a minute of compiling."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hardtune.errors import HardtuneWarning


class Compiled:
    """Calls ``network`` compiled on full batches of ``size``, and uncompiled on others: each shape costs time.

    If it cannot be compiled (no C++ compiler, a layer that the compiler does not support), it is called uncompiled, and
    a warning says so once.
    """

    def __init__(self, network: nn.Module, size: int, device: str) -> None:
        self._network, self._size = network, size
        options: dict[str, Any] = {}
        if device == "cuda":  # batch norm's kernels need Triton, which comes with GPUs
            with contextlib.suppress(ImportError):
                from hardtune.training.fused import fusing

                options["backend"] = fusing
        self._fast: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False, **options)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's logits (B, K) of images (B, C, H, W)."""
        if len(images) != self._size:
            return self._network(images)  # type: ignore[no-any-return]
        try:
            return self._fast(images)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).partition("\n\n")[0].split())
            message = f"training goes on without torch.compile, and slower: {reason}"
            warnings.warn(message, HardtuneWarning, stacklevel=2)
            self._fast = self._network
            return self._network(images)  # type: ignore[no-any-return]
