"""Convolutions that cuDNN is slow at, computed as matrix products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode

_NARROW = 64
"""Largest window for which writing windows out is cheaper, in numbers: nine pixels of a colour image are 27."""
_ALIGNED = 8
"""Tensor cores take rows whose length is a multiple of this, in half precision."""


Convolution = tuple[Tensor, Tensor, tuple[int, int], tuple[int, int]]
"""Images (B, C, H, W), weight (O, C, kernel height, kernel width), stride and padding."""


def plain_convolution(func: Callable[..., Any], args: Any, kwargs: dict[str, Any] | None) -> Convolution | None:
    """A call's arguments if it is a two-dimensional convolution as torch.nn.Conv2d makes it, without bias, dilation and
    groups; else None."""
    if func is torch.conv2d and not kwargs and len(args) == 7:
        images, weight, bias, stride, padding, dilation, groups = args
        undilated = not isinstance(padding, str) and tuple(dilation) == (1, 1)
        if bias is None and undilated and groups == 1 and images.ndim == 4:
            return images, weight, stride, padding
    return None


class MatrixProducts(TorchFunctionMode):
    """A mode that computes some two-dimensional convolutions as matrix products in ``dtype``, with autograd.

    These are a network's first one, whose images have too few channels for tensor cores, and strided 1x1 ones, for
    which cuDNN's heuristics choose badly. On an H200, ResNet-18's first one takes 21 microseconds instead of 102, and
    its largest shortcut 11 instead of 57 (128 CIFAR images; forward, for the first also backward). ``torch.compile``
    writes the windows out together with the crops; copied separately, they would cost what is gained.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plain = plain_convolution(func, args, kwargs)
        if plain is not None and _gains(*plain):
            images, weight, stride, padding = plain
            return _product(images.to(self._dtype), weight, stride, padding)
        return func(*args, **(kwargs or {}))


def _gains(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> bool:
    _, channels, height, width = weight.shape
    if height * width == 1:
        return tuple(stride) != (1, 1) and tuple(padding) == (0, 0)
    # Window gradients would be added up one by one; a network's input needs none.
    return channels < _ALIGNED and channels * height * width <= _NARROW and not images.requires_grad


def _product(images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """``torch.conv2d`` of images (B, C, H, W) and weight (O, C, kernel height, kernel width), channels last."""
    outputs, _, height, width = weight.shape
    if height * width == 1:
        # Permute to channels last first, so that the gradient has that layout too.
        windows = images.permute(0, 2, 3, 1)[:, :: stride[0], :: stride[1]]
    else:
        padded = pad(images, (padding[1], padding[1], padding[0], padding[0]))
        windows = padded.unfold(2, height, stride[0]).unfold(3, width, stride[1]).permute(0, 2, 3, 1, 4, 5)
    batch, rows, columns = windows.shape[:3]
    left, right = windows.reshape(batch * rows * columns, -1), weight.reshape(outputs, -1)
    if lacking := -left.shape[1] % _ALIGNED:
        left, right = pad(left, (0, lacking)), pad(right, (0, lacking))
    return (left @ right.T).view(batch, rows, columns, outputs).permute(0, 3, 1, 2)
