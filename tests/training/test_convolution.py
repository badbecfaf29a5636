"""Weight gradients by matrix products are those of torch, and are used where they are meant to be."""

import contextlib
import copy

import pytest
import torch
from torch import nn

from hardtune import Recipe
from hardtune.training import convolution
from hardtune.training.convolution import (
    SmallImagesInFloat32,
    WeightGradientsByMatrixProducts,
    convolutions,
    weight_gradient,
)
from hardtune.training.fit import build_model
from hardtune.training.models import MODELS
from hardtune.training.products import MatrixProducts

CHANNELS_LAST = torch.channels_last


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        ((8, 8), (3, 3), (1, 1), (1, 1)),
        ((8, 8), (3, 3), (2, 2), (1, 1)),
        ((9, 7), (3, 3), (2, 2), (1, 1)),
        ((9, 7), (5, 3), (1, 2), (2, 0)),
        ((4, 4), (2, 2), (2, 2), (0, 0)),
    ],
)
@pytest.mark.parametrize("batch", [1, 16, 37])
def test_the_weight_gradient_is_torchs(batch, size, kernel, stride, padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 6, *size, generator=generator).to(memory_format=CHANNELS_LAST)
    weight = torch.randn(10, 6, *kernel, generator=generator).to(memory_format=CHANNELS_LAST)
    out = torch.conv2d(images, weight, None, stride, padding)
    gradient = torch.randn(out.shape, generator=generator).to(memory_format=CHANNELS_LAST)
    mine = weight_gradient(images, gradient, weight.shape, stride, padding)
    exact = torch.nn.grad.conv2d_weight(images.double(), weight.shape, gradient.double(), stride, padding)
    assert mine.is_contiguous(memory_format=CHANNELS_LAST)
    assert torch.allclose(mine.double(), exact, rtol=1e-4, atol=1e-4)


def gradients(network, images):
    network = copy.deepcopy(network)
    network(images).square().mean().backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_a_whole_resnet_has_the_same_gradients(monkeypatch):
    network = build_model(Recipe(model="resnet18"), (16, 16, 3), 10, seed=0, device="cpu")
    images = torch.randn(24, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(memory_format=CHANNELS_LAST)
    used = []
    monkeypatch.setattr(
        convolution, "weight_gradient", lambda *arguments: used.append(arguments[2]) or weight_gradient(*arguments)
    )
    theirs = gradients(network.double(), images.double())
    with WeightGradientsByMatrixProducts():
        mine = gradients(network.float(), images)
    assert len(used) == 3 + 4 + 4  # the 3x3 convolutions with 128 or more input channels, of layers 2, 3 and 4
    for name, gradient in theirs.items():
        assert torch.nn.functional.cosine_similarity(mine[name].double().flatten(), gradient.flatten(), dim=0) > 0.9999


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(128, 8, 1),
        nn.Conv2d(64, 8, 3),
        nn.Conv2d(128, 8, 3, bias=True),
        nn.Conv2d(128, 8, 3, bias=False, dilation=2),
        nn.Conv2d(256, 8, 3, bias=False, groups=2),
        nn.Conv2d(128, 8, 3, bias=False, padding="same"),
        nn.Conv2d(128, 8, 3, bias=False, padding=1, padding_mode="circular"),
    ],
    ids=str,
)
def test_other_convolutions_are_torchs_or_equal(layer):
    images = torch.randn(2, layer.in_channels, 6, 6, generator=torch.Generator().manual_seed(0))
    theirs = gradients(layer, images)
    with WeightGradientsByMatrixProducts():
        mine = gradients(layer, images)
    for name in theirs:
        assert torch.allclose(mine[name], theirs[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("capability", "model", "kind", "precision", "compiled", "used"),
    [
        ("AVX2", "resnet18", "cpu", "float32", False, WeightGradientsByMatrixProducts),
        ("AVX2", "resnet18", "cpu", "float32", True, contextlib.nullcontext),
        ("AVX2", "small_cnn", "cpu", "float32", False, contextlib.nullcontext),
        ("AVX2", "resnet18", "cpu", "bfloat16", False, contextlib.nullcontext),
        ("AVX512", "resnet18", "cpu", "float32", False, contextlib.nullcontext),
        ("DEFAULT", "resnet18", "cpu", "float32", False, contextlib.nullcontext),
        ("AVX2", "resnet18", "cuda", "float32", False, contextlib.nullcontext),
        ("AVX2", "resnet18", "cuda", "float32", True, contextlib.nullcontext),
        ("AVX2", "resnet18", "cuda", "bfloat16", False, contextlib.nullcontext),
        ("AVX2", "resnet18", "cuda", "bfloat16", True, MatrixProducts),
    ],
)
def test_only_what_gains_uses_them(monkeypatch, capability, model, kind, precision, compiled, used):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = MODELS[model](3, 10, 32)
    assert type(convolutions(network, kind, precision, compiled, (32, 32, 3))) is used


def test_strides_that_outgrow_the_image_are_in_float32_whose_weight_gradients_are_right():
    """In bfloat16 oneDNN leaves some unwritten, with whatever is in memory, on CPUs that have such units."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1))
    assert type(convolutions(network, "cpu", "bfloat16", False, (4, 4, 3))) is contextlib.nullcontext
    assert type(convolutions(network, "cpu", "float32", False, (2, 2, 3))) is contextlib.nullcontext
    assert network.training
    images = torch.randn(16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    with convolutions(network, "cpu", "bfloat16", False, (2, 2, 3)) as mode:
        with torch.autocast("cpu", torch.bfloat16):
            answer = network(images)
        answer.float().square().sum().backward()
    assert type(mode) is SmallImagesInFloat32
    assert answer.dtype == torch.float32
    found = [weight.grad.clone() for weight in network.parameters()]
    network.zero_grad()
    network(images).square().sum().backward()
    for mine, weight in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(mine, weight.grad, rtol=0.05, atol=0.05)
