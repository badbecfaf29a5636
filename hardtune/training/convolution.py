"""Convolutions that oneDNN is slow at, as matrix products, and those that it gets wrong, in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from hardtune.training.products import MatrixProducts, plain_convolution

_WIDE = 128
"""Input channels from which a matrix product is faster; below, copying the windows costs what the product saves."""
_BATCH = 16
"""Samples whose windows are written out at once, few enough for a core's cache to hold the other factor."""


def convolutions(
    network: nn.Module, kind: str, precision: str, compiled: bool, image: tuple[int, int, int]
) -> contextlib.AbstractContextManager[object]:
    """The context to train ``network`` in, which replaces operations by matrix products where these are faster.

    ``kind``: of device, ``cpu`` or ``cuda``. ``image``: (H, W, C) of what it is trained on.

    If compiled for a GPU in bfloat16, these are whole convolutions, see ``products``. On CPUs with AVX2 at most, in
    float32 and uncompiled, they are weight gradients: there oneDNN reaches half the rate of its other convolutions,
    so that this saves about a tenth of ResNet-18's step. With AVX-512 it has other kernels, and nothing was measured.
    """
    if kind == "cpu" and precision == "bfloat16" and _outgrows_its_images(network, image):
        return SmallImagesInFloat32()
    if kind == "cuda" and precision == "bfloat16" and compiled:
        return MatrixProducts(torch.bfloat16)
    old = kind == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2"
    # Intercepting every operation costs a small network a hundredth of its step, so do so only if it helps.
    gains = old and precision == "float32" and not compiled and any(_is_wide(weight) for weight in network.parameters())
    return WeightGradientsByMatrixProducts() if gains else contextlib.nullcontext()


def _is_wide(weight: Tensor) -> bool:
    """Whether it belongs to a convolution of many channels with a kernel above 1x1."""
    return weight.ndim == 4 and weight.shape[1] >= _WIDE and weight.shape[2] * weight.shape[3] > 1


def _outgrows_its_images(network: nn.Module, image: tuple[int, int, int]) -> bool:
    """Whether a convolution of the network steps over more than there is left of the image where it stands."""
    if not any(isinstance(module, nn.Conv2d) and max(module.stride) > 1 for module in network.modules()):
        return False
    height, width, channels = image
    was_training, mode = network.training, SmallImagesInFloat32()
    with torch.no_grad(), mode:
        network.eval()(torch.zeros(2, channels, height, width))
    network.train(was_training)
    return mode.met


class SmallImagesInFloat32(TorchFunctionMode):
    """A mode that computes two-dimensional convolutions with a stride above their images' size in float32.

    In bfloat16 oneDNN leaves parts of their weight gradients unwritten, with whatever is in memory (torch 2.12).
    """

    met = False
    """Whether there was one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and len(args) == 7:
            images, stride = args[0], args[3]
            if any(size < step for size, step in zip(images.shape[-2:], stride, strict=True)):
                self.met = True
                with torch.autocast("cpu", enabled=False):
                    return func(images.float(), *args[1:], **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class WeightGradientsByMatrixProducts(TorchFunctionMode):
    """A mode in which wide two-dimensional convolutions with kernels above 1x1 use ``_Convolution``."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plain = plain_convolution(func, args, kwargs)
        if plain is not None and _is_wide(plain[1]):
            return _Convolution.apply(*plain)
        return func(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """``torch.conv2d``, except for its weight gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(images, weight, None, stride, padding)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        images, weight = ctx.saved_tensors
        of_images = None
        if ctx.needs_input_grad[0]:
            of_images = conv2d_input(images.shape, weight, gradient, ctx.stride, ctx.padding)
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(images, gradient, weight.shape, ctx.stride, ctx.padding)
        return of_images, of_weight, None, None


def weight_gradient(
    images: Tensor, gradient: Tensor, shape: torch.Size, stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """What ``torch.nn.grad.conv2d_weight`` returns, by im2col and matrix products.

    Args:
        images: the convolution's input (B, C, H, W).
        gradient: of its output (B, O, H', W').
        shape: of its weight, (O, C, kernel height, kernel width).

    Returns:
        Of that shape, channels last in memory.
    """
    outputs, channels, height, width = shape
    total = images.new_zeros(outputs, height * width * channels)
    for part, out in zip(images.split(_BATCH), gradient.split(_BATCH), strict=True):
        padded = pad(part.permute(0, 2, 3, 1), (0, 0, padding[1], padding[1], padding[0], padding[0])).contiguous()
        sample, row, column, channel = padded.stride()
        # A row of a window is contiguous in memory, since its pixels are adjacent, with all their channels.
        windows = padded.as_strided(
            (len(out), *out.shape[2:], height, width * channels),
            (sample, row * stride[0], column * stride[1], row, channel),
        )
        total.addmm_(out.permute(0, 2, 3, 1).reshape(-1, outputs).T, windows.reshape(-1, height * width * channels))
    return total.view(outputs, height, width, channels).permute(0, 3, 1, 2)
