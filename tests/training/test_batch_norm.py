"""Batch norm's kernels are batch norm: on a GPU where there is one, else in Triton's interpreter."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import batch_norm

pytest.importorskip("triton", reason="Triton is not made for this machine")

from hardtune.training import batch_norm as kernels
from hardtune.training.batch_norm import normalise, normalise_backward

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPS = 1e-5
SHAPES = [
    ((2, 64, 8, 8), 32),  # whole tiles only
    ((3, 96, 5, 7), 32),  # neither rows nor channels come out even
    ((2, 96, 8, 8), 32),  # rows do
    ((2, 8, 1, 2), 32),  # four values of a channel
    ((2, 300, 2, 2), 4),  # more blocks of channels than programs
    ((2, 64, 16, 16), 4),  # several tiles a program
]
"""With the most programs that a batch gets: the interpreter takes as long for each."""


def batch(shape, *, mean=0.0, dtype=torch.float32, seed=0):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 2 + mean
    return values.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)


def affine(channels):
    """Weights and biases of so many channels."""
    return batch((channels, 1, 1, 1), seed=5).flatten(), batch((channels, 1, 1, 1), seed=6).flatten()


def by_torch(x, residual, weight, bias, gradient, relu):
    """Result, mean, variance and the gradients of x, weight, bias and the residual, in float64."""
    leaves = [x, weight, bias, *([residual] if residual is not None else [])]
    x, weight, bias, *rest = (leaf.double().detach().requires_grad_() for leaf in leaves)
    y = batch_norm(x, None, None, weight, bias, training=True, eps=EPS)
    y = y + rest[0] if rest else y
    y = y.relu() if relu else y
    y.backward(gradient.double())
    mean, variance = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3))
    return [y.detach(), mean, variance, *(leaf.grad for leaf in (x, weight, bias, *rest))]


def by_kernels(x, residual, weight, bias, gradients, relu):
    y, mean, variance = normalise(x, residual, weight, bias, EPS, relu)
    one, two = (*gradients, None)[:2]
    kept = y if residual is not None else None
    *found, of_residual = normalise_backward(one, two, x, kept, weight, bias, mean, variance, EPS, relu)
    return [y, mean, variance, *found, *([of_residual] if residual is not None else [])]


def assert_close(mine, theirs, within=2e-6):
    names = ("result", "mean", "variance", "gradient", "of weight", "of bias", "of residual")
    for name, one, other in zip(names[: len(theirs)], mine, theirs, strict=True):
        error = (one.double() - other).norm() / other.norm().clamp(min=1e-9)
        assert error < within, f"{name}: {error:.1e}"


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("gradients", [1, 2])
@pytest.mark.parametrize(("shape", "programs"), SHAPES, ids=str)
def test_they_are_torchs_batch_norm_forward_and_backward(monkeypatch, shape, programs, gradients, residual, relu):
    monkeypatch.setattr(kernels, "PROGRAMS", programs)
    assert_torchs(shape, gradients, residual, relu)


@pytest.mark.parametrize("shape", [(2, 2100, 2, 2), (16, 64, 16, 16)], ids=str)
def test_so_they_are_with_as_many_programs_as_on_a_gpu(shape):
    assert_torchs(shape, gradients=2, residual=True, relu=True)


def assert_torchs(shape, gradients, residual, relu):
    x, other = batch(shape, mean=1.0), batch(shape, seed=1) if residual else None
    came = [batch(shape, seed=2 + number) for number in range(gradients)]
    weight, bias = affine(shape[1])
    mine = by_kernels(x, other, weight, bias, came, relu)
    assert_close(mine, by_torch(x, other, weight, bias, sum(came), relu))
    assert all(value.is_contiguous(memory_format=torch.channels_last) for value in mine if value.ndim == 4)


def test_in_bfloat16_they_round_what_they_write_and_nothing_else():
    shape = (4, 64, 8, 8)
    x, other, came = (batch(shape, dtype=torch.bfloat16, seed=seed) for seed in range(3))
    weight, bias = affine(64)
    mine = by_kernels(x, other, weight, bias, [came], True)
    theirs = by_torch(x, other, weight, bias, came, True)
    assert mine[0].dtype == mine[3].dtype == mine[6].dtype == torch.bfloat16
    assert_close(mine, theirs, within=2**-8)
    assert_close(mine[1:3] + mine[4:6], theirs[1:3] + theirs[4:6])


def test_a_mean_far_from_zero_cancels_nothing():
    x, came = batch((8, 8, 8, 8), mean=3000.0), batch((8, 8, 8, 8), seed=1)
    weight, bias = affine(8)
    mine, theirs = (by(x, None, weight, bias, grown, False) for by, grown in ((by_kernels, [came]), (by_torch, came)))
    assert_close(mine[1:3], theirs[1:3])
    assert_close(mine, theirs, within=1e-4)  # which is what x itself was rounded by


def test_what_lies_channels_first_is_laid_out_anew():
    x, came = (batch((3, 16, 4, 4), seed=seed) for seed in range(2))
    weight, bias = affine(16)
    first = by_kernels(x.contiguous(), None, weight, bias, [came.contiguous()], True)
    for one, other in zip(first, by_kernels(x, None, weight, bias, [came], True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("relu", [False, True])
def test_what_is_not_a_number_stays_none(relu):
    x = batch((2, 8, 4, 4))
    x[1, 3, 2, 2] = torch.nan
    y, mean, variance = normalise(x, None, *affine(8), EPS, relu)
    assert y[:, 3].isnan().all()
    assert mean[3].isnan()
    assert variance[3].isnan()
    assert y[:, :3].isfinite().all()


def test_how_many_tiles_are_under_way_changes_nothing(monkeypatch):
    shape = (4, 64, 8, 8)
    x, came = batch(shape), batch(shape, seed=1)
    first = by_kernels(x, x, *affine(64), [came, x], True)
    monkeypatch.setattr(kernels, "_stages", lambda device: 2)
    for one, other in zip(first, by_kernels(x, x, *affine(64), [came, x], True), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("shared", "stages"),
    [(232448, 4), (101376, 3), (65536, 2), (None, 2)],
    ids=["H100", "RTX 4090", "T4", "not said"],
)
def test_tiles_are_under_way_as_far_as_a_multiprocessor_holds_them(monkeypatch, shared, stages):
    told = {} if shared is None else {"shared_memory_per_block_optin": shared}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(**told))
    assert kernels._stages.__wrapped__(torch.device("cuda", 0)) == stages


@pytest.mark.parametrize(
    ("shape", "grid"),
    [((16, 64, 16, 16), (32, 1)), ((8, 512, 16, 16), (4, 8)), ((2, 64, 4, 8), (2, 1)), ((2, 2100, 2, 2), (1, 33))],
)
def test_few_programs_work_on_a_batch(shape, grid):
    assert kernels._Matrix(batch(shape)).grid == grid


def test_torch_may_compile_and_differentiate_them():
    """``torch.library`` tries all that it asks of an operation: its schema, shapes, autograd and tracing."""
    x, other = (batch((2, 8, 4, 4), seed=seed).requires_grad_() for seed in range(2))
    weight, bias = (each.requires_grad_() for each in affine(8))
    for residual, relu in ((None, False), (other, True)):
        torch.library.opcheck(normalise, (x, residual, weight, bias, EPS, relu))
