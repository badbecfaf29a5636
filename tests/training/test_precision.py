"""Networks train in the precision that the recipe says, and answer in float32."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hardtune import Recipe
from hardtune.errors import InputError
from hardtune.training import precision
from hardtune.training.fit import build_model, fit, predict
from hardtune.training.images import DeviceImages

RECIPE = Recipe(model="small_cnn", epochs=2, batch_size=32, learning_rate=0.05, crop_padding=1)


def outputs(name):
    """The types of a network's outputs while it trains, and when it is asked afterwards."""
    seen = []
    images = DeviceImages(np.zeros((64, 8, 8, 1), np.uint8), mean=(0.5,), std=(0.5,), device="cpu")
    recipe = dataclasses.replace(RECIPE, precision=name)
    model = build_model(recipe, (8, 8, 1), 2, seed=0, device="cpu")
    model.register_forward_hook(lambda module, inputs, output: seen.append((module.training, output.dtype)))
    labels = torch.arange(64) % 2
    fit(
        model,
        images,
        labels,
        torch.arange(64),
        recipe,
        seed=0,
        objective=lambda logits, labels, ids: cross_entropy(logits, labels),
    )
    predict(model, images, torch.arange(4))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    return set(seen)


def test_training_runs_in_the_recipes_precision_and_answers_are_float32():
    assert outputs("float32") == {(True, torch.float32), (False, torch.float32)}
    assert outputs("bfloat16") == {(True, torch.bfloat16), (False, torch.float32)}


def test_auto_is_decided_once_for_a_device_and_never_changes_a_choice():
    decided = precision.resolved(RECIPE, "cpu")
    assert decided.precision in ("float32", "bfloat16")
    assert precision.resolved(RECIPE, "cpu") == decided == precision.resolved(decided, "cpu")
    chosen = dataclasses.replace(RECIPE, precision="bfloat16")
    assert precision.resolved(chosen, "cpu") is chosen


def test_a_cpu_without_bfloat16_instructions_is_not_even_tried(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.setattr(nn, "Conv2d", None)
    assert not precision._bfloat16_is_faster.__wrapped__("cpu")


def test_an_unknown_precision_names_the_valid_ones():
    with pytest.raises(InputError, match="'fp16': choose from auto, bfloat16, float32"):
        Recipe(precision="fp16")
