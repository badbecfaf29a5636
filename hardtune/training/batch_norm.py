"""Batch norm, residual addition and ReLU on a GPU, fused into as few passes over memory as possible.

The operations between a network's convolutions are memory-bound. The forward kernels read a batch twice and write it
once; the backward kernels infer from data that they read anyway where ReLU was zero, and add two gradients on the way.
Images are channels last, so all of this is arithmetic on a matrix of pixels by channels. Sums are always taken in the
same order.

Each kernel runs few programs with many reads in flight. A kernel of many programs would occupy all multiprocessors,
each waiting for its share of the memory bandwidth; these reach about the same bandwidth on a quarter of them, and leave
the others to the convolutions of networks that train in parallel.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from hardtune.training import norm_kernels as kernels

# The fastest on an H200, of 16 to 264 programs and 8 or 16 warps (ResNet-18, batches of 128, 4 networks in parallel).
# Results depend on these numbers, if only in their rounding, so they are the same on every GPU.
PROGRAMS = 32
"""Maximum number per batch."""
WARPS = 8
COLUMNS = 64
"""Channels of a tile."""
READ = 2**15
"""Total bytes of the tiles read at once."""
LINE = WARPS * 32 * 8 // COLUMNS
"""Pixels that a program's threads read side by side, eight channels per thread."""


class _Matrix:
    """A batch (B, C, H, W) as a pixels-by-channels matrix, and its split among programs."""

    def __init__(self, x: Tensor) -> None:
        self.channels = x.shape[1]
        self.rows = x.numel() // self.channels
        self._columns = min(COLUMNS, triton.next_power_of_2(self.channels))
        across = triton.cdiv(self.channels, self._columns)
        self.parts = min(triton.cdiv(self.rows, LINE), max(1, PROGRAMS // across))
        self.grid = self.parts, across
        self.partial = x.new_empty(self.parts, 2, self.channels, dtype=torch.float32)
        self._itemsize = x.element_size()
        self._stages = _stages(x.device)

    def tiling(self, matrices: int, *, sums: bool) -> dict[str, Any]:
        """The launch options of a kernel that reads this many matrices, and sums them or not."""
        rows = READ // (COLUMNS * self._itemsize * matrices)
        rows = min(rows, triton.next_power_of_2(triton.cdiv(self.rows, self.parts)))
        rows = max(LINE, 2 ** (rows.bit_length() - 1))
        return {
            "ROWS": rows,
            "COLUMNS": self._columns,
            "EVEN": self.rows % rows == 0 and self.channels % self._columns == 0,
            "STAGES": self._stages,
            "num_warps": WARPS,
            **({"LINES": rows // LINE} if sums else {"PROGRAMS": triton.next_power_of_2(PROGRAMS)}),
        }


@cache
def _stages(device: torch.device) -> int:
    """Pipeline depth, in tiles: four, if a multiprocessor's shared memory holds three."""
    if device.type != "cuda":
        return 1
    shared = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 49152)  # AMD's lack it
    return max(1, min(4, (shared - 2**14) // READ + 1))


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


@torch.library.custom_op("hardtune::normalise", mutates_args=())
def normalise(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """relu(batch_norm(x) + residual) in training mode, with the batch's mean and unbiased variance (C,).

    Args:
        x: (B, C, H, W), of any float type, with at least two values per channel. Computed in float32.
        residual: of the same shape and type, or None.
        weight, bias: float32 (C,).
        relu: whether to apply it.

    Returns:
        The result, channels last, of x's type; mean and variance in float32, through which no gradient flows.
    """
    x = _last(x)
    matrix = _Matrix(x)
    shape, partial = (matrix.rows, matrix.channels), matrix.partial
    y, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    with torch.cuda.device_of(x):
        kernels.sums[matrix.grid](x, partial, *shape, **matrix.tiling(1, sums=True))
        kernels.normalise[matrix.grid](
            x, x if residual is None else _last(residual), weight, bias, partial, matrix.parts, mean, variance, y,
            *shape, eps, residual is not None, relu,
            **matrix.tiling(1 + (residual is not None), sums=False),
        )  # fmt: skip
    return y, mean, variance


@torch.library.custom_op("hardtune::normalise_backward", mutates_args=())
def normalise_backward(
    gradient: Tensor,
    second: Tensor | None,
    x: Tensor,
    y: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of x, weight, bias and the residual; the last is meaningless if there was none.

    Args:
        gradient: of ``normalise``'s result.
        second: the other gradient of it, if there are two; added on the way.
        y: the result, if there was a residual.
    """
    x, gradient = _last(x), _last(gradient)
    matrix = _Matrix(x)
    shape, partial, channelwise = (matrix.rows, matrix.channels), matrix.partial, (weight, bias, mean, variance)
    residual, kept = y is not None, y is not None or second is not None
    masked = torch.empty_like(x) if kept else x.new_empty(0)
    of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    with torch.cuda.device_of(x):
        kernels.gradient_sums[matrix.grid](
            gradient, gradient if second is None else _last(second), x, x if y is None else y, *channelwise,
            masked if kept else x, partial, *shape, eps, second is not None, residual, relu,
            **matrix.tiling(2 + (second is not None) + residual, sums=True),
        )  # fmt: skip
        kernels.differentiate[matrix.grid](
            masked if kept else gradient, x, *channelwise, partial, matrix.parts, of_weight, of_bias, of_x,
            *shape, eps, relu and not kept,
            **matrix.tiling(2, sums=False),
        )  # fmt: skip
    return of_x, of_weight, of_bias, masked


@normalise.register_fake
def _(x: Tensor, residual: Tensor | None, weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _last(torch.empty_like(x)), torch.empty_like(weight), torch.empty_like(weight)


@normalise_backward.register_fake
def _(
    gradient: Tensor, second: Tensor | None, x: Tensor, y: Tensor | None, weight: Tensor, bias: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = _last(torch.empty_like(x))
    masked = torch.empty_like(like) if y is not None or second is not None else x.new_empty(0)
    return like, torch.empty_like(weight), torch.empty_like(bias), masked


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, residual, weight, bias, ctx.eps, ctx.relu = inputs
    y, mean, variance = output
    ctx.residual = residual is not None
    ctx.save_for_backward(x, y if ctx.residual else None, weight, bias, mean, variance)


def _backward(ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor) -> tuple[Tensor | None, ...]:
    x, y, weight, bias, mean, variance = ctx.saved_tensors
    of_x, of_weight, of_bias, of_residual = normalise_backward(
        gradient, None, x, y, weight, bias, mean, variance, ctx.eps, ctx.relu
    )
    return of_x, of_residual if ctx.residual else None, of_weight, of_bias, None, None


normalise.register_autograd(_backward, setup_context=_keep)

NORMALISE = torch.ops.hardtune.normalise.default
NORMALISE_BACKWARD = torch.ops.hardtune.normalise_backward.default
"""The operators as they appear in ``torch.compile``'s graphs."""
