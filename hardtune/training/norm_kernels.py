"""The GPU kernels of ``batch_norm``: four of them, on a matrix of pixels by channels, and their helpers.

A program handles the channels of its grid column and, as one of n programs there, every nth tile of pixels; a few tiles
are prefetched (STAGES). Sums are stored per program and channel, and the next kernel adds them up, always in the same
order.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _columns(channels, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The channels of this program, and a mask of those that exist."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    return column, column < channels


@triton.jit
def _place(tile, column, inside, rows, channels, ROWS: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile's offsets, and a mask of those within the matrix."""
    row = tile * ROWS + tl.arange(0, ROWS)
    return row[:, None] * channels + column[None, :], (row < rows)[:, None] & inside[None, :]


@triton.jit
def _read(matrix, place, here, EVEN: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile as it is stored, zero outside the mask ``here``; EVEN if every tile is full."""
    return tl.load(matrix + place) if EVEN else tl.load(matrix + place, mask=here, other=0)


@triton.jit
def _write(matrix, place, here, value, EVEN: tl.constexpr):  # type: ignore[no-untyped-def]
    if EVEN:
        tl.store(matrix + place, value.to(matrix.dtype.element_ty))
    else:
        tl.store(matrix + place, value.to(matrix.dtype.element_ty), mask=here)


@triton.jit
def _by_line(value, LINES: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum over a tile's lines, which takes no exchange between threads."""
    return tl.sum(tl.reshape(value, (LINES, value.shape[0] // LINES, value.shape[1])), 0)


@triton.jit
def _store_sums(partial, first, second, column, inside, channels):  # type: ignore[no-untyped-def]
    """Store a program's two sums per channel for ``_load_sums``: (programs, 2, channels)."""
    target = partial + tl.program_id(0) * 2 * channels + column
    tl.store(target, tl.sum(first, 0), mask=inside)
    tl.store(target + channels, tl.sum(second, 0), mask=inside)


@triton.jit
def _load_sums(partial, parts, column, inside, channels, PROGRAMS: tl.constexpr):  # type: ignore[no-untyped-def]
    """The two sums per channel over all programs."""
    part = tl.arange(0, PROGRAMS)
    here = (part < parts)[:, None] & inside[None, :]
    source = partial + part[:, None] * 2 * channels + column[None, :]
    return tl.sum(tl.load(source, mask=here, other=0), 0), tl.sum(tl.load(source + channels, mask=here, other=0), 0)


@triton.jit
def _scale_and_shift(weight, bias, mean, variance, rows, eps, column, inside):  # type: ignore[no-untyped-def]
    """Per channel, the terms of the normalised x * scale + shift, and 1 / deviation. ``variance`` is unbiased."""
    inverse = 1 / tl.sqrt(variance * ((rows - 1) / rows) + eps)
    scale = tl.load(weight + column, mask=inside, other=0) * inverse
    return scale, tl.load(bias + column, mask=inside, other=0) - mean * scale, inverse


@triton.jit
def _affine(x, scale, shift):  # type: ignore[no-untyped-def]
    """x * scale + shift in one rounding, so that forward and backward agree on where it is positive."""
    return tl.fma(x, scale[None, :] + tl.zeros_like(x), shift[None, :] + tl.zeros_like(x))


@triton.jit
def sums(  # type: ignore[no-untyped-def]
    x, partial, rows, channels,
    LINES: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums, and sums of squares, of x minus its first pixel, to avoid cancellation if the mean is far from zero."""
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
def normalise(  # type: ignore[no-untyped-def]
    x, residual, weight, bias, partial, parts, mean_out, variance_out, y, rows, channels, eps,
    RESIDUAL: tl.constexpr, RELU: tl.constexpr, PROGRAMS: tl.constexpr,
    EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """relu(x * scale + shift + residual), with the mean and variance found by ``sums``, which it stores."""
    column, inside = _columns(channels, COLUMNS)
    total, square = _load_sums(partial, parts, column, inside, channels, PROGRAMS)
    shifted = total / rows
    mean = tl.load(x + column, mask=inside, other=0).to(tl.float32) + shifted
    positive = tl.maximum(square - total * shifted, 0.0, tl.PropagateNan.ALL)
    variance = positive / (rows - 1)
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
def gradient_sums(  # type: ignore[no-untyped-def]
    gradient, second, x, y, weight, bias, mean, variance, masked, partial, rows, channels, eps,
    SECOND: tl.constexpr, RESIDUAL: tl.constexpr, RELU: tl.constexpr,
    LINES: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Sums of the gradient before ReLU, and of it times normalised x; stores it if deriving it takes more than x."""
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
def differentiate(  # type: ignore[no-untyped-def]
    gradient, x, weight, bias, mean, variance, partial, parts, of_weight, of_bias, of_x, rows, channels, eps,
    RELU: tl.constexpr, PROGRAMS: tl.constexpr,
    EVEN: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The gradient of x, with those of weight and bias found by ``gradient_sums``, which it stores."""
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
