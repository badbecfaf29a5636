"""A network that is compiled for a GPU trains as it would: its batch norms are found, with what belongs to them."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.backends.debugging import aot_eager
from torch.nn.functional import relu

pytest.importorskip("triton", reason="Triton is not made for this machine")

from hardtune.training import batch_norm, fused
from hardtune.training.batch_norm import NORMALISE, NORMALISE_BACKWARD
from hardtune.training.fused import AddOnTheWay, fuse, fusing
from hardtune.training.models import MODELS

LAST = torch.channels_last


class Residual(nn.Module):
    """Two blocks of which the first narrows the image; all that ResNets do, in little."""

    def __init__(self):
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(8, 8, 3, stride=stride, padding=1, bias=False) for stride in (2, 1, 1, 1)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(8, momentum=momentum) for momentum in (0.1, 0.1, 0.3, 0.1))
        self.shortcut = nn.Sequential(nn.Conv2d(8, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = relu(self.first(self.stem(x)))
        identity = self.shortcut(x)
        out = relu(self.norms[0](self.convolutions[0](x)), inplace=True)
        out = self.norms[1](self.convolutions[1](out))
        out += identity
        x = relu(out)
        out = relu(self.norms[2](self.convolutions[2](x)))
        x = torch.relu(x + self.norms[3](self.convolutions[3](out)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(autouse=True)
def forgotten():
    """Each test compiles anew."""
    torch._dynamo.reset()
    torch.manual_seed(0)


def rewritten(found):
    """A backend that rewrites a network, notes what was found and lets it be traced, but makes no machine code."""

    def backend(network, inputs):
        count = fuse(network.graph)
        network.recompile()
        calls = network.graph.find_nodes(op="call_function", target=NORMALISE)
        found.append((count, [(node.args[1] is not None, node.args[5]) for node in calls]))
        return aot_eager(network, inputs)

    return backend


def outcome(network, call, images):
    """Its output, gradients and what it keeps, after three steps."""
    images = images.to(memory_format=LAST).requires_grad_()
    for _ in range(3):
        network.zero_grad()
        images.grad = None
        output = call(images)
        (output.square() * torch.linspace(0, 1, output.numel()).view_as(output)).sum().backward()
    return {
        "output": output.detach(),
        "gradient of images": images.grad,
        **{f"gradient of {name}": weight.grad for name, weight in network.named_parameters()},
        **dict(network.named_buffers()),
    }


def assert_the_same(network, images, backend):
    network = network.to(memory_format=LAST)
    plain = copy.deepcopy(network)
    mine = outcome(network, torch.compile(network, backend=backend, dynamic=False), images)
    for name, value in outcome(plain, plain, images).items():
        error = (mine[name].double() - value.double()).norm() / value.double().norm().clamp(min=1e-9)
        assert error < 1e-4, f"{name}: {error:.1e}"
        assert not mine[name].requires_grad


def test_a_residual_network_trains_as_it_would():
    found = []
    assert_the_same(Residual(), torch.randn(4, 3, 8, 8), rewritten(found))
    alone, ends = (False, True), (True, True)
    assert found == [(6, [alone, (False, False), alone, ends, alone, ends])]


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_batch_norm_of_the_models_is_found(model):
    network, found = MODELS[model](3, 10, 16).to(memory_format=LAST), []
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    images = torch.randn(3, 3, 16, 16).to(memory_format=LAST)
    with torch.no_grad():
        torch.compile(network, backend=rewritten(found), dynamic=False)(images)
    ((count, calls),) = found
    assert count == norms
    if model == "resnet18":
        assert calls.count((True, True)) == 8
        assert calls.count((False, True)) == 9
        assert calls.count((False, False)) == 3


class Twice(nn.Module):
    """Normalised values that somebody else looks at, too."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm(x)
        return relu(x) + x


class Methods(nn.Module):
    """The same in other words."""

    def __init__(self):
        super().__init__()
        self.norm, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(x).add_(x).relu_() + (x * 2).add(self.other(x)).relu()


class Scaled(nn.Module):
    """What is added counts twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return relu(torch.add(self.norm(x), x, alpha=2))


class Unbiased(nn.Module):
    """Weights only."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8))

    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, self.weight, None, True, 0.1, 1e-5)


class Broadcast(nn.Module):
    """An addition of one number for each channel is no shortcut."""

    def __init__(self):
        super().__init__()
        self.norm, self.level = nn.BatchNorm2d(8), nn.Parameter(torch.randn(1, 8, 1, 1))

    def forward(self, x):
        return relu(self.norm(x) + self.level)


class Onto(nn.Module):
    """Here it is the other one that is changed in place, and looked at afterwards."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        other = x * 2
        return relu(other.add_(self.norm(x))) + other


class Reading(nn.Module):
    """Here the averages are looked at as soon as they have moved, as is the count of batches."""

    def __init__(self):
        super().__init__()
        self.norm, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.norm(x) + self.other(x)
        return x + (self.norm.running_mean - self.other.running_var).view(1, -1, 1, 1) * self.norm.num_batches_tracked


class Counting(nn.Module):
    """Counts of its own: by twos, by threes, and in a part of a buffer that is looked at."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)
        for name in ("twos", "threes", "ones"):
            self.register_buffer(name, torch.zeros(1))

    def forward(self, x):
        self.twos.add_(2)
        self.threes.add_(1, alpha=3)
        self.ones[0].add_(1)
        return self.norm(x) * self.ones[0]


class Again(nn.Module):
    """One batch norm that is called twice, whose averages move twice."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.norm(relu(self.norm(x)) + x)


class Changed(nn.Module):
    """A shortcut that is changed in place when it has been added."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        other = x * 2
        out = self.norm(x) + other
        other += 3
        return relu(out) + other


class FirstAndLast(nn.Module):
    """A shortcut whose layout, channels first, is that of the sum."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return relu(x.contiguous() + self.norm(x)).view(len(x), -1)


@pytest.mark.parametrize(
    ("network", "calls"),
    [
        (nn.BatchNorm2d(8), [(False, False)]),
        (Reading(), []),
        (Counting(), [(False, False)]),
        (Again(), []),
        (Changed(), [(True, True)]),
        (FirstAndLast(), [(False, False)]),
        (nn.BatchNorm2d(8, track_running_stats=False), [(False, False)]),
        (Twice(), [(False, False)]),
        (Methods(), [(True, True), (True, True)]),
        (Scaled(), [(False, False)]),
        (Unbiased(), []),
        (Broadcast(), [(False, False)]),
        (Onto(), [(False, False)]),
        (nn.BatchNorm2d(8, momentum=None), []),  # its average slows down
        (nn.BatchNorm2d(8, affine=False), []),
        (nn.BatchNorm2d(8).eval(), []),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(8 * 16)), []),
        (nn.InstanceNorm2d(8), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_is_something_else_is_left_as_it_is(network, calls):
    found = []
    assert_the_same(network, torch.randn(4, 8, 4, 4), rewritten(found))
    assert [each for _, those in found for each in those] == calls


def test_what_lies_channels_first_is_left_to_inductor():
    found = []
    torch.compile(nn.BatchNorm2d(8), backend=rewritten(found), dynamic=False)(torch.randn(4, 8, 4, 4))
    assert found == [(0, [])]


class Wider(nn.Module):
    """A shortcut in float32, and with it the sum."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        return relu(self.norm(x.bfloat16()) + x)


def test_a_shortcut_of_another_type_is_added_as_it_is():
    images, found = torch.randn(4, 8, 4, 4).to(memory_format=LAST), []
    assert torch.compile(Wider(), backend=rewritten(found), dynamic=False)(images).dtype == torch.float32
    assert found == [(1, [(False, False)])]


class EverySecond(nn.Module):
    """Weights and biases that lie between each other."""

    def __init__(self):
        super().__init__()
        self.both = nn.Parameter(torch.randn(8, 2))

    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, *self.both.unbind(1), True, 0.1, 1e-5)


@pytest.mark.parametrize(
    ("network", "shape", "options"),
    [
        (EverySecond(), (4, 8, 4, 4), {}),
        (nn.BatchNorm2d(8, dtype=torch.bfloat16), (4, 8, 4, 4), {"dtype": torch.bfloat16}),
        (nn.BatchNorm2d(2**10, device="meta"), (2**13, 2**10, 16, 16), {"device": "meta"}),
    ],
    ids=["weights with gaps", "weights in bfloat16", "2**31 values"],
)
def test_what_the_kernels_cannot_do_is_left_to_inductor(network, shape, options):
    found = []
    with torch.no_grad():
        torch.compile(network, backend=rewritten(found), dynamic=False)(
            torch.ones(shape, **options).to(memory_format=LAST)
        )
    assert found == [(0, [])]


def test_what_was_compiled_with_other_gradients_is_not_taken_from_a_cache(tmp_path, monkeypatch):
    before, other = AddOnTheWay().uuid(), tmp_path / "batch_norm.py"
    other.write_text("# other gradients")
    monkeypatch.setattr(batch_norm, "__file__", str(other))
    assert AddOnTheWay().uuid() != before


@pytest.mark.parametrize(
    ("options", "added"),
    [
        ({}, True),
        ({"alpha": 2}, False),
        ({"shape": (1, 8, 1, 1)}, False),
        ({"dtype": torch.bfloat16}, False),
        ({"seen": True}, False),
        ({"taken": True}, False),
    ],
    ids=str,
)
def test_a_plain_sum_of_two_gradients_that_nobody_else_sees_is_added_on_the_way(options, added):
    graph = torch.fx.Graph()
    one, two, x = (graph.placeholder(name) for name in ("one", "two", "x"))
    total = graph.call_function(torch.ops.aten.add.Tensor, (one, two), {"alpha": 2} if options.get("alpha") else {})
    one.meta["val"] = total.meta["val"] = torch.empty(4, 8, 4, 4)
    two.meta["val"] = torch.empty(options.get("shape", (4, 8, 4, 4)), dtype=options.get("dtype"))
    backward = graph.call_function(NORMALISE_BACKWARD, (total, x if options.get("taken") else None, x))
    graph.output((backward, total) if options.get("seen") else backward)
    AddOnTheWay()(graph)
    assert (backward.args == (one, two, x)) is added
    assert (total in graph.nodes) is not added


@pytest.mark.slow
def test_inductor_compiles_it_and_gradients_are_added_on_the_way(monkeypatch):
    added = []

    class Watched(AddOnTheWay):
        def __call__(self, graph):
            super().__call__(graph)
            added.extend(
                node.args[1] is not None for node in graph.find_nodes(op="call_function", target=NORMALISE_BACKWARD)
            )

    monkeypatch.setattr(fused, "AddOnTheWay", Watched)
    with torch._inductor.config.patch(force_disable_caches=True):  # what comes from a cache went by no pass
        assert_the_same(Residual(), torch.randn(4, 3, 8, 8), fusing)
    # two gradients come to the stem, and to what the second block starts from
    assert sorted(added) == [False, False, False, False, True, True]
