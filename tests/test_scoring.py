"""The scoring ensemble: what it finds out, what it costs, and what is never made twice."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hardtune import Recipe, Store, Treatment, load, run, scoring_member
from hardtune.checks import check_trials
from hardtune.data import load_pool
from hardtune.errors import InputError
from hardtune.hardness.dynamics import Dynamics
from hardtune.hardness.estimators import ESTIMATORS, ensemble_scores, estimator
from hardtune.member import Prepared, identity, member_seed, plan_arguments, train_network
from hardtune.needs import Needs, needs_of
from hardtune.scoring import gather, prepare
from hardtune.scoring_member import early_epoch, finding_identities, findings_of, is_scored, score_member
from hardtune.training.fit import build_model
from hardtune.training.gradients import gradient_norms
from hardtune.training.images import DeviceImages
from hardtune.trial import run_trial

RECIPE = Recipe(
    model="small_cnn",
    epochs=20,
    batch_size=64,
    flip=False,
    crop_padding=1,
    members=2,
    scoring_members=2,
    validation=0.25,
    encoder="pixels",
)
GRAND = Needs(frozenset({"grand", "grand_init"}))
DIGITS = load("digits").subset(classes=10, train=20, test=5, seed=0)


@pytest.fixture(scope="module")
def split():
    return DIGITS.hold_out(RECIPE.validation, RECIPE.seed)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def epochs_of(split, store, needs, member=0, recipe=RECIPE):
    """How many epochs scoring a member takes."""
    seen = []
    score_member(split, recipe, needs, member, store, device="cpu", on_epoch=seen.append)
    return len(seen)


def test_the_scoring_ensemble_has_the_epochs_that_the_recipe_says_whatever_the_budget(split, store):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    assert epochs_of(split, store, Needs(), recipe=dataclasses.replace(recipe, budget="steps")) == 2
    assert epochs_of(split, store, Needs(), recipe=recipe) == 0, "it is the same ensemble"


def norms_of(network, split):
    images = DeviceImages(split.train.images, mean=split.mean, std=split.std, device="cpu")
    return gradient_norms(network, images.batch(torch.arange(len(split.train))), torch.from_numpy(split.train.labels))


def test_grand_is_read_at_the_early_epoch_and_at_initialisation(split, store):
    assert early_epoch(RECIPE) == 2
    score_member(split, RECIPE, GRAND, 0, store, device="cpu")
    found = findings_of(split, RECIPE, GRAND, 0, store, device="cpu")
    early = train_network(Prepared(split), RECIPE, Treatment(), 0, device="cpu", until=2)
    fresh = build_model(RECIPE, (8, 8, 1), 10, seed=member_seed(RECIPE, 0, "init"), device="cpu")
    np.testing.assert_array_equal(found["grand"], norms_of(early, split))
    np.testing.assert_array_equal(found["grand_init"], norms_of(fresh, split))


def test_grand_is_made_only_where_a_treatment_asks_for_it(split, store):
    assert needs_of([Treatment(alpha=1, estimator="grand")]).ensemble
    score_member(split, RECIPE, needs_of([Treatment(alpha=1)]), 0, store, device="cpu")
    assert not is_scored(split, RECIPE, GRAND, 0, store, device="cpu")
    with pytest.raises(InputError, match="the grand of scoring member 0 cannot be read"):
        findings_of(split, RECIPE, GRAND, 0, store, device="cpu")


def test_a_member_that_lacks_only_gradient_norms_is_trained_to_the_early_epoch_and_no_further(split, store):
    assert epochs_of(split, store, Needs()) == 20
    before = findings_of(split, RECIPE, Needs(), 0, store, device="cpu")
    assert epochs_of(split, store, Needs(frozenset({"grand_init"}))) == 0
    assert epochs_of(split, store, GRAND) == 2
    assert epochs_of(split, store, GRAND) == 0
    after = findings_of(split, RECIPE, GRAND, 0, store, device="cpu")
    for name, scores in before.items():
        np.testing.assert_array_equal(after[name], scores)
    whole = Store("memory://grand-at-once")
    assert epochs_of(split, whole, GRAND) == 20
    np.testing.assert_array_equal(findings_of(split, RECIPE, GRAND, 0, whole, device="cpu")["grand"], after["grand"])


def test_gradient_norms_leave_the_network_and_its_dynamics_as_they_are(split):
    alone, probed = Store("memory://alone"), Store("memory://probed")
    score_member(split, RECIPE, Needs(), 0, alone, device="cpu")
    score_member(split, RECIPE, GRAND, 0, probed, device="cpu")
    network = identity(Prepared(split), RECIPE, Treatment(), 0, "cpu")
    np.testing.assert_array_equal(alone.get(network)["test"], probed.get(network)["test"])
    plain, beside = (findings_of(split, RECIPE, Needs(), 0, store, device="cpu") for store in (alone, probed))
    for name, scores in plain.items():
        np.testing.assert_array_equal(beside[name], scores)


def test_a_scoring_member_beyond_the_ensemble_is_only_the_controls(split, store):
    more = dataclasses.replace(RECIPE, members=3, epochs=1)
    score_member(split, more, GRAND, 2, store, device="cpu")
    assert set(findings_of(split, more, GRAND, 2, store, device="cpu")).isdisjoint({"grand", "grand_init"})


def test_a_treatment_can_prune_by_grand(store):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    result = run(Treatment(estimator="grand", prune="dataset", prune_rate=0.3), DIGITS, recipe, store)
    assert sum(row.count for row in result.classes) == round(0.7 * 150)


def test_the_score_is_the_mean_over_all_members_and_a_damaged_one_is_said(split, store):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    prepared = prepare(split, recipe, needs_of([Treatment(alpha=1, policy="shift")]), store)
    members = [findings_of(split, recipe, Needs(), i, store, device="cpu")["aum"] for i in range(2)]
    np.testing.assert_array_equal(prepared.scores["aum"], ensemble_scores(members))
    file = next(Path(store.root, "dynamics").glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-8] + b"bit rot!")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(
            InputError, match=r"the dynamics of scoring member . cannot be read .* run the same command again"
        ),
    ):
        gather(split, recipe, Needs(frozenset({"aum"})), store, device="cpu")


def test_features_that_are_not_there_are_said_and_not_made(split, store):
    needs = Needs(frozenset({"rmd"}), features=True)
    with pytest.raises(InputError, match=r"the features from encoder 'pixels' cannot be read from .* run the same"):
        gather(split, RECIPE, needs, store, device="cpu")
    assert not store.entries()
    made = prepare(split, RECIPE, needs_of([Treatment(entropy_weight=0.1)]), store)
    found = gather(split, RECIPE, needs, store, device="cpu")
    np.testing.assert_array_equal(found.scores["rmd"], made.scores["rmd"])


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Real digits, each shifted by one pixel to the left: none is in the training data."""
    shifted = np.roll(DIGITS.train.images, -1, axis=2)
    path = tmp_path_factory.mktemp("pool") / "pool.npz"
    np.savez(path, images=shifted, labels=DIGITS.train.labels)
    return load_pool(path, DIGITS)


@pytest.mark.parametrize("oversample", ["pool_random", "pool_hard", "pool_mean"])
def test_a_treatment_adds_images_of_the_pool(pool, oversample):
    recipe = dataclasses.replace(RECIPE, epochs=2)
    # The estimator is called as what the ensemble has in the pool is, and is another thing.
    treatment = Treatment(alpha=1, policy="shift", estimator="confidence", oversample=oversample)
    result = run(treatment, DIGITS, recipe, pool=pool)
    assert sum(row.count for row in result.classes) == 150
    assert max(row.count for row in result.classes) > 15


def test_the_pool_is_judged_by_every_scoring_member_once(split, pool, store):
    with_pool = dataclasses.replace(split, pool=pool)
    treatment = Treatment(alpha=1, policy="shift", oversample="pool_hard")
    prepared = prepare(with_pool, RECIPE, needs_of([treatment]), store)
    network = train_network(Prepared(split), RECIPE, Treatment(), 1, device="cpu")

    def probabilities(samples):
        images = DeviceImages(samples.images, mean=split.mean, std=split.std, device="cpu")
        with torch.inference_mode():
            p = network.eval()(images.batch(torch.arange(len(samples)))).softmax(1)
        return p[torch.arange(len(samples)), torch.from_numpy(samples.labels)].numpy()

    found = findings_of(with_pool, RECIPE, Needs(pool=True), 1, store, device="cpu")
    np.testing.assert_allclose(found["pool_confidence"], probabilities(pool), atol=2e-2)  # bfloat16 where there is AMX
    real = probabilities(split.train)
    by_class = [real[split.train.labels == k].mean() for k in range(10)]
    np.testing.assert_allclose(found["class_confidence"], by_class, atol=2e-2)

    other = findings_of(with_pool, RECIPE, Needs(pool=True), 0, store, device="cpu")
    mean = (found["pool_confidence"].astype(np.float64) + other["pool_confidence"]) / 2
    np.testing.assert_allclose(prepared.pool.confidence, mean, rtol=1e-6)
    both = (found["class_confidence"] + other["class_confidence"]) / 2
    np.testing.assert_allclose(prepared.pool.class_confidence, both, rtol=1e-6)
    assert epochs_of(with_pool, store, Needs(pool=True)) == 0
    # A treatment that leaves the pool alone does without a judgement.
    assert prepare(with_pool, RECIPE, needs_of([Treatment(alpha=1, policy="shift")]), store).pool.confidence is None


def test_random_images_of_the_pool_need_no_scoring_ensemble_and_are_the_same_beside_a_judgement(split, pool, tmp_path):
    with_pool = dataclasses.replace(split, pool=pool)
    random, hard = (
        Treatment(alpha=1, policy="shift", estimator="kmeans", oversample=how) for how in ("pool_random", "pool_hard")
    )
    told = []
    alone = prepare(with_pool, RECIPE, needs_of([random]), Store(tmp_path), on_member=lambda *_: told.append("alone"))
    both = needs_of([random, hard])
    beside = prepare(with_pool, RECIPE, both, Store(tmp_path), on_member=lambda *_: told.append("beside"))
    assert told == ["beside"] * 2
    assert identity(alone, RECIPE, random, 0, "cpu") == identity(beside, RECIPE, random, 0, "cpu")
    assert plan_arguments(beside, random)["pool"].confidence is None, "it does not depend on what it did not ask for"
    assert plan_arguments(beside, hard)["pool"].confidence is not None
    run_trial(random, alone, RECIPE)


def test_what_an_estimator_makes_of_features_is_seen_before_the_ensemble_is_trained(split, store, monkeypatch):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    monkeypatch.setattr(Dynamics, "update", lambda *_: pytest.fail("a network was trained"))

    @estimator("mine")
    def mine(features, labels, num_classes, seed):
        return np.where(np.arange(len(labels)) == 3, 1e300, features[:, 0])

    treatment = Treatment(alpha=1, policy="shift", entropy_weight=0.1, entropy_estimator="mine")
    with pytest.raises(InputError, match=r"estimator 'mine' gives scores that are not finite .* first for .* sample 3"):
        prepare(split, RECIPE, needs_of([treatment]), store)


def test_judging_a_large_pool_in_parts_changes_nothing(split, pool, monkeypatch):
    network = build_model(RECIPE, (8, 8, 1), 10, seed=0, device="cpu")
    whole = scoring_member._confidence(network, split, pool, "cpu")
    monkeypatch.setattr(scoring_member, "_ON_DEVICE", 7)
    np.testing.assert_allclose(scoring_member._confidence(network, split, pool, "cpu"), whole, atol=1e-5)


def test_another_pool_is_judged_anew_and_makes_other_networks(split, pool, store):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    treatment = Treatment(alpha=1, policy="shift", oversample="pool_random")
    other = dataclasses.replace(pool, images=255 - pool.images)
    keys = []
    for each in (pool, other):
        split = dataclasses.replace(split, pool=each)
        prepared = prepare(split, recipe, needs_of([treatment]), store)
        keys.append(identity(prepared, recipe, treatment, 0, "cpu"))
    assert keys[0] != keys[1]
    first, second = (key["used"] for key in keys)
    assert first["aum"] == second["aum"]  # the scores do not depend on the pool
    judged = [
        finding_identities(dataclasses.replace(split, pool=each), recipe, Needs(pool=True), 0, "cpu")["pool"]
        for each in (pool, other)
    ]
    assert judged[0] != judged[1]


def test_a_pool_in_shared_memory_is_never_written(split, pool):
    recipe = dataclasses.replace(RECIPE, epochs=1)
    before = pool.images.copy()
    pool.images.setflags(write=False)
    pool.labels.setflags(write=False)
    treatment = Treatment(alpha=1, policy="shift", oversample="pool_mean")
    prepared = prepare(dataclasses.replace(split, pool=pool), recipe, needs_of([treatment]), Store("memory://shared"))
    run_trial(treatment, prepared, recipe)
    np.testing.assert_array_equal(pool.images, before)


@pytest.mark.parametrize(
    ("treatment", "says"),
    [
        (Treatment(alpha=1, oversample="pool_hard"), "oversampling 'pool_hard' needs a pool of synthetic images"),
        (Treatment(alpha=1, oversample="pool_hard", prune="class", prune_rate=0.1), "needs a pool"),
        (Treatment(alpha=1, oversample="nonsense"), "unknown oversampling 'nonsense': choose from"),
        (Treatment(alpha=1, estimator="rmd"), "estimator 'rmd' are centred .* choose policy 'shift', or .* 'md'"),
        (Treatment(alpha=1, estimator="rmd", policy="margin"), "policy 'margin' needs hardness above 0"),
        (
            Treatment(alpha=1, policy="margin"),
            "'aum' is in logits: choose estimator 'margin' or 'confidence', or policy",
        ),
    ],
)
def test_what_cannot_work_is_said_before_a_network_is_trained(treatment, says, monkeypatch):
    monkeypatch.setattr(Dynamics, "update", lambda *_: pytest.fail("a network was trained"))
    with pytest.raises(InputError, match=says):
        run(treatment, DIGITS, RECIPE)


def test_a_centred_estimator_may_prune_or_weight_entropies_under_any_policy():
    recipe = dataclasses.replace(RECIPE, epochs=1, members=1)
    run(Treatment(estimator="rmd", prune="class", prune_rate=0.2, entropy_weight=0.1), DIGITS, recipe)


def test_a_member_that_is_trained_for_gradient_norms_alone_keeps_the_answers_that_it_gave(split, store):
    network = identity(Prepared(split), RECIPE, Treatment(), 0, "cpu")
    score_member(split, RECIPE, Needs(), 0, store, device="cpu")
    before = store.get(network)
    assert epochs_of(split, store, GRAND) == early_epoch(RECIPE)
    after = store.get(network)
    assert before.keys() == after.keys()
    for name, answers in before.items():
        np.testing.assert_array_equal(after[name], answers)


def test_whoever_prepares_is_told_of_each_member_of_the_scoring_ensemble(split, store):
    told = []
    short = dataclasses.replace(RECIPE, epochs=1)
    prepare(split, short, needs_of([Treatment(alpha=1)]), store, on_member=lambda *told_of: told.append(told_of))
    assert told == [(1, 2), (2, 2)]


def test_hard_classes_are_the_same_whether_or_not_a_treatment_needs_scores(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=2, scoring_members=5)
    for seed in range(3):
        recipe = dataclasses.replace(recipe, seed=seed)
        split, store = DIGITS.hold_out(0.25, seed), Store(tmp_path)
        scored = prepare(split, recipe, needs_of([Treatment(alpha=1, policy="shift")]), store)
        control = prepare(split, recipe, needs_of([Treatment()]), store)
        assert scored.hard_classes is not None
        np.testing.assert_array_equal(scored.hard_classes, control.hard_classes)


def test_scores_of_ones_own_decide_class_sizes_without_a_scoring_ensemble_and_new_ones_give_new_networks(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    file, labels = tmp_path / "mine.npy", DIGITS.train.labels
    np.save(file, np.full(len(labels), np.inf))
    estimator("mine", of="data")(lambda split: np.load(file)[split.kept])
    recipe, treatment = dataclasses.replace(RECIPE, epochs=1), Treatment(alpha=1, estimator="mine", policy="shift")
    with pytest.raises(InputError, match="estimator 'mine' gives scores that are not finite"):
        check_trials(DIGITS.hold_out(0.25, 0), recipe, [treatment])
    np.save(file, labels / 9)
    store, scored = Store(tmp_path / "store"), []
    first = run(treatment, DIGITS, recipe, store, on_scored=lambda *done: scored.append(done))
    counts = [row.count for row in first.classes]
    assert (np.diff(counts) > 0).all(), "the higher the label, the harder, and the more samples"
    assert scored == []
    np.save(file, 1 - labels / 9)
    again = run(treatment, DIGITS, recipe, store)
    assert [row.count for row in again.classes] == counts[::-1]
    assert not np.array_equal(again.test_logits, first.test_logits)
