"""Convolutions as matrix products are torch's, forward and backward, and only those that gain."""

import pytest
import torch
from torch import nn

from hardtune.training import products
from hardtune.training.models import MODELS
from hardtune.training.products import MatrixProducts

NARROW = {"kernel_size": 3, "padding": 1}
SINGLE = {"kernel_size": 1, "stride": 2}


@pytest.fixture
def used(monkeypatch):
    """The shapes of the weights that went by matrix products."""
    shapes, product = [], products._product
    monkeypatch.setattr(products, "_product", lambda *all: shapes.append(tuple(all[1].shape)) or product(*all))
    return shapes


def outcome(network, images):
    """Its output, and the gradients of its weights and of what may have one."""
    network.zero_grad()
    output = network(images)
    output.square().sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    if images.requires_grad:
        gradients["images"], images.grad = images.grad, None
    return {"output": output.detach(), **gradients}


def assert_equal(network, images):
    theirs = outcome(network, images)
    with MatrixProducts(torch.float64):
        mine = outcome(network, images)
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize(
    ("channels", "options", "product"),
    [
        (3, NARROW, True),
        (1, NARROW, True),
        (3, {**NARROW, "stride": 2}, True),
        (2, {"kernel_size": (3, 5), "padding": (0, 2), "stride": (1, 2)}, True),
        (16, SINGLE, True),
        (16, {"kernel_size": 1}, False),
        (16, {**SINGLE, "padding": 1}, False),
        (16, {**SINGLE, "groups": 2}, False),
        (16, {**SINGLE, "bias": True}, False),
        (16, NARROW, False),
        (3, {"kernel_size": 7, "padding": 3}, False),
        (3, {**NARROW, "dilation": 2}, False),
        (3, {**NARROW, "padding": "same"}, False),
    ],
    ids=str,
)
def test_it_is_the_convolution(used, size, channels, options, product):
    layer = nn.Conv2d(channels, 6, **{"bias": False, **options}).double()
    images = torch.randn(5, channels, *size, dtype=torch.float64).to(memory_format=torch.channels_last)
    assert_equal(layer, images.requires_grad_(channels >= 8))
    assert bool(used) is product


def test_a_narrow_one_in_the_middle_of_a_network_is_left_alone(used):
    assert_equal(nn.Conv2d(3, 6, 3, bias=False).double(), torch.randn(2, 3, 8, 8).double().requires_grad_())
    assert not used


def test_a_whole_resnet(used):
    network = MODELS["resnet18"](3, 10, 16).double().to(memory_format=torch.channels_last)
    assert_equal(network, torch.randn(3, 3, 16, 16, dtype=torch.float64).to(memory_format=torch.channels_last))
    assert used == [(64, 3, 3, 3), (128, 64, 1, 1), (256, 128, 1, 1), (512, 256, 1, 1)]


def test_torch_compile_sees_them():
    graphs = []

    def backend(graph, inputs):
        graphs.append([str(node.target) for node in graph.graph.nodes if node.op == "call_function"])
        return graph

    network = MODELS["resnet18"](3, 10, 16)
    with MatrixProducts(torch.float32):
        torch.compile(network, backend=backend, fullgraph=True)(torch.randn(2, 3, 16, 16))
    (operations,) = graphs
    assert sum("conv2d" in name for name in operations) == 16
    assert sum("matmul" in name for name in operations) == 4


def test_the_output_lies_channels_last_and_in_its_type():
    layer = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    with MatrixProducts(torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        output = layer(torch.randn(2, 3, 8, 8))
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last)
