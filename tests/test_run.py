"""What is wrong with what ``run`` is given is said in a sentence before it spends anything; what can be, is done."""

import dataclasses

import numpy as np
import pytest
import torch

from hardtune import Recipe, Store, Treatment, load, run
from hardtune.checks import check_sources, preview_plan
from hardtune.data import Samples
from hardtune.errors import InputError
from hardtune.evaluation.corruptions import CORRUPTIONS
from hardtune.evaluation.ood import OOD_SCORES
from hardtune.needs import needs_of
from hardtune.scoring import prepare
from hardtune.training.models import MODELS

RECIPE = Recipe(
    model="small_cnn", epochs=1, batch_size=32, members=1, scoring_members=1, validation=0.3, encoder="pixels"
)
SCORED = Treatment(alpha=1.0, policy="shift", oversample="smote_encoder")
POOLED = Treatment(alpha=1.0, policy="shift", oversample="pool_random")


def no_linear_layer(channels, classes, size):
    return torch.nn.Sequential(torch.nn.Conv2d(channels, classes, size), torch.nn.Flatten())


@pytest.fixture(scope="module")
def digits():
    return load("digits").subset(classes=4, train=20, test=10, seed=0)


@pytest.fixture
def nothing_is_spent(monkeypatch):
    def spend(*arguments, **options):
        raise AssertionError("it trains or encodes before it looks")

    for where in ("hardtune.member.fit", "hardtune.scoring.encode"):
        monkeypatch.setattr(where, spend)


def without_pixels(samples):
    return Samples(samples.images[:, :3, :3], samples.labels)


@pytest.mark.parametrize(
    ("recipe", "options", "says"),
    [
        ({"model": "resnet19"}, {}, "unknown model 'resnet19': choose from"),
        ({"encoder": "file:/nowhere.npy"}, {}, "nowhere.npy"),
        ({}, {"device": "gpu"}, r"cannot train on device 'gpu' \(.*\): choose from cpu"),
        ({}, {"device": "cuda:99"}, r"cannot train on device 'cuda:99' \(.*\): choose from cpu"),
        ({}, {"store": "/dev/null"}, "cannot write results to /dev/null"),
        ({}, {"store": 5}, "store must be a Store, or its path or URL, got 5"),
        ({}, {"pool": "images"}, r"pool must be Samples \(see hardtune.data.load_pool\), got str"),
        ({}, {"corruptions": "fog"}, "corruptions and severities must be lists, got 'fog' and "),
        ({}, {"corruptions": ["fog"], "severities": 3}, r"must be lists, got \['fog'\] and 3"),
        ({"model": "no_linear_layer"}, {"ood": "inverted"}, "has no linear layer"),
        ({}, {"corruptions": ["for_rgb"]}, "corruption 'for_rgb' fails at severity 1: ValueError: "),
        (
            {},
            {"corruptions": ["black"]},
            r"corruption 'black' must give finite images \(2, 8, 8, 1\), got float64 \(3,\)",
        ),
        ({}, {"ood": "inverted"}, r"OOD score 'of_all' must give each of 2 samples a finite number, got float64 \(\)"),
        ({"model": "resnet18", "batch_size": 1}, {}, "'resnet18' fails on images of 8 x 8 x 1 in batches of 1: "),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_spent(digits, nothing_is_spent, monkeypatch, recipe, options, says):
    # Plug-ins that other tests must not meet.
    monkeypatch.setitem(MODELS._entries, "no_linear_layer", no_linear_layer)
    monkeypatch.setitem(CORRUPTIONS._entries, "for_rgb", lambda images, severity, rng: images @ np.eye(3))
    monkeypatch.setitem(CORRUPTIONS._entries, "black", lambda images, severity, rng: np.zeros(3))
    if says.startswith("OOD score"):
        monkeypatch.setitem(OOD_SCORES._entries, "of_all", np.max)
    with pytest.raises(InputError, match=says):
        run(SCORED, digits, dataclasses.replace(RECIPE, **recipe), **options)


def test_what_it_takes_is_said_to_who_gives_something_else(digits):
    for given in (("forgetting", digits, RECIPE), (Treatment(), "digits", RECIPE), (Treatment(), digits, None)):
        with pytest.raises(
            InputError, match=r"^run\(\) takes a Treatment, a Dataset \(see hardtune.load\) and a Recipe"
        ):
            run(*given)


def test_a_network_that_the_images_are_too_small_for_is_refused(digits, nothing_is_spent):
    small = dataclasses.replace(digits, train=without_pixels(digits.train), test=without_pixels(digits.test))
    with pytest.raises(InputError, match="'small_cnn' fails on images of 3 x 3 x 1: "):
        run(SCORED, small, RECIPE)


@pytest.mark.parametrize("prune", [{}, {"prune": "dataset", "prune_rate": 0.1}])
def test_a_pool_that_lacks_every_class_is_refused_with_and_without_pruning(digits, nothing_is_spent, prune):
    with pytest.raises(InputError, match="class '0' needs 1 images of the pool, and it has 0"):
        run(dataclasses.replace(POOLED, **prune), digits, RECIPE, pool=digits.train.take(np.arange(0)))


def test_classes_that_pruning_leaves_too_small_for_smote_are_refused(digits, nothing_is_spent):
    pruned = dataclasses.replace(SCORED, prune="class", prune_rate=0.7)
    with pytest.raises(InputError, match="class '0' has 4 samples, and SMOTE"):
        run(pruned, digits, RECIPE)
    check_sources(digits.hold_out(0.3, 0), [pruned])  # of a range that a sweep searches, this may be an end


@pytest.mark.parametrize(
    ("pool", "says"),
    [
        (lambda own: None, "needs a pool"),
        (lambda own: Samples(own.images, own.labels + 1), "the pool has a label 4, and the data 4 classes"),
        (without_pixels, r"the pool's images are \(3, 3, 1\)"),
        (lambda own: own.take(np.arange(0)), "class '0' needs 1 images of the pool, and it has 0"),
    ],
)
def test_a_pool_that_does_not_fit_is_refused(digits, nothing_is_spent, pool, says):
    with pytest.raises(InputError, match=says):
        run(POOLED, digits, RECIPE, pool=pool(digits.train))


def test_by_size_alone_one_knows_which_classes_gain_and_needs_a_pool_of_those(digits):
    tail = digits.part(np.flatnonzero((digits.train.labels < 2) | (np.arange(len(digits.train)) % 4 == 0)))
    evened = Treatment(balance=1.0, undersample="random", oversample="pool_random")
    small = np.flatnonzero(digits.train.labels >= 2)
    split = dataclasses.replace(tail.hold_out(0.3, 0), pool=digits.train.take(np.tile(small, 3)))
    check_sources(split, [evened])
    with pytest.raises(InputError, match="class '0' needs 1 images of the pool, and it has 0"):
        check_sources(split, [dataclasses.replace(evened, alpha=1.0, policy="shift")])  # which any class may gain by
    short = dataclasses.replace(split, pool=split.pool.take(np.flatnonzero(split.pool.labels < 3)))
    for every_class in (True, False):
        with pytest.raises(InputError, match=r"class '3' needs \d+ images of the pool, and it has 0"):
            check_sources(short, [evened], every_class=every_class)


def test_a_pool_of_the_classes_that_gain_will_do(digits, tmp_path):
    """Which they are, the scores tell; a pool that lacks one of those is refused then."""
    store = Store(tmp_path)
    prepared = prepare(digits.hold_out(0.3, 0), RECIPE, needs_of([SCORED]), store)
    gain = [label for label, row in enumerate(preview_plan(prepared, SCORED)) if row.added]
    assert 0 < len(gain) < 4
    pool = digits.train.take(np.flatnonzero(np.isin(digits.train.labels, gain)))
    assert sum(row.count for row in run(POOLED, digits, RECIPE, store, pool=pool).classes) == 4 * 14
    other = digits.train.take(np.flatnonzero(digits.train.labels != gain[0]))
    with pytest.raises(InputError, match=f"class '{gain[0]}' needs"):
        run(POOLED, digits, RECIPE, store, pool=other)


def test_its_result_has_the_logits_that_its_metrics_are_of_and_every_network_is_told(digits):
    scored, trained = [], []
    recipe = dataclasses.replace(RECIPE, members=2, scoring_members=3)
    result = run(
        dataclasses.replace(SCORED, oversample="random"),
        digits,
        recipe,
        ood=255 - digits.test.images,
        on_scored=lambda done, of: scored.append((done, of)),
        on_member=trained.append,
    )
    assert scored == [(1, 3), (2, 3), (3, 3)]
    assert [(progress.done, progress.of) for progress in trained] == [(1, 2), (2, 2)]
    for logits, summary, labels in (
        (result.test_logits, result.test, digits.test.labels),
        (result.held_out_logits, result.held_out, digits.hold_out(0.3, 0).held_out.labels),
    ):
        assert logits.shape == (2, len(labels), 4)
        assert (logits.argmax(2) == labels).mean() == pytest.approx(summary.member_mean["accuracy"])
    assert len(result.ood) == 2


def test_a_seed_may_be_larger_than_torchs(digits):
    result = run(Treatment(), digits, dataclasses.replace(RECIPE, seed=2**70))
    assert np.isfinite(result.test_logits).all()


def test_a_path_will_do_for_a_store_and_a_device_of_torchs_for_its_name(digits, tmp_path):
    done = []
    for store in (str(tmp_path), tmp_path, Store(tmp_path)):
        run(Treatment(), digits, RECIPE, store, device=torch.device("cpu"), on_member=done.append)
    assert [progress.trained for progress in done] == [True, False, False]
