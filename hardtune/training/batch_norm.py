"""Batch norm, the addition of a shortcut and ReLU in as few passes over memory as there can be, on a GPU.

What stands between a network's convolutions moves memory and computes next to nothing. Forward these kernels read a
batch twice and write it once; backward they know from what they read anyway where ReLU was zero, and add two gradients
on the way. Images lie channels last, so all of it is arithmetic on a matrix of pixels by channels. Every sum is taken
in the same order each time.

Each kernel is few programs that keep many reads under way. A kernel of many programs takes all multiprocessors, each of
which then waits for its part of the memory's bandwidth; these draw about as much from a quarter of them, and leave the
others to the convolutions of the networks that train beside.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

# What an H200 did best with, of 16 to 264 programs and 8 or 16 warps (ResNet-18, batches of 128, 4 networks beside each
# other). Results depend on these numbers, if only in their roundings, so they are the same on every GPU.
PROGRAMS = 32
"""How many work on a batch, at most."""
WARPS = 8
COLUMNS = 64
"""Channels of a tile."""
READ = 2**15
"""Bytes of the tiles that are read at once."""
LINE = WARPS * 32 * 8 // COLUMNS
"""Pixels that a program's threads take in side by side, eight channels each."""


@triton.jit
def _columns(channels, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The channels of this program, and which of them there are."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return column, column < channels


@triton.jit
def _place(tile, column, inside, rows, channels, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a tile lies, and which of it is within the matrix."""
    row = tile * ROWS + tl.arange(0, ROWS)
    return row[:, None] * channels + column[None, :], (row < rows)[:, None] & inside[None, :]


@triton.jit
def _read(matrix, place, here, EVEN: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile as it is stored, zero where it is not ``here``; EVEN where all of each tile is."""
    return tl.load(matrix + place) if EVEN else tl.load(matrix + place, mask=here, other=0)


@triton.jit
def _write(matrix, place, here, value, EVEN: tl.constexpr):  # type: ignore[no-untyped-def]
    if EVEN:
        tl.store(matrix + place, value.to(matrix.dtype.element_ty))
    else:
        tl.store(matrix + place, value.to(matrix.dtype.element_ty), mask=here)


@triton.jit
def _by_line(value, LINES: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum of a tile's lines, for which no thread needs another."""
    return tl.sum(tl.reshape(value, (LINES, value.shape[0] // LINES, value.shape[1])), 0)


@triton.jit
def _store_sums(partial, first, second, column, inside, channels):  # type: ignore[no-untyped-def]
    """Put a program's two sums by channel where ``_load_sums`` finds them: (programs, 2, channels)."""
    target = partial + tl.program_id(0) * 2 * channels + column
    tl.store(target, tl.sum(first, 0), mask=inside)
    tl.store(target + channels, tl.sum(second, 0), mask=inside)


@triton.jit
def _load_sums(partial, parts, column, inside, channels, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The two sums by channel over all programs."""
    part = tl.arange(0, PROGRAMS)
    here = (part < parts)[:, None] & inside[None, :]
    source = partial + part[:, None] * 2 * channels + column[None, :]
    return tl.sum(tl.load(source, mask=here, other=0), 0), tl.sum(tl.load(source + channels, mask=here, other=0), 0)


@triton.jit
def _scale_and_shift(weight, bias, mean, variance, rows, eps, column, inside):  # type: ignore[no-untyped-def]
    """With which normalising is x * scale + shift, by channel; and 1 / deviation. ``variance`` is the unbiased one."""
    inverse = 1 / tl.sqrt(variance * ((rows - 1) / rows) + eps)
    scale = tl.load(weight + column, mask=inside, other=0) * inverse
    return scale, tl.load(bias + column, mask=inside, other=0) - mean * scale, inverse


@triton.jit
def _affine(x, scale, shift):  # type: ignore[no-untyped-def]
    """With one rounding, whoever asks: forward and backward agree on where the result is positive."""
    return tl.fma(x, scale[None, :] + tl.zeros_like(x), shift[None, :] + tl.zeros_like(x))


@triton.jit
def _sum(  # type: ignore[no-untyped-def]
    x, partial, rows, channels,
    LINES: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums, and sums of squares, of x less its first pixel: so that nothing cancels where the mean is far from zero."""
    column, inside = _columns(channels, COLUMNS)
    origin = tl.load(x + column, mask=inside, other=0).to(tl.float32)
    total = tl.zeros((ROWS // LINES, COLUMNS), tl.float32)
    square = tl.zeros((ROWS // LINES, COLUMNS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        place, here = _place(tile, column, inside, rows, channels, ROWS)
        value = _read(x, place, here, EVEN).to(tl.float32) - origin[None, :]
        if not EVEN:
            value = tl.where(here, value, 0.0)
        total += _by_line(value, LINES)
        square += _by_line(value * value, LINES)
    _store_sums(partial, total, square, column, inside, channels)


@triton.jit
def _normalise(  # type: ignore[no-untyped-def]
    x, residual, weight, bias, partial, parts, mean_out, variance_out, y, rows, channels, eps,
    RESIDUAL: tl.constexpr, RELU: tl.constexpr, PROGRAMS: tl.constexpr,
    EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, inside = _columns(channels, COLUMNS)
    total, square = _load_sums(partial, parts, column, inside, channels, PROGRAMS)
    shifted = total / rows
    mean = tl.load(x + column, mask=inside, other=0).to(tl.float32) + shifted
    variance = tl.maximum(square - total * shifted, 0.0) / (rows - 1)
    if tl.program_id(0) == 0:
        tl.store(mean_out + column, mean, mask=inside)
        tl.store(variance_out + column, variance, mask=inside)
    scale, shift, _ = _scale_and_shift(weight, bias, mean, variance, rows, eps, column, inside)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        place, here = _place(tile, column, inside, rows, channels, ROWS)
        value = _affine(_read(x, place, here, EVEN).to(tl.float32), scale, shift)
        if RESIDUAL:
            value += _read(residual, place, here, EVEN).to(tl.float32)
        if RELU:
            value = tl.where(value <= 0, 0.0, value)  # a NaN stays one
        _write(y, place, here, value, EVEN)


@triton.jit
def _sum_gradients(  # type: ignore[no-untyped-def]
    gradient, second, x, y, weight, bias, mean, variance, masked, partial, rows, channels, eps,
    SECOND: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr,
    LINES: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums of the gradient before ReLU, and of it times x normalised; it is kept where more than x is to be read."""
    column, inside = _columns(channels, COLUMNS)
    centre = tl.load(mean + column, mask=inside, other=0)
    spread = tl.load(variance + column, mask=inside, other=1)
    scale, shift, inverse = _scale_and_shift(weight, bias, centre, spread, rows, eps, column, inside)
    total = tl.zeros((ROWS // LINES, COLUMNS), tl.float32)
    product = tl.zeros((ROWS // LINES, COLUMNS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        place, here = _place(tile, column, inside, rows, channels, ROWS)
        g = _read(gradient, place, here, EVEN).to(tl.float32)
        if SECOND:
            g += _read(second, place, here, EVEN).to(tl.float32)
        value = _read(x, place, here, EVEN).to(tl.float32)
        if RELU:
            if RESIDUAL:
                g = tl.where(_read(y, place, here, EVEN).to(tl.float32) > 0, g, 0.0)
            else:
                g = tl.where(_affine(value, scale, shift) > 0, g, 0.0)
        if RESIDUAL or SECOND:
            rounded = g.to(masked.dtype.element_ty)
            _write(masked, place, here, rounded, EVEN)
            g = rounded.to(tl.float32)  # what is summed is what will be read
        total += _by_line(g, LINES)
        product += _by_line(g * (value - centre[None, :]), LINES)
    _store_sums(partial, total, product * inverse[None, :], column, inside, channels)


@triton.jit
def _differentiate(  # type: ignore[no-untyped-def]
    gradient, x, weight, bias, mean, variance, partial, parts, of_weight, of_bias, of_x, rows, channels, eps,
    RELU: tl.constexpr, PROGRAMS: tl.constexpr,
    EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    column, inside = _columns(channels, COLUMNS)
    total, product = _load_sums(partial, parts, column, inside, channels, PROGRAMS)
    if tl.program_id(0) == 0:
        tl.store(of_bias + column, total, mask=inside)
        tl.store(of_weight + column, product, mask=inside)
    centre = tl.load(mean + column, mask=inside, other=0)
    spread = tl.load(variance + column, mask=inside, other=1)
    scale, shift, inverse = _scale_and_shift(weight, bias, centre, spread, rows, eps, column, inside)
    # scale * (g - mean of g - x normalised * mean of (g * x normalised)), as g * scale - (x * slope + level)
    slope = scale * inverse * product / rows
    level = scale * total / rows - centre * slope
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0), num_stages=STAGES):
        place, here = _place(tile, column, inside, rows, channels, ROWS)
        g = _read(gradient, place, here, EVEN).to(tl.float32)
        value = _read(x, place, here, EVEN).to(tl.float32)
        if RELU:
            g = tl.where(_affine(value, scale, shift) > 0, g, 0.0)
        _write(of_x, place, here, g * scale[None, :] - (value * slope[None, :] + level[None, :]), EVEN)


class _Matrix:
    """A batch (B, C, H, W) as pixels by channels, and how programs share it."""

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
        """Of a kernel that reads so many matrices, and sums what it reads or does not."""
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
    """How many tiles are under way or worked on: four, if a multiprocessor holds three."""
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
    """relu(batch_norm(x) + residual) in training, with the mean and the unbiased variance (C,) that were found.

    Args:
        x: (B, C, H, W), of any float type, with at least two values of a channel. Computed with in float32.
        residual: of the same shape and type, or None.
        weight, bias: float32 (C,).
        relu: whether to.

    Returns:
        The result, channels last, of x's type; mean and variance in float32, through which no gradient flows.
    """
    x = _last(x)
    matrix = _Matrix(x)
    shape, partial = (matrix.rows, matrix.channels), matrix.partial
    y, mean, variance = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    with torch.cuda.device_of(x):
        _sum[matrix.grid](x, partial, *shape, **matrix.tiling(1, sums=True))
        _normalise[matrix.grid](
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
    """The gradients of x, weight, bias and the residual; the last means nothing where there was none.

    Args:
        gradient: of ``normalise``'s result.
        second: where two came to it, the other, which is added on the way.
        y: the result, where there was a residual.
    """
    x, gradient = _last(x), _last(gradient)
    matrix = _Matrix(x)
    shape, partial, channelwise = (matrix.rows, matrix.channels), matrix.partial, (weight, bias, mean, variance)
    residual, kept = y is not None, y is not None or second is not None
    masked = torch.empty_like(x) if kept else x.new_empty(0)
    of_x, of_weight, of_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    with torch.cuda.device_of(x):
        _sum_gradients[matrix.grid](
            gradient, gradient if second is None else _last(second), x, x if y is None else y, *channelwise,
            masked if kept else x, partial, *shape, eps, second is not None, residual, relu,
            **matrix.tiling(2 + (second is not None) + residual, sums=True),
        )  # fmt: skip
        _differentiate[matrix.grid](
            masked if kept else gradient, x, *channelwise, partial, matrix.parts, of_weight, of_bias, of_x,
            *shape, eps, relu and not kept,
            **matrix.tiling(2, sums=False),
        )  # fmt: skip
    return of_x, of_weight, of_bias, masked


@normalise.register_fake
def _(
    x: Tensor, residual: Tensor | None, weight: Tensor, bias: Tensor, eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _last(torch.empty_like(x)), torch.empty_like(weight), torch.empty_like(weight)


@normalise_backward.register_fake
def _(
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
"""As they stand in the graphs of ``torch.compile``."""
