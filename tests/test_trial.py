"""One treatment in, one result out; the same one every time, and never by way of the test split."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from hardtune import Recipe, Store, Treatment, load, member, run, trial
from hardtune.errors import DivergedError, HardtuneWarning, InputError
from hardtune.evaluation import METRICS, Metric, averaged_softmax, class_recall, evaluate, fit_temperature, metric
from hardtune.member import Prepared, epochs_of, identity, plan_for, train_member, train_network, weights_for
from hardtune.needs import Needs, needed_scores, needs_of
from hardtune.report.metric_names import always_measured
from hardtune.scoring import prepare
from hardtune.scoring_member import score_member
from hardtune.sweep.trainable import TrialContext, carry_out
from hardtune.training.losses import LOSSES, Loss, entropy
from hardtune.training.models import MODELS
from hardtune.trial import run_trial

RECIPE = Recipe(
    model="small_cnn",
    epochs=2,
    batch_size=64,
    flip=False,
    crop_padding=1,
    members=2,
    scoring_members=2,
    validation=0.25,
    encoder="pixels",
)
NEEDS = Needs()
TREATMENT = Treatment(alpha=1.0, policy="shift", oversample="smote", entropy_weight=0.2)


@pytest.fixture(scope="module")
def split():
    return load("digits").subset(classes=10, train=30, test=10, seed=0).hold_out(RECIPE.validation, RECIPE.seed)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def prepared(split, store):
    return prepare(split, RECIPE, needs_of([TREATMENT]), store)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_metric_of_ones_own_that_is_not_a_number_fails_the_trial_for_good_in_a_sentence(
    prepared, store, monkeypatch, value
):
    """It is the same if it is tried again: an error of the input, which a sweep records as the trial's reason."""
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))  # forget it afterwards

    @metric("odd", better="min")
    def odd(predictions):
        return value

    with pytest.raises(InputError, match=f"metric 'odd' is {value}, and must be a finite number for any predictions"):
        run_trial(Treatment(), prepared, RECIPE, store)


def test_a_metric_of_ones_own_that_counts_the_images_costs_its_own_intervals_their_part(prepared, store, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    groups = {len(samples): np.arange(len(samples)) % 2 for samples in (prepared.split.test, prepared.split.held_out)}

    @metric("in_groups", better="max")
    def in_groups(predictions):
        return float(predictions.correct[groups[len(predictions.labels)] == 1].mean())

    says = "without a part of the images, metric 'in_groups' fails: KeyError.*, so its intervals are over seeds alone"
    with pytest.warns(HardtuneWarning, match=says):
        result = run_trial(Treatment(), prepared, RECIPE, store)
    judged = result.test.members[0].keys() - {"in_groups", "temperature"}
    assert result.left_out.keys() == {f"test/{name}" for name in judged}
    assert len(result.by_member()["test/in_groups"]) == RECIPE.members

    @metric("large", better="max")
    def large(predictions):
        if len(predictions.labels) not in groups:
            raise MemoryError
        return 0.5

    with pytest.raises(InputError, match="metric 'large' fails: MemoryError"):  # which is tried again
        run_trial(Treatment(), prepared, RECIPE, store)


@pytest.mark.parametrize(("error", "again"), [(MemoryError(), True), (ValueError("odd"), False)])
def test_a_trial_that_memory_or_a_disk_failed_is_tried_again_and_another_is_not(
    prepared, store, monkeypatch, error, again
):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    # Its process is this one, whose other tests compare networks that the same number of threads trained.
    monkeypatch.setattr("hardtune.sweep.trainable.configure_process", lambda cpus: None)

    @metric("odd", better="min")
    def odd(predictions):
        raise error

    context = TrialContext(prepared, RECIPE, store.root, "cpu", cpus=1, at_once=1)
    if again:  # what Tune calls an error is handed out again
        with pytest.raises(InputError, match="metric 'odd' fails: MemoryError"):
            carry_out(0, Treatment(), context)
    else:
        record = carry_out(0, Treatment(), context)
        assert record.state == "failed"
        assert record.reason.startswith("metric 'odd' fails: ValueError: odd (test_trial.py:")


@pytest.mark.parametrize(
    ("raised", "again"), [(KeyError("odd"), False), (RuntimeError("CUDA error: no\nmore"), True)], ids=["bug", "device"]
)
def test_what_a_loss_of_ones_own_broke_on_is_named_with_its_line_and_only_a_device_gets_another_chance(
    prepared, monkeypatch, raised, again
):
    monkeypatch.setattr("hardtune.sweep.trainable.configure_process", lambda cpus: None)
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))

    @LOSSES.register("odd")
    class Odd(Loss):
        def forward(self, logits, labels, ids):
            raise raised

    context = TrialContext(prepared, RECIPE, "", "cpu", cpus=1, at_once=1)
    monkeypatch.setattr("hardtune.sweep.trainable.Store", lambda root: None)
    if again:
        with pytest.raises(RuntimeError, match=r"^CUDA error: no \(test_trial.py:\d+, in forward\)$"):
            carry_out(0, Treatment(loss="odd"), context)
    else:
        record = carry_out(0, Treatment(loss="odd"), context)
        assert record.state == "failed"
        assert record.reason.startswith("KeyError: 'odd' (test_trial.py:")


def test_a_loss_of_ones_own_is_suspected_where_training_diverges(prepared, monkeypatch):
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))

    @LOSSES.register("odd")
    class Odd(Loss):
        def forward(self, logits, labels, ids):
            return cross_entropy(logits, labels, reduction="none") + torch.nan

    suspected = "or entropy weight may help, unless loss 'odd' itself is not finite for some logits$"
    with pytest.raises(DivergedError, match=suspected):
        run_trial(Treatment(loss="odd"), prepared, RECIPE)


def test_one_trial_run_twice_gives_equal_metrics_to_the_bit(prepared):
    first, second = (run_trial(TREATMENT, prepared, RECIPE) for _ in range(2))
    assert first.metrics() == second.metrics()
    np.testing.assert_array_equal(first.held_out.recall, second.held_out.recall)


def test_members_that_train_beside_each_other_are_the_same_and_are_told_in_order(prepared):
    recipe = dataclasses.replace(RECIPE, members=5)
    told = []
    beside = run_trial(TREATMENT, prepared, recipe, at_once=3, on_member=lambda progress: told.append(progress.done))
    assert told == [1, 2, 3, 4, 5]
    assert beside.by_member() == run_trial(TREATMENT, prepared, recipe).by_member()


def test_a_trial_that_is_stopped_trains_no_more_members(prepared, tmp_path):
    recipe, store = dataclasses.replace(RECIPE, members=8), Store(tmp_path)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(TREATMENT, prepared, recipe, store, at_once=2, on_member=stop)
    assert 1 <= len(list(store.entries())) <= 4


def test_every_figure_is_finite_and_named_as_objectives_name_it(prepared):
    metrics = run_trial(TREATMENT, prepared, RECIPE).metrics()
    assert all(np.isfinite(value) for value in metrics.values())
    assert always_measured() <= metrics.keys()


def test_a_metric_that_these_data_break_is_named_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setitem(METRICS._entries, "third", Metric(lambda predictions: class_recall(predictions)[2], "max"))
    dataset, store = load("digits").subset(classes=2, train=20, test=10, seed=0), Store(tmp_path)
    with pytest.raises(InputError, match="metric 'third' fails: IndexError"):
        run(TREATMENT, dataset, RECIPE, store)
    assert not list(store.entries())


def test_a_model_that_does_not_fit_the_data_is_named_before_anything_is_trained(monkeypatch, tmp_path):
    small = MODELS["small_cnn"]
    monkeypatch.setitem(MODELS._entries, "mine", lambda channels, classes, size: small(channels, 1000, size))
    recipe, store = dataclasses.replace(RECIPE, model="mine"), Store(tmp_path)
    with pytest.raises(InputError, match=r"model 'mine' gives \(2, 1000\) for 2 images of 10 classes; it must give"):
        run(TREATMENT, load("digits"), recipe, store)
    assert not list(store.entries())


def test_foreign_images_are_looked_for_where_the_data_are_said_to_be(tmp_path):
    with pytest.raises(InputError, match=r"data directory '.*nowhere' is not a directory"):
        run(Treatment(), load("digits"), RECIPE, ood="cifar10", data_dir=tmp_path / "nowhere")


def test_a_trial_is_of_the_severities_and_the_pool_as_they_are_given(monkeypatch):
    data, seen = load("digits"), []
    pool = data.train.take(np.arange(20))
    before = pool.fingerprint
    pool.images.setflags(write=True)
    pool.images[0] = 255 - pool.images[0]

    def stop(split, *_, **__):
        seen.append(split)
        raise InputError("enough")

    monkeypatch.setattr(trial, "check_trials", stop)
    with pytest.raises(InputError, match="enough"):
        run(Treatment(), data, RECIPE, pool=pool, corruptions=["fog"], severities=[2])
    assert seen[0].corruptions == (("fog", 2),)
    assert seen[0].pool.fingerprint != before, "it was changed in place"


def test_a_store_that_cannot_be_written_is_said_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setattr("hardtune.member.train_network", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write results"):
        run(Treatment(), load("digits"), RECIPE, tmp_path / "file")


def test_members_differ_and_keep_their_seed_across_treatments(prepared, split):
    control = [train_member(prepared, RECIPE, Treatment(), i, device="cpu").held_out for i in (0, 1)]
    again = train_member(prepared, RECIPE, Treatment(estimator="el2n"), 0, device="cpu").held_out
    assert not np.array_equal(*control)
    np.testing.assert_array_equal(control[0], again)


def test_a_network_is_trained_on_what_its_plan_says(prepared, split):
    class Watcher:
        ids, labels = [], []

        def update(self, ids, logits, labels):
            self.ids += ids.tolist()
            self.labels += labels.tolist()

        def end_epoch(self, predict=None):
            pass

    train_network(prepared, RECIPE, TREATMENT, 1, device="cpu", observer=Watcher())
    plan = plan_for(prepared, RECIPE, TREATMENT, 1)
    assert 0 < len(plan.labels) < len(plan)
    made = np.arange(len(split.train), len(split.train) + len(plan.labels))
    assert sorted(Watcher.ids) == sorted([*plan.indices, *made] * RECIPE.epochs)
    np.testing.assert_array_equal(np.concatenate([split.train.labels, plan.labels])[Watcher.ids], Watcher.labels)
    assert not np.array_equal(plan.parents, plan_for(prepared, RECIPE, TREATMENT, 0).parents)


@pytest.mark.parametrize(
    "treatment",
    [
        Treatment(),
        Treatment(entropy_weight=0.2),
        Treatment(prune="random", prune_rate=0.5),
        Treatment(prune="random", prune_rate=0.7),
        Treatment(prune="random", prune_rate=0.5, alpha=1.0, policy="shift"),
        Treatment(alpha=2.0, policy="shift", undersample="none"),
    ],
    ids=str,
)
def test_with_a_budget_of_steps_all_treatments_take_exactly_as_many_as_the_control(prepared, split, treatment):
    class Watcher:
        def __init__(self):
            self.batches, self.epochs = [], 0

        def update(self, ids, logits, labels):
            self.batches.append(len(ids))

        def end_epoch(self, predict=None):
            self.epochs += 1

    ended, watcher = [], Watcher()
    recipe = dataclasses.replace(RECIPE, epochs=3, budget="steps", batch_size=50)
    train_network(prepared, recipe, treatment, 0, device="cpu", observer=watcher, on_epoch=ended.append)
    steps = 3 * math.ceil(len(split.train) / 50)
    assert len(watcher.batches) == steps
    per_epoch = math.ceil(len(plan_for(prepared, recipe, treatment, 0)) / 50)
    assert ended == list(range(1, math.ceil(steps / per_epoch) + 1))
    assert watcher.epochs == len(ended)
    assert epochs_of(prepared, recipe, treatment) == pytest.approx(steps / per_epoch)


def test_a_long_oversampled_run_has_fewer_epochs_of_a_budget_of_steps_and_is_compiled_like_the_others(
    prepared, split, monkeypatch
):
    monkeypatch.setattr("hardtune.training.choices._can_compile", lambda kind: True)
    grown = Treatment(alpha=2.0, policy="shift", undersample="none")
    recipe = dataclasses.replace(RECIPE, epochs=50, batch_size=50, budget="steps")
    recipe = dataclasses.replace(recipe, precision="float32", layout="channels_last")
    described = identity(prepared, recipe, grown, 0, "cpu")["recipe"]
    per_epoch = math.ceil(len(plan_for(prepared, recipe, grown, 0)) / 50)
    assert described["epochs"] == 50 * math.ceil(len(split.train) / 50) / per_epoch < 50
    assert described["compile"] is True


def test_networks_that_train_alike_with_either_budget_are_shared_and_others_are_not(prepared):
    recipe = dataclasses.replace(RECIPE, budget="steps")
    whole = [Treatment(), Treatment(loss="focal"), Treatment(alpha=1.0, policy="shift"), Treatment(estimator="el2n")]
    for treatment in whole:
        assert identity(prepared, recipe, treatment, 0, "cpu") == identity(prepared, RECIPE, treatment, 0, "cpu")
    half = Treatment(prune="random", prune_rate=0.5)
    assert identity(prepared, recipe, half, 0, "cpu") != identity(prepared, RECIPE, half, 0, "cpu")
    longer = dataclasses.replace(RECIPE, epochs=4)
    assert identity(prepared, recipe, half, 0, "cpu") == identity(prepared, longer, half, 0, "cpu")
    # 10 steps, in epochs of 3
    broken_off = identity(prepared, dataclasses.replace(recipe, batch_size=50), half, 0, "cpu")
    for epochs in (3, 4):
        whole = dataclasses.replace(RECIPE, epochs=epochs, batch_size=50)
        assert broken_off != identity(prepared, whole, half, 0, "cpu")


def test_a_synthesised_image_is_as_difficult_as_its_parent(prepared, split):
    plan = plan_for(prepared, RECIPE, TREATMENT, 0)
    objective = member._objective(prepared, RECIPE, TREATMENT, plan, 0, "cpu")
    weights = weights_for(prepared, RECIPE, TREATMENT, 0, plan)
    s = np.concatenate([weights, weights[plan.parents]])
    logits, label = torch.arange(10.0)[None] / 3, torch.tensor([4])
    for position in (0, 7, len(split.train), len(s) - 1):
        expected = cross_entropy(logits, label) - TREATMENT.entropy_weight * s[position] * entropy(logits)[0]
        assert objective(logits, label, torch.tensor([position])).item() == pytest.approx(expected.item())


def test_a_reweighted_class_counts_in_both_terms_of_the_loss(prepared, split):
    treatment = dataclasses.replace(TREATMENT, undersample="reweight", oversample="reweight")
    plan = plan_for(prepared, RECIPE, treatment, 0)
    assert plan.class_weights.min() < 1 < plan.class_weights.max()
    logits, ids = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.arange(0, 80, 10)
    labels = torch.from_numpy(split.train.labels)[ids]
    weights = torch.tensor([plan.classes[label].weight for label in labels], dtype=torch.float32)
    for strength in (0.0, 0.2):
        one = dataclasses.replace(treatment, entropy_weight=strength)
        objective = member._objective(prepared, RECIPE, one, plan, 0, "cpu")
        s = torch.from_numpy(weights_for(prepared, RECIPE, TREATMENT, 0, plan))[ids]
        losses = cross_entropy(logits, labels, reduction="none") - strength * s * entropy(logits)
        assert objective(logits, labels, ids).item() == pytest.approx((weights * losses).mean().item(), rel=1e-5)
    again, plain = (
        run_trial(t, prepared, RECIPE).test_logits for t in (treatment, dataclasses.replace(treatment, alpha=0))
    )
    assert not np.array_equal(again, plain)


def test_adjusted_logits_are_those_of_the_loss_and_not_of_predictions_or_entropy(prepared, split):
    treatment = dataclasses.replace(TREATMENT, undersample="adjust", oversample="adjust")
    plan = plan_for(prepared, RECIPE, treatment, 0)
    offsets = torch.from_numpy(plan.class_offsets)
    assert offsets.min() < 0 < offsets.max()
    logits, ids = torch.randn(8, 10, generator=torch.Generator().manual_seed(0)), torch.arange(0, 80, 10)
    labels = torch.from_numpy(split.train.labels)[ids]
    for strength in (0.0, 0.2):
        one = dataclasses.replace(treatment, entropy_weight=strength)
        objective = member._objective(prepared, RECIPE, one, plan, 0, "cpu")
        s = torch.from_numpy(weights_for(prepared, RECIPE, TREATMENT, 0, plan))[ids]
        losses = cross_entropy(logits - offsets, labels, reduction="none") - strength * s * entropy(logits)
        assert objective(logits, labels, ids).item() == pytest.approx(losses.mean().item(), rel=1e-5)


def test_a_network_of_adjusted_logits_predicts_as_if_hard_classes_had_more_samples(prepared, split):
    """One that knows nothing but the classes' sizes, for which the best logits can be written down."""
    treatment = Treatment(alpha=1.0, policy="shift", undersample="adjust", oversample="adjust")
    plan = plan_for(prepared, RECIPE, treatment, 0)
    objective = member._objective(prepared, RECIPE, treatment, plan, 0, "cpu")
    labels, logits = torch.from_numpy(split.train.labels), torch.zeros(10, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = objective(logits.expand(len(labels), -1), labels, torch.arange(len(labels)))
        value.backward()
        return value

    optimiser.step(loss)
    targets = np.array([row.target for row in plan.classes])
    np.testing.assert_allclose(logits.detach().softmax(0), targets / targets.sum(), rtol=1e-3)


def test_post_hoc_the_controls_networks_predict_as_if_hard_classes_had_more_samples(prepared, tmp_path):
    """Menon's: calibrated, the odds of a class are those of the data; they become those of targets."""
    treatment = Treatment(alpha=1.0, policy="shift", undersample="posthoc", oversample="posthoc")
    store, trained = Store(tmp_path), []
    control = run_trial(Treatment(), prepared, RECIPE, store)
    result = run_trial(treatment, prepared, RECIPE, store, on_member=lambda progress: trained.append(progress.trained))
    assert trained == [False, False], "they are the control's"
    posthoc = np.array([row.posthoc for row in result.classes], np.float32)
    rows = plan_for(prepared, RECIPE, treatment, 0).classes
    np.testing.assert_allclose(np.exp(posthoc), [row.target / row.size for row in rows], rtol=1e-6)
    assert posthoc.min() < 0 < posthoc.max()
    held_out = prepared.split.held_out.labels
    temperatures = [fit_temperature(logits, held_out) for logits in control.held_out_logits]
    shift = np.float32(temperatures)[:, None, None] * posthoc
    for part in ("test_logits", "held_out_logits"):
        np.testing.assert_array_equal(getattr(result, part), getattr(control, part) + shift)
    calibrated, tempered = (
        torch.from_numpy(one.test_logits[0] / np.float32(temperatures[0])).softmax(1) for one in (control, result)
    )
    odds = (tempered[:, 1] / tempered[:, 0]) / (calibrated[:, 1] / calibrated[:, 0])
    np.testing.assert_allclose(odds, np.exp(posthoc[1] - posthoc[0]), rtol=1e-3)
    own = evaluate(result.test_logits[1], prepared.split.test.labels, hard_classes=prepared.hard_classes)
    assert result.test.members[1].items() >= own.items()
    again = run_trial(Treatment(), prepared, RECIPE, store)
    np.testing.assert_array_equal(again.test_logits, control.test_logits)


def test_post_hoc_may_be_one_half_of_an_exchange(prepared, tmp_path):
    half, none = (Treatment(alpha=1.0, policy="shift", oversample=how) for how in ("posthoc", "none"))
    ours, theirs = (run_trial(one, prepared, RECIPE, Store(tmp_path)) for one in (half, none))
    assert [row.count for row in ours.classes] == [row.count for row in theirs.classes]
    posthoc = np.array([row.posthoc for row in ours.classes])
    assert posthoc.min() == 0 < posthoc.max()
    added = ours.test_logits - theirs.test_logits
    np.testing.assert_allclose(added, np.broadcast_to(added[:, :1], added.shape), atol=1e-4)
    assert ((added > 0) == (posthoc > 0)).all()


def test_post_hoc_without_held_out_samples_no_temperature_is_fitted(tmp_path):
    """Under the papers' protocol nothing but the test split is left, which may not decide anything."""
    recipe = dataclasses.replace(RECIPE, validation="test")
    split = load("digits").subset(classes=10, train=30, test=10, seed=0).hold_out("test", 0)
    scored = prepare(split, recipe, needs_of([TREATMENT]), Store(tmp_path))
    treatment = Treatment(alpha=1.0, policy="shift", undersample="posthoc", oversample="posthoc")
    control, result = (run_trial(one, scored, recipe, Store(tmp_path)) for one in (Treatment(), treatment))
    posthoc = np.array([row.posthoc for row in result.classes], np.float32)
    np.testing.assert_array_equal(result.test_logits, control.test_logits + posthoc)


def test_temperatures_are_fitted_on_held_out_samples_and_reported_for_the_test(prepared, split):
    result = run_trial(Treatment(), prepared, RECIPE)
    held_out = [train_member(prepared, RECIPE, Treatment(), i, device="cpu").held_out for i in range(2)]
    expected = [fit_temperature(logits, split.held_out.labels) for logits in held_out]
    assert [figures["temperature"] for figures in result.test.members] == expected
    assert result.metrics()["test/temperature"] == pytest.approx(np.mean(expected))
    together = fit_temperature(averaged_softmax(np.stack(held_out)), split.held_out.labels)
    assert result.metrics()["test_ensemble/temperature"] == together
    assert "temperature" not in result.held_out.ensemble


def test_scoring_ensemble_and_control_are_the_same_networks(prepared, split, store):
    logits = train_member(prepared, RECIPE, Treatment(), 1, device="cpu")
    found = store.get(identity(prepared, RECIPE, Treatment(), 1, "cpu"))
    np.testing.assert_array_equal(found["held_out"], logits.held_out)
    np.testing.assert_array_equal(found["test"], logits.test)


def test_what_was_trained_once_is_not_trained_again(prepared, tmp_path):
    store = Store(tmp_path)
    trained = []
    for _ in range(2):
        run_trial(TREATMENT, prepared, RECIPE, store, on_member=lambda progress: trained.append(progress.trained))
    assert trained == [True, True, False, False]
    larger = dataclasses.replace(RECIPE, members=3)
    run_trial(TREATMENT, prepared, larger, store, on_member=lambda progress: trained.append(progress.trained))
    assert trained[4:] == [False, False, True]


def test_equal_treatments_are_one(prepared, tmp_path):
    store = Store(tmp_path)
    run_trial(Treatment(alpha=0, estimator="el2n"), prepared, RECIPE, store)
    progress = []
    run_trial(
        Treatment(entropy_weight=0, entropy_target="shuffled"), prepared, RECIPE, store, on_member=progress.append
    )
    assert [step.trained for step in progress] == [False, False]


def test_a_scoring_member_in_the_store_is_not_trained_again(split, store, prepared):
    assert not score_member(split, RECIPE, NEEDS, 0, store, device="cpu")
    assert not score_member(split, dataclasses.replace(RECIPE, members=9), NEEDS, 1, store, device="cpu")


def test_a_scoring_member_that_another_node_made_meanwhile_is_not_trained_again(split, store, prepared, monkeypatch):
    """Where a file was not there, an NFS client says so for up to a minute, unless it is opened."""
    monkeypatch.setattr(Store, "__contains__", lambda store, identity: False)
    assert not score_member(split, RECIPE, NEEDS, 0, store, device="cpu")


def test_nothing_of_the_held_out_or_test_samples_reaches_training(split, prepared):
    """Other held-out and test images change what is measured, and neither scores nor plans nor networks."""
    rng = np.random.default_rng(0)

    def noise(samples):
        return dataclasses.replace(samples, images=rng.integers(0, 256, samples.images.shape, dtype=np.uint8))

    other = dataclasses.replace(split, held_out=noise(split.held_out), test=noise(split.test))
    scored = prepare(other, RECIPE, needs_of([TREATMENT]), Store("memory://noise"))
    for name, scores in prepared.scores.items():
        np.testing.assert_array_equal(scored.scores[name], scores)
    moved = dataclasses.replace(other, held_out=split.held_out)
    ours = train_member(prepared, RECIPE, TREATMENT, 0, device="cpu")
    theirs = train_member(dataclasses.replace(scored, split=moved), RECIPE, TREATMENT, 0, device="cpu")
    np.testing.assert_array_equal(ours.held_out, theirs.held_out)
    assert not np.array_equal(ours.test, theirs.test)


def test_shared_arrays_are_never_written(prepared, split):
    arrays = [split.train.images, split.train.labels, split.test.images, *prepared.scores.values(), prepared.features]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    run_trial(TREATMENT, prepared, RECIPE)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_papers_protocol_measures_on_the_test_split_and_holds_nothing_out():
    dataset = load("digits").subset(classes=3, train=20, test=10, seed=0)
    recipe = dataclasses.replace(RECIPE, validation="test", members=1)
    result = run(Treatment(), dataset, recipe)
    assert [row.count for row in result.classes] == [20, 20, 20]
    metrics = result.metrics()
    assert metrics["final/accuracy"] == metrics["test/accuracy"]
    assert "test/ece_scaled" not in metrics
    assert metrics["final_std/accuracy"] == 0, "of a single member"


def test_alpha_moves_samples_from_easy_to_hard_classes(prepared):
    scores = prepared.scores["aum"]
    labels = prepared.split.train.labels
    hardness = [scores[labels == k].mean() for k in range(10)]
    counts = [row.count for row in run_trial(TREATMENT, prepared, RECIPE).classes]
    assert sum(counts) == len(labels)
    assert counts[np.argmax(hardness)] > counts[np.argmin(hardness)]
    assert len(plan_for(prepared, RECIPE, Treatment(), 0).indices) == len(labels)


def test_needs_are_read_off_the_treatments():
    assert needed_scores(Treatment(estimator="el2n")) == set()
    assert needed_scores(Treatment(alpha=1, estimator="el2n", entropy_weight=0.1)) == {"el2n", "rmd"}
    assert needed_scores(Treatment(entropy_weight=0.1, entropy_target="constant")) == set()
    assert not needs_of([Treatment()]).ensemble
    assert needs_of([Treatment(entropy_weight=0.1)]).features
    assert needs_of([Treatment(alpha=1, oversample="smote_encoder")]).features


def test_scores_need_what_their_estimators_are_made_of():
    assert Needs.of_scores(["aum", "el2n"]) == Needs(frozenset({"aum", "el2n"}))
    assert Needs.of_scores(["aum", "rmd"]) == Needs(frozenset({"aum", "rmd"}), features=True)
    assert Needs.of_scores(["aum"]).ensemble
    assert not Needs.of_scores(["rmd"]).ensemble
    with pytest.raises(InputError, match="unknown estimator 'aumm'"):
        Needs.of_scores(["aumm"])


def test_networks_trained_by_other_scores_are_other_networks(split):
    """So that a change of how features are scored, which nothing stored names, never finds the networks of before."""
    rmd = np.linspace(-1, 1, len(split.train), dtype=np.float32)
    scored = Prepared(split, {"rmd": rmd}), Prepared(split, {"rmd": rmd[::-1].copy()})
    for treatment, used in ((Treatment(entropy_weight=0.1), True), (Treatment(), False)):
        before, after = (identity(prepared, RECIPE, treatment, 0, "cpu") for prepared in scored)
        assert (before != after) == used
    features = np.zeros((len(split.train), 3), np.float32)
    looks_into = Treatment(alpha=1.0, oversample="smote_encoder")
    encoded = (Prepared(split, {"aum": rmd}, features=features + i) for i in range(2))
    before, after = (identity(prepared, RECIPE, looks_into, 0, "cpu") for prepared in encoded)
    assert before != after


def test_a_class_with_a_mean_aum_below_zero_is_named_before_training(split):
    scores = np.where(split.train.labels == 3, 1.0, -1.0).astype(np.float32)
    prepared = Prepared(split, {"aum": scores})
    with pytest.raises(InputError, match=r"class '3' .* choose policy"):
        run_trial(Treatment(alpha=1.0), prepared, RECIPE)
