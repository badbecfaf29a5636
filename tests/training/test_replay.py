"""A step can be recorded once and replayed, as a CUDA graph does it, and trains the same network.

No GPU is needed: ``make_fx`` records what a step asks of tensors and bakes in whatever it asks of Python, which is
what a CUDA graph does as well; and fake tensors say whether a step on a GPU would wait for it.
"""

import contextlib
import dataclasses
import functools
import gc
import warnings
import weakref

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from hardtune import Recipe
from hardtune.hardness.dynamics import Dynamics
from hardtune.training.fit import build_model
from hardtune.training.images import DeviceImages
from hardtune.training.losses import LOSSES, regularised
from hardtune.training.models import MODELS
from hardtune.training.replay import EAGER_STEPS, Replayed
from hardtune.training.step import Step
from hardtune.training.views import draw_views

RECIPE = Recipe(
    model="small_cnn", batch_size=16, crop_padding=1, precision="bfloat16", layout="channels_last", learning_rate=0.1
)
RATES = [0.1, 0.1, 0.1, 0.05, 0.02, 0.3, 0.01, 0.2]


class AtOnce(Dynamics):
    """Takes in each batch at once and unseen, as on a GPU."""

    def update(self, ids, logits, labels):
        self._take_in(ids, logits.detach().float(), labels, [len(ids)])


class Training:
    """A network in training, its step and its scores."""

    def __init__(self, loss, synthesised=False):
        rng = np.random.default_rng(0)
        self.model = build_model(RECIPE, (8, 8, 1), 2, seed=0, device="cpu").train()
        self.dynamics = AtOnce(80)
        images = rng.integers(0, 256, (64, 8, 8, 1), dtype=np.uint8)
        extra = rng.integers(0, 256, (16, 8, 8, 1), dtype=np.uint8) if synthesised else None
        criterion, s = LOSSES[loss](80, 2, "cpu"), torch.linspace(0, 1, 80)
        self.step = Step(
            self.model,
            DeviceImages(images, mean=(0.5,), std=(0.3,), device="cpu", synthesised=extra),
            torch.arange(80) % 2,
            RECIPE,
            lambda logits, labels, ids: regularised(criterion(logits, labels, ids), logits, s[ids], 0.2),
            self.dynamics,
        )
        self.views = torch.cat(
            [
                draw_views(torch.arange(80 if synthesised else 64), RECIPE, torch.Generator().manual_seed(i))
                for i in (0, 1)
            ]
        ).split(16)

    def run(self, once, steps):
        for number in steps:
            self.step.rate.fill_(RATES[number])
            once(self.views[number])

    def state(self):
        self.dynamics.end_epoch()
        return [*self.model.state_dict().values(), *vars(self.dynamics).values()]


@pytest.mark.parametrize("synthesised", [False, True])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_recorded_step_trains_the_same_network_to_the_bit(loss, synthesised):
    called, replayed = Training(loss, synthesised), Training(loss, synthesised)
    called.run(called.step.once, range(8))
    replayed.run(replayed.step.once, range(EAGER_STEPS))
    replayed.step.rate.fill_(RATES[EAGER_STEPS])
    recorded = make_fx(lambda views: replayed.step.once(views))(replayed.views[EAGER_STEPS])  # which takes the step too
    replayed.run(recorded, range(EAGER_STEPS + 1, 8))
    for one, other in zip(called.state(), replayed.state(), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one is other or one == other


@contextlib.contextmanager
def step_on_a_gpu(recipe):
    """A step as on a GPU, where none is: tensors have devices, shapes and types, and no numbers."""
    with warnings.catch_warnings(), FakeTensorMode(), torch.device("cuda"):
        warnings.simplefilter("ignore")  # that there is no GPU
        images = DeviceImages(np.zeros((4, 32, 32, 3), np.uint8), mean=(0.5,) * 3, std=(0.3,) * 3, device="cuda")
        images.images = torch.empty(64, 32, 32, 3, dtype=torch.uint8)
        loss, s = LOSSES["crl"](64, 10, "cuda"), torch.rand(16)
        yield Step(
            MODELS[recipe.model](3, 10, 32),
            images,
            torch.zeros(64, dtype=torch.int64),
            recipe,
            lambda logits, labels, ids: regularised(loss(logits, labels, ids), logits, s, 0.1),
            Dynamics(64, device="cuda"),
        )


@pytest.fixture
def backward(monkeypatch):
    """The devices of the losses whose gradients are asked for.

    Without a driver the engine has no queue for a GPU; recording, above, sees the backward pass.
    """
    asked = []
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: asked.append(loss.device.type))
    return asked


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_step_on_a_gpu_waits_for_nothing_and_mixes_no_devices(model, backward):
    with step_on_a_gpu(dataclasses.replace(RECIPE, model=model)) as step:
        for _ in range(2):
            step.once(torch.zeros(16, 4, dtype=torch.int64))
    assert backward == ["cuda", "cuda"]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_recipe_may_do_without_graphs(wanted, graphs, backward):
    with step_on_a_gpu(dataclasses.replace(RECIPE, cuda_graphs=wanted)) as step:
        for _ in range(EAGER_STEPS):
            step(torch.zeros(16, 4, dtype=torch.int64), 0.1)
    assert graphs.calls == ["capture"] * wanted


def test_a_recorded_step_is_freed_as_soon_as_nobody_has_it(graphs, backward):
    """And its graph, whose memory the next network needs; the garbage collector comes late, or never."""
    gc.disable()
    try:
        with step_on_a_gpu(RECIPE) as step:
            for _ in range(EAGER_STEPS):
                step(torch.zeros(16, 4, dtype=torch.int64), 0.1)
            freed = weakref.ref(step)
            del step
        assert freed() is None
    finally:
        gc.enable()
    assert graphs.calls == ["capture"]


class Recording:
    """Stands in for ``torch.cuda.CUDAGraph``: replays by calling what was captured."""

    def __init__(self):
        self.step = None

    def replay(self):
        self.step()


@pytest.fixture
def graphs(monkeypatch):
    """Captures that work on any machine; ``graphs.fail`` makes them fail."""

    class Capture:
        fail = False

        def __init__(self, graph, **options):
            self.graph = graph

        def __enter__(self):
            if Capture.fail:
                raise RuntimeError("operation not permitted when stream is capturing\nmore")
            calls.append("capture")
            graph.append(self.graph)

        def __exit__(self, *error):
            graph.pop()

    class Event:
        under_way = 0

        def __init__(self, blocking):
            assert blocking, "who waits leaves the core to others"

        def record(self):
            Event.under_way += 1

        def synchronize(self):
            Event.under_way -= 1

    calls, graph = [], []
    Capture.events = Event
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Capture.calls, Capture.open = calls, graph
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    return Capture


def recording_step(graphs):
    def step(batch):
        if graphs.open:
            graphs.open[0].step = lambda: graphs.calls.append(("replayed", batch.tolist()))
        else:
            graphs.calls.append(("called", batch.tolist()))

    return step


def test_full_batches_are_replayed_after_the_first_and_others_are_not(graphs):
    run = functools.partial(Replayed(), recording_step(graphs))
    for number in range(5):
        run(torch.tensor([number, number]))
    run(torch.tensor([9]))
    assert graphs.calls == [
        *(("called", [n, n]) for n in range(3)),
        "capture",
        *(("replayed", [n, n]) for n in (3, 4)),
        ("called", [9]),
    ]


def test_no_more_replays_are_launched_than_the_gpu_has_use_for(graphs):
    run = functools.partial(Replayed(), recording_step(graphs))
    under_way = []
    for _ in range(EAGER_STEPS + 5):
        run(torch.tensor([0]))
        under_way.append(graphs.events.under_way)
    assert under_way == [0] * EAGER_STEPS + [1, 2, 2, 2, 2]


def test_a_step_that_cannot_be_captured_goes_on_as_it_is_and_says_so_once(graphs):
    graphs.fail = True
    run = functools.partial(Replayed(), recording_step(graphs))
    for number in range(6):
        if number == EAGER_STEPS - 1:
            with pytest.warns(UserWarning, match="without a CUDA graph, and slower: operation not permitted"):
                run(torch.tensor([number]))
        else:
            run(torch.tensor([number]))
    assert graphs.calls == [("called", [n]) for n in range(6)]
