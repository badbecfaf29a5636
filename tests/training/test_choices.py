"""Networks train in the precision and layout that the recipe says, and answer in float32."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hardtune import Recipe
from hardtune.errors import InputError
from hardtune.training import choices
from hardtune.training.fit import build_model, fit, predict
from hardtune.training.images import DeviceImages

RECIPE = Recipe(model="small_cnn", epochs=2, batch_size=32, learning_rate=0.05, crop_padding=1)


def trained(recipe, watch=None):
    """A network that was trained by the recipe and then asked; ``watch`` is a hook on its first two convolutions."""
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    images = DeviceImages(images, mean=(0.5,) * 3, std=(0.3,) * 3, device="cpu")
    model = build_model(recipe, (8, 8, 3), 2, seed=0, device="cpu")
    if watch:
        for convolution in (model[0], model[3]):
            convolution.register_forward_hook(watch)
    fit(
        model,
        images,
        torch.arange(64) % 2,
        torch.arange(64),
        recipe,
        seed=0,
        objective=lambda logits, labels, ids: cross_entropy(logits, labels),
    )
    predict(model, images, torch.arange(4))
    return model


def outputs(precision):
    """The types of a convolution's outputs while its network trains, and when it is asked afterwards."""
    seen = set()
    recipe = dataclasses.replace(RECIPE, precision=precision)
    model = trained(recipe, lambda module, inputs, output: seen.add((module.training, output.dtype)))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    return seen


def test_training_runs_in_the_recipes_precision_and_answers_are_float32():
    assert outputs("float32") == {(True, torch.float32), (False, torch.float32)}
    assert outputs("bfloat16") == {(True, torch.bfloat16), (False, torch.float32)}


@pytest.mark.parametrize(("layout", "format"), choices.MEMORY_FORMATS.items())
def test_images_and_weights_lie_in_the_recipes_layout(layout, format):
    seen = []

    def watch(convolution, inputs, output):
        seen.append(
            all(tensor.is_contiguous(memory_format=format) for tensor in (convolution.weight, inputs[0], output))
        )

    trained(dataclasses.replace(RECIPE, layout=layout), watch)
    assert seen == [True] * 10  # two convolutions, two epochs of two batches, and a question


def test_a_layout_is_no_more_than_another_order_of_sums():
    one, other = (
        trained(dataclasses.replace(RECIPE, precision="float32", layout=layout)) for layout in choices.MEMORY_FORMATS
    )
    for weight, same in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(weight, same, rtol=1e-3, atol=1e-4)


def test_auto_is_decided_once_for_a_device_and_never_changes_a_choice():
    decided = choices.resolved(RECIPE, "cpu")
    assert decided.precision in ("float32", "bfloat16")
    assert decided.layout == "channels_last"
    assert choices.resolved(RECIPE, "cpu") == decided == choices.resolved(decided, "cpu")
    assert decided.compile is False
    chosen = dataclasses.replace(RECIPE, precision="bfloat16", layout="channels_first", compile=True)
    assert choices.resolved(chosen, "cpu") is chosen
    half = choices.resolved(dataclasses.replace(RECIPE, precision="bfloat16"), "cpu")
    assert half.precision == "bfloat16"
    assert choices.is_resolved(half)


@pytest.mark.parametrize(
    ("supported", "precision", "layout"),
    [
        (True, "bfloat16", "channels_last"),
        (False, "float32", "channels_first"),
    ],
)
def test_gpus_are_known_without_trying(monkeypatch, supported, precision, layout):
    """Their tensor cores take bfloat16, and channels last."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    monkeypatch.setattr(choices, "_bfloat16_is_faster", choices._bfloat16_is_faster.__wrapped__)
    decided = choices.resolved(RECIPE, "cuda:1")
    assert (decided.precision, decided.layout) == (precision, layout)


@pytest.mark.parametrize(
    ("recipe", "device", "works", "compiled"),
    [
        (Recipe(), "cuda:0", True, True),
        (Recipe(), "cuda", False, False),
        (Recipe(epochs=49), "cuda", True, False),
        (Recipe(compile=False), "cuda", True, False),
        (Recipe(epochs=1, compile=True), "cuda", False, True),
        (Recipe(), "cpu", True, False),
        (Recipe(compile=True), "cpu", True, True),
    ],
)
def test_long_runs_on_gpus_are_compiled_where_that_works(monkeypatch, recipe, device, works, compiled):
    def compile(function):
        return lambda x: function(x) if works else (_ for _ in ()).throw(RuntimeError("Failed to find C compiler"))

    choices._can_compile.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(torch, "ones", lambda *shape, device: torch.zeros(shape))  # whatever there is here
    try:
        assert choices.resolved(recipe, device).compile is compiled
    finally:
        choices._can_compile.cache_clear()


def test_a_cpu_is_tried_in_one_thread_since_the_time_of_several_depends_on_what_else_runs(monkeypatch):
    threads = []

    class Watched(nn.Conv2d):
        def forward(self, images):
            threads.append(torch.get_num_threads())
            return super().forward(images)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    monkeypatch.setattr(nn, "Conv2d", Watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        choices._bfloat16_is_faster.__wrapped__("cpu")
        assert set(threads) == {1}
        assert torch.get_num_threads() == 2, "a trial's own number is left as it was"
    finally:
        torch.set_num_threads(before)


def test_a_cpu_without_bfloat16_instructions_is_not_even_tried(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    monkeypatch.setattr(nn, "Conv2d", None)
    assert not choices._bfloat16_is_faster.__wrapped__("cpu")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"precision": "fp16"}, "precision 'fp16': choose from auto, bfloat16, float32"),
        ({"layout": "nhwc"}, "layout 'nhwc': choose from auto, channels_first, channels_last"),
    ],
)
def test_unknown_choices_name_the_valid_ones(wrong, says):
    with pytest.raises(InputError, match=says):
        Recipe(**wrong)
