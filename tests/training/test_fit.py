"""One network, from its seed to its last epoch."""

import contextlib
import dataclasses
import gc
import math
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from hardtune import Recipe
from hardtune.errors import DivergedError, InputError
from hardtune.hardness.dynamics import Dynamics
from hardtune.training.fit import build_model, check_model, fit, predict
from hardtune.training.images import DeviceImages
from hardtune.training.models import MODELS
from hardtune.training.schedule import learning_rate
from hardtune.training.views import draw_views

RECIPE = Recipe(model="small_cnn", epochs=2, batch_size=32, learning_rate=0.05, crop_padding=1)


def blobs(count=97, seed=0):
    """Images whose class is plain to see: which half is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 60, (count, 8, 8, 1))
    for half in (0, 1):
        images[labels == half, 4 * half : 4 * half + 4] += 150
    return images.astype(np.uint8), labels


def on_device(images, synthesised=None):
    return DeviceImages(images, mean=(0.4,), std=(0.3,), device="cpu", synthesised=synthesised)


def trained(recipe=RECIPE, *, model=None, rows=None, seed=1, synthesised=None, **options):
    images, labels = blobs()
    extra = 0 if synthesised is None else len(synthesised)
    model = model or build_model(recipe, (8, 8, 1), 2, seed=seed, device="cpu")
    fit(
        model,
        on_device(images, synthesised),
        torch.from_numpy(np.concatenate([labels, np.zeros(extra, np.int64)])),
        torch.arange(len(labels)) if rows is None else rows,
        recipe,
        seed=seed,
        objective=lambda logits, labels, ids: cross_entropy(logits, labels),
        **options,
    )
    return model


class Watcher:
    def __init__(self):
        self.seen, self.logits, self.epochs, self.predicted = [], [], 0, None

    def update(self, ids, logits, labels):
        assert not logits.requires_grad
        self.seen.append(ids.clone())
        self.logits.append(logits.clone())

    def end_epoch(self, predict=None):
        self.epochs += 1
        self.predicted = predict()


def test_the_same_seed_gives_the_same_weights_to_the_bit():
    first, second, other = trained(), trained(), trained(seed=2)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


@pytest.mark.parametrize(
    ("model", "optimiser"), [*((model, "sgd") for model in sorted(MODELS)), ("small_cnn", "adamw")]
)
def test_it_is_the_textbook_loop(model, optimiser):
    """Same images, same rates, torch's own optimiser; in the same memory layout only roundings may differ, and what
    those do to four steps, a ReLU that switches among it, is far less than a wrong rate, momentum or decay."""
    recipe = dataclasses.replace(
        RECIPE,
        model=model,
        optimiser=optimiser,
        batch_size=64,
        warmup=0.1,
        schedule="linear",
        momentum=0.8,
        weight_decay=0.05,
        precision="float32",
    )
    images, labels = blobs()
    targets = torch.from_numpy(labels)

    batches, ids_of = [], []
    ours = build_model(recipe, (8, 8, 1), 2, seed=1, device="cpu")
    ours.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].clone()))
    fit(
        ours,
        on_device(images),
        targets,
        torch.arange(len(labels)),
        recipe,
        seed=1,
        objective=lambda logits, labels, ids: ids_of.append(ids) or cross_entropy(logits, labels),
        observer=Dynamics(len(labels)),
    )

    theirs = build_model(recipe, (8, 8, 1), 2, seed=1, device="cpu").train()
    first = [p.detach().clone() for p in theirs.parameters()]
    if optimiser == "sgd":
        by = torch.optim.SGD(theirs.parameters(), momentum=0.8, weight_decay=0.05, nesterov=True)
    else:
        by = torch.optim.AdamW(theirs.parameters(), betas=(0.8, 0.999), weight_decay=0.05)
    for step, (batch, ids) in enumerate(zip(batches, ids_of, strict=True)):
        by.param_groups[0]["lr"] = learning_rate(recipe, step / 4)
        by.zero_grad()
        cross_entropy(theirs(batch), targets[ids]).backward()
        by.step()

    assert len(ids_of) == 4
    buffers = zip(ours.buffers(), theirs.buffers(), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-2, atol=1e-3) for a, b in buffers)
    moved = sum((a - b).square().sum() for a, b in zip(theirs.parameters(), first, strict=True)).sqrt()
    apart = sum((a - b).square().sum() for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)).sqrt()
    assert apart < 0.01 * moved


def test_weights_that_are_frozen_or_play_no_part_stay_as_they_are():
    model = build_model(RECIPE, (8, 8, 1), 2, seed=1, device="cpu")
    model[0].weight.requires_grad_(False)
    model.unused = torch.nn.Linear(2, 2)
    model.forward = lambda images: torch.nn.Sequential(*list(model)[:-1])(images)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trained(model=model)
    same = {name for name, weight in model.named_parameters() if torch.equal(weight, before[name])}
    assert same == {"0.weight", "unused.weight", "unused.bias"}


def test_watching_a_network_does_not_change_it():
    alone, watched = trained(), trained(observer=Watcher())
    for a, b in zip(alone.state_dict().values(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_probe_is_shown_the_network_at_every_stage_and_a_shorter_run_is_the_beginning_of_a_longer_one():
    def weights_at_each_epoch(until=None):
        seen = {}
        trained(probe=lambda epoch, model: seen.update({epoch: model[-1].weight.detach().clone()}), until=until)
        return seen

    whole, half = weights_at_each_epoch(), weights_at_each_epoch(until=1)
    assert list(whole) == [0, 1, 2]
    assert list(half) == [0, 1]
    assert all(torch.equal(half[epoch], whole[epoch]) for epoch in half)
    assert torch.equal(whole[2], trained()[-1].weight)
    assert not torch.equal(whole[0], whole[1])


@pytest.mark.parametrize("schedule", ["linear", "steps"])
def test_a_run_of_so_many_steps_is_that_of_as_many_epochs_and_breaks_its_last_one_off(schedule, monkeypatch):
    rates = []

    def noted(recipe, done):
        rates.append(learning_rate(recipe, done))
        return rates[-1]

    monkeypatch.setattr("hardtune.training.fit.learning_rate", noted)
    recipe = dataclasses.replace(RECIPE, batch_size=25, schedule=schedule, warmup=0.2)  # 4 steps an epoch
    epochs, steps = trained(dataclasses.replace(recipe, epochs=3)), trained(recipe, steps=12)
    assert rates[:12] == rates[12:], "to the bit"
    for a, b in zip(epochs.state_dict().values(), steps.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    rates.clear()
    watcher, seen, ended = Watcher(), [], []
    trained(recipe, steps=10, observer=watcher, probe=lambda epoch, model: seen.append(epoch), on_epoch=ended.append)
    assert [len(batch) for batch in watcher.seen] == [25, 25, 25, 22, 25, 25, 25, 22, 25, 25]
    assert (watcher.epochs, seen, ended) == (3, [0, 1, 2, 3], [1, 2, 3])
    assert rates == pytest.approx([learning_rate(recipe, step / 10) for step in range(10)])


def test_an_observer_sees_every_row_once_an_epoch_and_evaluation_logits_at_its_end():
    watcher = Watcher()
    model = trained(observer=watcher)
    assert watcher.epochs == 2
    assert sorted(torch.cat(watcher.seen).tolist()) == sorted(2 * list(range(97)))
    images, _ = blobs()
    assert torch.equal(watcher.predicted, predict(model, on_device(images), torch.arange(97)))


def test_large_images_are_predicted_a_few_at_a_time_so_that_it_takes_no_more_memory_than_training():
    seen, batches = [], []
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(1, 2))
    network.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    for size in (32, 224, 2000):
        pixels = np.random.default_rng(size).integers(0, 256, (50, size, size, 1), np.uint8)
        logits = predict(network, on_device(pixels), torch.arange(50))
        batches, seen = [*batches, *seen], []
        each = torch.cat([predict(network, on_device(pixels[i : i + 1]), torch.arange(1)) for i in range(50)])
        assert torch.allclose(logits, each, atol=1e-5)
        seen = []
    assert batches == [50, *[41, 9], *[1] * 50]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("count", [3, 2050])
def test_logits_of_another_type_are_predicted_as_float32(dtype, count):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    pixels = np.random.default_rng(0).integers(0, 256, (count, 2, 2, 1), np.uint8)
    own = predict(network, on_device(pixels), torch.arange(count))
    network.register_forward_hook(lambda module, inputs, logits: logits.to(dtype))
    logits = predict(network, on_device(pixels), torch.arange(count))
    assert logits.dtype == torch.float32
    assert torch.equal(logits, own.to(dtype).float())


def test_no_sample_is_left_alone_in_a_batch():
    watcher = Watcher()
    trained(dataclasses.replace(RECIPE, batch_size=32, epochs=1), observer=watcher)  # 97 = 3 * 32 + 1
    assert [len(batch) for batch in watcher.seen] == [32, 32, 33]


def test_rows_may_repeat_samples_and_name_synthesised_images():
    made = np.full((3, 8, 8, 1), 200, np.uint8)
    watcher = Watcher()
    trained(rows=torch.tensor([0, 0, 5, 97, 99]), observer=watcher, synthesised=made)
    assert sorted(torch.cat(watcher.seen).tolist()) == [0, 0, 0, 0, 5, 5, 97, 97, 99, 99]


def test_a_network_learns_what_is_plain_to_see():
    images, labels = blobs(seed=5)
    model = trained(dataclasses.replace(RECIPE, epochs=6))
    guess = predict(model, on_device(images), torch.arange(len(labels))).argmax(1).numpy()
    assert (guess == labels).mean() > 0.95


def test_the_global_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    trained()
    assert torch.equal(torch.rand(4), expected)


def test_what_layers_draw_is_decided_by_the_seed_whatever_else_is_drawn_or_trains_in_the_process():
    def weights(seed, **options):
        plain = build_model(RECIPE, (8, 8, 1), 2, seed=1, device="cpu")
        model = torch.nn.Sequential(*plain[:-1], torch.nn.Dropout(0.5), plain[-1])
        return trained(model=model, seed=seed, **options)[-1].weight

    first = weights(1, on_epoch=lambda epoch: torch.rand(epoch))
    torch.manual_seed(99)
    with ThreadPoolExecutor(2) as pool:
        same, other = pool.map(weights, [1, 2])
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    drawn = torch.rand(4)
    torch.manual_seed(99)
    assert torch.equal(torch.rand(4), drawn)


def test_the_generators_of_gpus_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail("every GPU's generator was seeded"))
    trained()


def test_a_run_that_leaves_the_finite_numbers_says_so():
    with pytest.raises(DivergedError, match="diverged in epoch 1 of 2"):
        trained(dataclasses.replace(RECIPE, learning_rate=1e12))


@pytest.mark.parametrize("fails", [False, True])
def test_what_training_held_is_freed_as_soon_as_it_ends(fails):
    """Without the garbage collector, which comes late: the next network needs the memory."""

    def objective(logits, labels, ids):
        if fails:
            raise torch.OutOfMemoryError("out of memory")
        return cross_entropy(logits, labels)

    images, labels = blobs()
    held = on_device(images)
    freed = weakref.ref(held)
    gc.disable()
    try:
        model = build_model(RECIPE, (8, 8, 1), 2, seed=1, device="cpu")
        with pytest.raises(torch.OutOfMemoryError) if fails else contextlib.nullcontext() as caught:
            fit(model, held, torch.from_numpy(labels), torch.arange(97), RECIPE, seed=1, objective=objective)
        if fails:
            traceback.clear_frames(caught.tb)
        del held
        assert freed() is None
    finally:
        gc.enable()


def test_shared_images_are_read_where_they_lie_and_never_written():
    images, _ = blobs()
    before = images.copy()
    images.setflags(write=False)
    held = on_device(images)
    assert held.images.data_ptr() == images.ctypes.data
    held.augmented(torch.arange(9), 2, torch.randint(5, (9,)), torch.randint(5, (9,)), torch.rand(9) < 0.5).add_(1)
    np.testing.assert_array_equal(images, before)


def test_networks_that_train_beside_each_other_have_one_copy_of_the_images_on_their_gpu():
    pixels, others = (np.zeros((9, 4, 4, 1), np.uint8) for _ in range(2))

    def on_device(images):  # as a GPU has it: a place that is not this machine's memory
        return DeviceImages(images, mean=(0.4,), std=(0.3,), device="meta")

    one, two = on_device(pixels), on_device(pixels)
    assert one.images is two.images
    assert on_device(others).images is not one.images
    kept = weakref.ref(one.images)
    del one
    assert kept() is two.images
    del two
    assert kept() is None, "it takes memory on the GPU although nobody trains on it"


def test_synthesised_images_lie_behind_the_others():
    rng = np.random.default_rng(0)
    images, made = (rng.integers(0, 256, (count, 6, 6, 1), dtype=np.uint8) for count in (5, 3))
    apart, together = on_device(images, made), on_device(np.concatenate([images, made]))
    positions = torch.tensor([7, 0, 5, 4, 6, 5])
    assert torch.equal(apart.batch(positions), together.batch(positions))
    view = torch.tensor([0, 4, 2, 1, 3, 2]), torch.tensor([4, 0, 2, 3, 1, 2]), torch.arange(6) % 2
    assert torch.equal(apart.augmented(positions, 2, *view), together.augmented(positions, 2, *view))


def test_augmentation_is_the_textbook_crop_of_the_padded_image_and_flip():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    held = DeviceImages(images, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), device="cpu")
    dy, dx, flip = torch.tensor([0, 4, 2, 1, 3]), torch.tensor([4, 0, 2, 3, 1]), torch.tensor([1, 0, 1, 0, 1]).bool()
    batch = held.augmented(torch.arange(5), 2, dy, dx, flip)
    for i in range(5):
        padded = np.pad(images[i], ((2, 2), (2, 2), (0, 0)))
        view = padded[dy[i] : dy[i] + 6, dx[i] : dx[i] + 6]
        view = view[:, ::-1] if flip[i] else view
        expected = (view / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7]
        np.testing.assert_allclose(batch[i].permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 28), (3, 32)])
def test_every_model_maps_images_to_logits(name, channels, size):
    model = MODELS[name](channels, 7, size)
    assert model(torch.zeros(2, channels, size, size)).shape == (2, 7)


def test_resnet18_has_the_cifar_stem():
    model = MODELS["resnet18"](3, 10, 32)
    assert sum(p.numel() for p in model.parameters()) == 11_173_962
    assert model.conv1.stride == (1, 1)


def test_the_papers_schedule_divides_by_five_at_60_120_and_160_of_200_epochs():
    rates = [learning_rate(Recipe(), epoch / 200) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_other_schedules_rise_over_the_warmup_and_fall_to_nothing(schedule):
    recipe = Recipe(schedule=schedule, warmup=0.25)
    rates = [learning_rate(recipe, done) for done in (0.0, 0.125, 0.25, 0.6, 0.999)]
    assert rates[0] == 0
    assert rates[1] == pytest.approx(0.05)
    assert rates[2] == pytest.approx(0.1)
    assert 0.1 > rates[3] > rates[4] >= 0
    assert rates[4] < 0.001


def test_the_linear_and_the_cosine_schedule_are_their_formulas():
    for schedule, halfway, late in (("linear", 0.5, 0.25), ("cosine", 0.5, (1 - math.cos(math.pi / 4)) / 2)):
        recipe = Recipe(schedule=schedule, warmup=0.2)
        rates = [learning_rate(recipe, done) / recipe.learning_rate for done in (0.1, 0.2, 0.6, 0.8)]
        assert rates == pytest.approx([0.5, 1, halfway, late]), schedule


def test_views_are_cropped_and_mirrored_in_every_way_equally_often():
    rows = torch.arange(100, 10_100)
    views = draw_views(rows, RECIPE, torch.Generator().manual_seed(0))
    assert torch.equal(views[:, 0].sort().values, rows)
    assert not torch.equal(views[:, 0], rows)
    side = 2 * RECIPE.crop_padding + 1
    offsets = torch.bincount(side * views[:, 1] + views[:, 2], minlength=side**2)
    assert len(offsets) == side**2
    assert (offsets / (10_000 / side**2) - 1).abs().max() < 0.2
    assert float(views[:, 3].float().mean()) == pytest.approx(0.5, abs=0.02)


class Viewed(nn.Module):
    """As many write it: ``view`` wants channels first."""

    def __init__(self, channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, 4, 3, padding=1)
        self.head = nn.Linear(4 * image_size**2, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.convolution(images)
        return self.head(features.view(features.size(0), -1))


def test_a_network_is_checked_in_the_layout_that_it_is_trained_in(monkeypatch):
    monkeypatch.setitem(MODELS._entries, "viewed", Viewed)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 6, 3), dtype=np.uint8)
    images = DeviceImages(pixels, mean=(0.5,) * 3, std=(0.5,) * 3, device="cpu")
    with pytest.raises(InputError, match="model 'viewed' fails on images of 6 x 6 x 3: "):
        check_model(Recipe(model="viewed"), images, 2)
    check_model(Recipe(model="viewed", layout="channels_first"), images, 2)
