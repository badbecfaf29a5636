"""A recipe may compile its networks; where that fails they train as they are."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hardtune import Recipe
from hardtune.training.compiled import Compiled
from hardtune.training.fit import build_model, fit
from hardtune.training.images import DeviceImages

RECIPE = Recipe(model="small_cnn", epochs=2, batch_size=16, learning_rate=0.05, crop_padding=1, precision="float32")


def trained(recipe):
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)  # the last batch is smaller
    model = build_model(recipe, (8, 8, 1), 2, seed=0, device="cpu")
    fit(
        model,
        DeviceImages(images, mean=(0.5,), std=(0.3,), device="cpu"),
        torch.arange(40) % 2,
        torch.arange(40),
        recipe,
        seed=0,
        objective=lambda logits, labels, ids: cross_entropy(logits, labels),
    )
    return model.state_dict()


def test_a_compiled_network_is_the_same_network(monkeypatch):
    torch._dynamo.reset()
    compiled = []

    def backend(graph, inputs):  # traces as always, and skips the minute of making machine code
        compiled.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    fast, plain = trained(dataclasses.replace(RECIPE, compile=True)), trained(RECIPE)
    assert len(compiled) == 1
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value)


def test_where_compiling_fails_training_goes_on_and_says_so(monkeypatch):
    torch._dynamo.reset()

    def backend(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    with pytest.warns(UserWarning, match="without torch.compile, and slower: .*no compiler here"):
        weights = trained(dataclasses.replace(RECIPE, compile=True))
    for name, value in trained(RECIPE).items():
        assert torch.equal(weights[name], value)


@pytest.mark.parametrize(("device", "chosen"), [("cpu", []), ("cuda", ["fusing"])])
def test_batch_norms_own_kernels_are_for_gpus(monkeypatch, device, chosen):
    pytest.importorskip("triton", reason="Triton is not made for this machine")
    backends = []
    monkeypatch.setattr(torch, "compile", lambda network, backend=None, **_: backends.append(backend) or network)
    Compiled(torch.nn.Identity(), 8, device)
    assert [backend.__name__ for backend in backends if backend is not None] == chosen
