"""What is asked of a trained network, and what of it is kept."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from hardtune import Recipe, Store, Treatment, load
from hardtune.answers import Answers, corruption_pairs
from hardtune.data import load_ood
from hardtune.errors import DivergedError, InputError
from hardtune.evaluation import evaluate, fit_temperature, left_out
from hardtune.evaluation.corruptions import CORRUPTIONS, corrupt
from hardtune.evaluation.ood import OOD_SCORES
from hardtune.member import Prepared, entries, plan_for, stored_member, train_member, train_network
from hardtune.store import digest
from hardtune.training.features import penultimate
from hardtune.training.fit import build_model, predict
from hardtune.training.images import DeviceImages

RECIPE = Recipe(
    model="small_cnn",
    epochs=2,
    batch_size=32,
    flip=False,
    crop_padding=1,
    members=1,
    validation=0.25,
    encoder="pixels",
    seed=3,
)
PAIRS = corruption_pairs(["contrast", "impulse_noise"], [2, 5])


@pytest.fixture(scope="module")
def plain():
    return load("digits").subset(classes=10, train=30, test=10, seed=0).hold_out(RECIPE.validation, RECIPE.seed)


@pytest.fixture(scope="module")
def shifted(plain):
    images = load_ood("inverted", load("digits"))[:50]
    return dataclasses.replace(plain, ood=images, corruptions=PAIRS)


@pytest.fixture(scope="module")
def answers(shifted):
    return train_member(Prepared(shifted), RECIPE, Treatment(), 0, device="cpu")


def store_it(split, store, **recipe):
    return stored_member(Prepared(split), dataclasses.replace(RECIPE, **recipe), Treatment(), 0, store, device="cpu")


@pytest.mark.parametrize("model", ["small_cnn", "resnet18"])
def test_penultimate_features_are_what_the_last_layer_makes_logits_of(model, plain):
    network = build_model(dataclasses.replace(RECIPE, model=model), (8, 8, 1), 10, seed=0, device="cpu")
    images = DeviceImages(plain.test.images[:20], mean=plain.mean, std=plain.std, device="cpu")
    positions = torch.arange(20)
    logits, features = penultimate(network, images, positions)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)][-1]
    assert features.shape == (20, last.in_features)
    with torch.inference_mode():
        torch.testing.assert_close(last(features), logits, rtol=0.02, atol=0.02)  # bf16 where the CPU has it
    torch.testing.assert_close(predict(network, images, positions), logits)
    assert not last._forward_pre_hooks, "the network is left as it was"


def test_a_network_without_a_linear_layer_is_refused(plain):
    images = DeviceImages(plain.test.images[:2], mean=plain.mean, std=plain.std, device="cpu")
    with pytest.raises(ValueError, match="no linear layer"):
        penultimate(torch.nn.Flatten(), images, torch.arange(2))


def test_asking_more_changes_neither_training_nor_the_other_answers(plain, answers):
    alone = train_member(Prepared(plain), RECIPE, Treatment(), 0, device="cpu")
    np.testing.assert_array_equal(alone.test, answers.test)
    np.testing.assert_array_equal(alone.held_out, answers.held_out)
    assert alone.ood is alone.corrupted is alone.corrupted_left_out is alone.distances is None


def test_figures_under_a_corruption_are_those_of_the_corrupted_test_images(shifted, answers):
    changed = corrupt(shifted.test.images, "impulse_noise", 5, seed=RECIPE.seed)
    other = dataclasses.replace(shifted, test=dataclasses.replace(shifted.test, images=changed), corruptions=())
    logits = train_member(Prepared(other), RECIPE, Treatment(), 0, device="cpu").test
    figures = evaluate(logits, shifted.test.labels)
    expected = [figures["accuracy"], figures["ece"]]
    np.testing.assert_allclose(answers.corrupted[PAIRS.index(("impulse_noise", 5))], expected, rtol=1e-5)


def test_figures_under_corruptions_are_kept_without_each_part_of_the_test_images(plain, shifted, answers):
    def logits(kind, severity):
        changed = corrupt(shifted.test.images, kind, severity, seed=RECIPE.seed)
        other = dataclasses.replace(plain, test=dataclasses.replace(shifted.test, images=changed))
        return train_member(Prepared(other), RECIPE, Treatment(), 0, device="cpu").test

    each = [left_out(logits(*pair)[None], shifted.test.labels) for pair in PAIRS]
    expected = np.mean([[one["accuracy"], one["ece"]] for one in each], axis=0).T
    np.testing.assert_allclose(answers.corrupted_left_out, expected, rtol=1e-5)


def test_what_is_added_post_hoc_counts_in_every_figure_and_is_no_part_of_the_stored_logits(
    plain, shifted, answers, tmp_path
):
    posthoc = Treatment(balance=1.0, undersample="posthoc", oversample="posthoc")
    few = np.concatenate([np.flatnonzero(plain.train.labels > 0), np.flatnonzero(plain.train.labels == 0)[:5]])
    tail = dataclasses.replace(shifted, train=plain.train.take(few))
    store, prepared = Store(tmp_path), Prepared(tail)
    control, _ = stored_member(prepared, RECIPE, Treatment(), 0, store, device="cpu")
    ours, trained = stored_member(prepared, RECIPE, posthoc, 0, store, device="cpu")
    again, afresh = stored_member(prepared, RECIPE, posthoc, 0, store, device="cpu")
    assert (trained, afresh) == (True, False), "its figures on corrupted images are no one else's"
    temperature = fit_temperature(control.held_out, tail.held_out.labels)
    added = np.float32(temperature) * plan_for(prepared, RECIPE, posthoc, 0).class_posthoc
    assert added[0] > 0.5
    for name in ("held_out", "test", "ood"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(control, name) + added)
        np.testing.assert_array_equal(getattr(again, name), getattr(ours, name))
    same, _ = stored_member(prepared, RECIPE, Treatment(), 0, store, device="cpu")
    np.testing.assert_array_equal(same.test, control.test)
    changed = corrupt(shifted.test.images, "impulse_noise", 5, seed=RECIPE.seed)
    other = dataclasses.replace(tail, test=dataclasses.replace(shifted.test, images=changed), corruptions=())
    figures = evaluate(
        train_member(Prepared(other), RECIPE, Treatment(), 0, device="cpu").test + added, plain.test.labels
    )
    row = PAIRS.index(("impulse_noise", 5))
    np.testing.assert_allclose(ours.corrupted[row], [figures["accuracy"], figures["ece"]], rtol=1e-5)
    assert not np.array_equal(ours.corrupted[row], same.corrupted[row])


def test_distances_are_to_the_nearest_class_of_the_training_samples(shifted, answers):
    network = train_network(Prepared(shifted), RECIPE, Treatment(), 0, device="cpu")

    def features(samples):
        images = DeviceImages(samples, mean=shifted.mean, std=shifted.std, device="cpu")
        return penultimate(network, images, torch.arange(len(samples)))[1].double().numpy()

    known, labels = features(shifted.train.images), shifted.train.labels
    means = np.stack([known[labels == k].mean(axis=0) for k in range(10)])
    covariance = np.cov((known - means[labels]).T, bias=True)
    covariance += 1e-6 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    away = features(shifted.ood)[:, None] - means
    squared = np.einsum("nkd,nkd->nk", away @ np.linalg.inv(covariance), away)
    np.testing.assert_allclose(answers.mahalanobis_ood, squared.min(axis=1), rtol=1e-3)


def test_mahalanobis_distance_tells_inverted_digits_from_digits(answers):
    inside, outside = answers.distances
    assert len(inside) == 100
    assert len(outside) == 50
    assert (outside[:, None] > inside).mean() > 0.9


def test_the_store_holds_answers_and_no_features(shifted, tmp_path):
    store_it(shifted, Store(tmp_path))
    count = len(shifted.held_out) + 2 * len(shifted.test) + 2 * len(shifted.ood)
    numbers = 10 * count + 2 * len(PAIRS)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 4 * numbers + 6000


def test_what_was_asked_once_is_found_and_asking_for_less_too(plain, shifted, tmp_path):
    store = Store(tmp_path)
    first, trained = store_it(shifted, store)
    assert trained
    again, trained = store_it(shifted, store)
    assert not trained
    for field in dataclasses.fields(Answers):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(again, field.name))
    less, trained = store_it(plain, store)
    assert not trained
    assert less.ood is None


def test_asking_for_something_else_trains_again(plain, shifted, tmp_path):
    store = Store(tmp_path)
    for split in (
        plain,
        shifted,
        dataclasses.replace(shifted, ood=shifted.ood[:40]),
        dataclasses.replace(shifted, corruptions=PAIRS[:1]),
    ):
        assert store_it(split, store)[1]
    assert store_it(plain, store)[1] is False


def test_a_network_that_diverges_in_its_last_step_is_said_and_not_stored(plain, tmp_path):
    store = Store(tmp_path)
    with pytest.raises(DivergedError, match="last step"):
        store_it(plain, store, batch_size=10_000, epochs=1, learning_rate=1e30)
    assert store.entries() == []


def test_what_is_measured_is_part_of_the_identity(shifted, monkeypatch):
    prepared = Prepared(shifted)

    def of(recipe=RECIPE, **changes):
        return entries(
            dataclasses.replace(prepared, split=dataclasses.replace(shifted, **changes)), recipe, Treatment(), 0, "cpu"
        )

    assert set(of()) == {"member", "ood", "corruptions"}
    assert set(of(ood=None, corruptions=())) == {"member"}
    assert of(ood=shifted.ood[::-1])["ood"] != of()["ood"]
    assert of(corruptions=PAIRS[::-1])["corruptions"] != of()["corruptions"]
    assert of(ood=None)["member"] == of()["member"]
    other_seed = of(dataclasses.replace(RECIPE, seed=1))
    assert other_seed["corruptions"]["seed"] == 1
    assert other_seed["ood"] != of()["ood"], "of another network"
    for number in (1, 2):
        monkeypatch.setitem(CORRUPTIONS._entries, f"mine{number}", lambda images, severity, rng: images)
    code = of(corruptions=(("mine1", 1), ("mine2", 1), ("fog", 1)))["corruptions"]["code"]
    assert set(code) == {"corruption mine1", "corruption mine2"}


def test_foreign_images_are_hashed_once_for_all_members_and_nodes(shifted, monkeypatch):
    split, hashed, contiguous = dataclasses.replace(shifted), [], np.ascontiguousarray
    monkeypatch.setattr(np, "ascontiguousarray", lambda array: hashed.append(array) or contiguous(array))
    found = [entries(Prepared(split), RECIPE, Treatment(), member, "cpu")["ood"]["images"] for member in range(3)]
    assert sum(array is split.ood for array in hashed) == 1
    assert set(found) == {digest(shifted.ood)}, "what is stored under it is found"
    there = pickle.loads(pickle.dumps(split))
    before = len(hashed)
    assert there.ood_digest == found[0]
    assert len(hashed) == before


def test_shared_images_are_never_written(shifted):
    arrays = [shifted.ood, shifted.test.images, shifted.train.images, shifted.held_out.images]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    train_member(Prepared(shifted), RECIPE, Treatment(), 0, device="cpu")
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_all_stands_for_the_fifteen_kinds_and_doubles_are_dropped(monkeypatch):
    assert len(corruption_pairs(["all"])) == 75 == 5 * len(CORRUPTIONS)
    monkeypatch.setitem(CORRUPTIONS._entries, "mine", lambda images, severity, rng: images)
    assert len(corruption_pairs(["all"])) == 75, "CIFAR-10-C stays what it is"
    assert corruption_pairs(["mine", "all"], [3])[0] == ("mine", 3)
    for registry, name in ((CORRUPTIONS, "all"), (OOD_SCORES, "mahalanobis")):
        with pytest.raises(InputError, match=f"name '{name}' is taken"):
            registry.register(name)(print)
    with pytest.raises(InputError, match=r"OOD score names begin with a letter or digit and have .*'my/score'"):
        OOD_SCORES.register("my/score")
    assert corruption_pairs(["fog", "fog"], [3, 3]) == (("fog", 3),)
    assert corruption_pairs([]) == ()
    assert json.dumps(corruption_pairs(["fog"], np.arange(1, 3))) == '[["fog", 1], ["fog", 2]]'  # as in an identity


class HeadFirst(torch.nn.Module):
    """Its head is defined before its body, and it has another one, which only training uses."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(5, 4)
        self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4), torch.nn.Linear(4, 5))
        self.auxiliary = torch.nn.Linear(5, 4)

    def forward(self, images):
        return self.head(self.body(images)) + (self.auxiliary(self.body(images)) if self.training else 0)


def test_the_last_layer_is_the_one_that_runs_last_wherever_it_is_defined():
    network = HeadFirst().eval()
    images = DeviceImages(
        np.arange(2 * 192, dtype=np.uint8).reshape(2, 8, 8, 3), mean=(0.5,) * 3, std=(0.5,) * 3, device="cpu"
    )
    logits, features = penultimate(network, images, torch.arange(2))
    with torch.inference_mode():
        torch.testing.assert_close(network.head(features), logits, rtol=0.02, atol=0.02)


@pytest.mark.parametrize(
    ("kinds", "severities", "sentence"),
    [
        (["smog"], [1], "unknown corruption 'smog': choose from all, brightness, "),
        (["fog"], [6], "severity must be a whole number from 1 to 5, got 6"),
        (["fog"], [1.0], "severity must be a whole number from 1 to 5, got 1.0"),
        (["fog"], [True], "severity must be a whole number from 1 to 5, got True"),
        (["fog"], [], "corruptions need at least one severity"),
    ],
)
def test_a_wrong_corruption_is_one_sentence(kinds, severities, sentence):
    with pytest.raises(InputError, match=sentence):
        corruption_pairs(kinds, severities)
