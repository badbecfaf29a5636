"""What a GPU must not change: a recorded step, neighbours and a second run give the same network, and a trial works.

They run where torch sees a GPU, and need no more than training does.
"""

import dataclasses
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.backends import cudnn

from hardtune import Recipe, Store, Treatment, load, run
from hardtune.hardness.dynamics import Dynamics
from hardtune.training.fit import build_model, fit, predict
from hardtune.training.images import DeviceImages
from hardtune.training.losses import LOSSES, regularised

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")

RECIPE = Recipe(model="small_cnn", epochs=2, batch_size=64, learning_rate=0.05, milestones=(0.5,))
COUNT = 600  # nine full batches and a smaller one


def trained(recipe=RECIPE, *, loss="cross_entropy", seed=0, device="cuda"):
    """A network's weights and scores, and what it answers, on the CPU."""
    rng = np.random.default_rng(0)
    images = DeviceImages(
        rng.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8), mean=(0.5,) * 3, std=(0.3,) * 3, device=device
    )
    labels = torch.from_numpy(rng.integers(0, 10, COUNT)).to(device)
    model = build_model(recipe, (32, 32, 3), 10, seed=seed, device=device)
    criterion, s = LOSSES[loss](COUNT, 10, device), torch.linspace(0, 1, COUNT, device=device)
    dynamics = Dynamics(COUNT, device=device, early_epoch=1)
    fit(
        model,
        images,
        labels,
        torch.arange(COUNT, device=device),
        recipe,
        seed=seed,
        objective=lambda logits, labels, ids: regularised(criterion(logits, labels, ids), logits, s[ids], 0.2),
        observer=dynamics,
    )
    answers = predict(model, images, torch.arange(COUNT, device=device))
    everything = {**model.state_dict(), **dynamics.scores(), "answers": answers}
    return {name: torch.as_tensor(value).cpu() for name, value in everything.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture(autouse=True)
def recorded():
    """A step that cannot be recorded would go on without, with a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "training goes on without")
        yield


def test_networks_that_train_beside_each_other_have_one_copy_of_the_images():
    pixels = np.zeros((5000, 32, 32, 3), np.uint8)
    before = torch.cuda.memory_allocated()
    several = [DeviceImages(pixels, mean=(0.5,) * 3, std=(0.3,) * 3, device="cuda") for _ in range(8)]
    assert pixels.nbytes <= torch.cuda.memory_allocated() - before < 1.1 * pixels.nbytes
    several.clear()
    assert torch.cuda.memory_allocated() - before < 0.1 * pixels.nbytes


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_a_recorded_step_trains_the_same_network_to_the_bit(loss):
    without = dataclasses.replace(RECIPE, cuda_graphs=False)
    assert_same(trained(loss=loss), trained(without, loss=loss))


def test_a_recorded_step_by_adamw_trains_the_same_network_to_the_bit():
    recipe = dataclasses.replace(RECIPE, optimiser="adamw", learning_rate=0.001)
    assert_same(trained(recipe), trained(dataclasses.replace(recipe, cuda_graphs=False)))


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("model", ["resnet18", "small_cnn"])
def test_the_same_seed_gives_the_same_network_to_the_bit(model, precision):
    recipe = dataclasses.replace(RECIPE, model=model, precision=precision)
    assert_same(trained(recipe), trained(recipe))


def test_networks_beside_each_other_are_those_that_train_alone():
    recipe = dataclasses.replace(RECIPE, model="resnet18")
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda seed: trained(recipe, seed=seed), range(4)))
    for seed, network in enumerate(beside):
        assert_same(network, trained(recipe, seed=seed))


def test_networks_that_are_compiled_beside_each_other_are_those_that_train_alone():
    recipe = dataclasses.replace(RECIPE, model="resnet18", compile=True)
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(lambda seed: trained(recipe, seed=seed), range(4)))
    for seed, network in enumerate(beside):
        assert_same(network, trained(recipe, seed=seed))


@pytest.fixture
def no_tf32():
    """Matrix products and convolutions in float32, whatever is faster."""
    before = torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32 = before


@pytest.mark.parametrize("other", [{"device": "cpu"}, {"compile": True}], ids=str)
@pytest.mark.usefixtures("no_tf32")
def test_a_step_is_that_of_a_cpu_and_of_a_compiled_network_but_for_roundings(other):
    recipe = dataclasses.replace(RECIPE, precision="float32", epochs=1, learning_rate=0.01)
    here = trained(recipe)
    there = trained(dataclasses.replace(recipe, compile="compile" in other), device=other.get("device", "cuda"))
    for name in ("answers", "aum", "el2n_mean", "4.weight"):
        one, two = here[name].flatten().double(), there[name].flatten().double()
        assert torch.corrcoef(torch.stack([one, two]))[0, 1] > 0.999, name


def test_the_process_keeps_its_ways_with_cudnn():
    before = cudnn.benchmark, cudnn.deterministic
    trained()
    assert (cudnn.benchmark, cudnn.deterministic) == before


def test_a_trial_from_scores_to_metrics(tmp_path):
    recipe = Recipe(
        model="small_cnn",
        epochs=8,
        learning_rate=0.1,
        crop_padding=1,
        flip=False,
        members=2,
        scoring_members=2,
        validation=0.25,
        encoder="pixels",
    )
    hard = Treatment(
        estimator="aum", alpha=1.0, policy="shift", oversample="smote", entropy_weight=0.1, entropy_estimator="rmd"
    )
    digits = load("digits")
    first = run(hard, digits, recipe, Store(tmp_path), device="cuda").metrics()
    assert first["final/accuracy"] > 0.8
    assert run(hard, digits, recipe, device="cuda").metrics() == first  # trained again
    by_gradients = dataclasses.replace(hard, estimator="grand")
    assert run(by_gradients, digits, recipe, Store(tmp_path), device="cuda").metrics()["final/accuracy"] > 0.8
