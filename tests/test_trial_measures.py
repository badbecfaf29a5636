"""What a trial measures beside accuracy: hard classes, weights, foreign and corrupted images."""

import dataclasses
import json

import numpy as np
import pytest
from ray import tune

from hardtune import Recipe, Store, Treatment, load, run
from hardtune.answers import corruption_pairs
from hardtune.checks import class_plans
from hardtune.errors import InputError
from hardtune.evaluation import Predictions, class_recall, evaluate_members
from hardtune.evaluation.ood import OOD_SCORES, ood_metrics
from hardtune.evaluation.recall import class_f1
from hardtune.hardness.estimators import class_hardness
from hardtune.member import plan_for, trained_on, weights_for
from hardtune.needs import Needs, needs_of
from hardtune.report.metric_names import UNSEEN, always_measured, figures_of_members
from hardtune.report.records import CONTROL, Record
from hardtune.scoring import hard_classes, prepare
from hardtune.scoring_member import score_member
from hardtune.sweep import Sweep
from hardtune.sweep.trainable import record_of
from hardtune.sweep.trials import limits_of
from hardtune.training.weights import entropy_weights
from hardtune.trial import run_trial

RECIPE = Recipe(
    model="small_cnn",
    epochs=2,
    batch_size=64,
    flip=False,
    crop_padding=1,
    members=2,
    scoring_members=3,
    validation=0.25,
    encoder="pixels",
)
RESAMPLED = Treatment(alpha=1.0, policy="shift", estimator="el2n")
SOFTENED = Treatment(entropy_weight=0.2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def split():
    plain = load("digits").subset(classes=10, train=30, test=10, seed=0).hold_out(RECIPE.validation, RECIPE.seed)
    return dataclasses.replace(
        plain, ood=255 - plain.test.images[:60], corruptions=corruption_pairs(["contrast", "fog"], [1, 5])
    )


@pytest.fixture(scope="module")
def prepared(split, store):
    return prepare(split, RECIPE, needs_of([RESAMPLED, SOFTENED]), store)


@pytest.fixture(scope="module")
def result(prepared, store):
    return run_trial(SOFTENED, prepared, RECIPE, store)


def test_hard_classes_are_those_that_alpha_1_gives_more_than_their_share(split):
    labels = split.train.labels
    means = np.array([4.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    # 1/h is 0.25, 1.0 and 0.5 eight times; its mean 0.525 is above 0.5.
    assert np.flatnonzero(hard_classes(-means[labels].astype(np.float32), split)).tolist() == [1]
    # Where a mean AUM is below 0 its inverse would be negative, and no class hard by it.
    means[1] = -1.0
    assert np.flatnonzero(hard_classes(-means[labels].astype(np.float32), split)).tolist() == [1]
    # Of equally hard classes none gets more.
    assert not hard_classes(np.full(len(labels), -2.0, np.float32), split).any()


def test_every_trial_compares_the_same_hard_classes_whatever_its_estimator(prepared, store):
    members = [prepared.scores["el2n"]]
    hard = prepared.hard_classes
    assert 0 < hard.sum() < 10
    assert class_hardness(members[0], prepared.split.train.labels, 10).shape == hard.shape
    for treatment in (RESAMPLED, SOFTENED, Treatment()):
        found = run_trial(treatment, prepared, RECIPE, store)
        recall = found.test.recall.mean(axis=0)
        gap = recall[~hard].mean() - recall[hard].mean()
        assert found.metrics()["test/recall_hard_easy"] == pytest.approx(gap)


def test_without_a_scoring_ensemble_nobody_knows_the_hard_classes(split, tmp_path):
    prepared = prepare(split, RECIPE, needs_of([SOFTENED]), Store(tmp_path))
    assert prepared.hard_classes is None
    assert "final/recall_hard_easy" not in run_trial(SOFTENED, prepared, RECIPE).metrics()


def test_members_that_only_score_are_shown_no_foreign_images(split, store, prepared):
    kinds = {path.parent.name for path in store_files(store)}
    assert {"ood", "corruptions"} <= kinds
    # Two control members and the trials of this module; never three of the control.
    alone = Store(f"{store.root}-alone")
    for member in range(3):
        score_member(split, RECIPE, Needs(), member, alone, device="cpu")
    assert len(list(store_files(alone, "ood"))) == len(list(store_files(alone, "corruptions"))) == RECIPE.members
    assert len(list(store_files(alone, "dynamics"))) == RECIPE.scoring_members


def store_files(store, kind="*"):
    from pathlib import Path

    return Path(store.root).glob(f"{kind}/*.safetensors")


def test_scores_stay_to_the_byte_when_a_network_is_trained_again_to_be_asked_more(split, tmp_path):
    store = Store(tmp_path)
    plain = dataclasses.replace(split, ood=None, corruptions=())
    assert score_member(plain, RECIPE, Needs(), 0, store, device="cpu")
    (scores,) = store_files(store, "dynamics")
    written = scores.stat().st_mtime_ns
    assert score_member(split, RECIPE, Needs(), 0, store, device="cpu")
    assert scores.stat().st_mtime_ns == written
    assert len(list(store_files(store, "ood"))) == 1


def test_foreign_images_are_measured_by_every_score_for_every_member(result, prepared, store):
    metrics = result.metrics()
    assert len(result.ood) == RECIPE.members
    for score in (*OOD_SCORES, "mahalanobis"):
        for figure in ("auroc", "aupr_in", "aupr_out", "fpr95"):
            values = [member[f"{score}_{figure}"] for member in result.ood]
            assert metrics[f"ood/{score}_{figure}"] == pytest.approx(np.mean(values))
            assert metrics[f"ood_std/{score}_{figure}"] == pytest.approx(np.std(values, ddof=1))
    inverted = ood_metrics([0.0], [1.0])
    assert inverted["auroc"] == 1.0, "higher scores are outside"
    assert metrics["ood/mahalanobis_auroc"] > 0.9


def test_corruptions_have_a_row_each_and_two_means(result):
    metrics, rows = result.metrics(), result.corruption_table()
    assert [(row["kind"], row["severity"]) for row in rows] == [
        ("contrast", 1),
        ("contrast", 5),
        ("fog", 1),
        ("fog", 5),
    ]
    assert metrics["corruptions/accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in rows]), rel=1e-5)
    assert metrics["corruptions/ece"] == pytest.approx(np.mean([row["ece"] for row in rows]), rel=1e-5)
    assert set(rows[0]) == {"kind", "severity", "accuracy", "accuracy_std", "ece", "ece_std"}
    assert len([name for name in metrics if name.startswith("corruptions")]) == 4


def test_each_members_figures_are_kept_for_pairing(result):
    by_member = result.by_member()
    assert all(len(values) == RECIPE.members for values in by_member.values())
    assert {name.partition("/")[0] for name in by_member} == {"final", "test", "ood", "corruptions"}
    metrics = result.metrics()
    assert all(metrics[name] == pytest.approx(np.mean(values)) for name, values in by_member.items())
    for prefix, summary in (("ensemble", result.held_out), ("test_ensemble", result.test)):
        assert summary.ensemble == {name: metrics[f"{prefix}/{name}"] for name in summary.ensemble}


def test_intervals_over_images_can_be_had_for_every_figure_but_those_of_held_out_samples(result, split):
    assert result.left_out.keys() == figures_of_members(["test", "ood", "corruptions"]).keys()
    record = record_of(3, result, split, {})
    some = ("test/accuracy", "test/recall_gap", "test/nll_scaled", "test/recall_hard_easy")
    for name in (*some, "ood/msp_auroc", "ood/mahalanobis_aupr_in", "corruptions/accuracy", "corruptions/ece"):
        assert len(record.left_out[name]) == 20
        assert np.mean(record.left_out[name]) == pytest.approx(result.metrics()[name], abs=0.02)
    accuracy = result.metrics()["corruptions/accuracy"]  # whose parts, of equal size, average to the whole
    assert np.mean(record.left_out["corruptions/accuracy"]) == pytest.approx(accuracy, abs=1e-5)


def test_recall_of_each_class_is_recorded_by_network_and_without_parts_of_its_images(result, split):
    record = record_of(3, result, split, {})
    assert list(record.recalls) == list(split.classes)
    for name, recall in record.recalls.items():
        assert len(recall["members"]) == RECIPE.members
        assert np.mean(recall["members"]) == pytest.approx(record.per_class[name]["test_recall"])
        assert len(recall["left_out"]) == 10, "one for each of its images"
        assert np.mean(recall["left_out"]) == pytest.approx(np.mean(recall["members"]))
    assert json.loads(json.dumps(record.recalls)) == record.recalls


def test_a_trial_may_be_worse_than_the_control_by_what_the_sweep_allows(result, split):
    space = {"alpha": tune.uniform(0, 1), "policy": "shift"}
    figures = record_of(3, result, split, {}).metrics
    control = Record(CONTROL, Treatment(), "finished", {name: value + 0.01 for name, value in figures.items()})
    for limited, shortfall in (
        (("final/accuracy",), 0.01),
        ({"final/accuracy": 0.004}, 0.006),
        ({"final/accuracy": 0.02, "final/ece": 0.0}, 0.0),  # an ECE that is lower is better
    ):
        sweep = Sweep("any", "digits", RECIPE, space, no_worse_than_control=limited)
        found = record_of(3, result, split, limits_of(sweep, control))
        assert max(found.shortfall, 0) == pytest.approx(shortfall)
    above = dataclasses.replace(control, metrics={name: value - 0.01 for name, value in figures.items()})
    sweep = Sweep("any", "digits", RECIPE, space, no_worse_than_control={"final/ece": 0.003})
    assert record_of(3, result, split, limits_of(sweep, above)).shortfall == pytest.approx(0.007)


def test_comparisons_may_be_of_exactly_the_figures_that_members_have(result):
    # A temperature is neither better nor worse.
    assert result.by_member().keys() - {"test/temperature"} == figures_of_members().keys()
    on_test = dataclasses.replace(RECIPE, epochs=1, members=1, scoring_members=1, validation="test")
    found = run(RESAMPLED, load("digits").subset(classes=10, train=10, test=5, seed=0), on_test).by_member()
    assert found.keys() == figures_of_members(["final", "test"], scaled=False).keys()


def test_nothing_measured_with_the_test_split_can_be_searched_by_its_name(result):
    searched = {name for name in result.metrics() if not name.startswith(UNSEEN)}
    assert {name.partition("/")[0] for name in searched} == {"final", "final_std", "ensemble", "weights"}
    assert "final/recall_hard_easy" in always_measured()


def weights_of(prepared, treatment, member):
    """(P,) of all that an epoch of the member trains on."""
    plan = plan_for(prepared, RECIPE, treatment, member)
    return weights_for(prepared, RECIPE, treatment, member, plan)[trained_on(plan)]


def test_weights_are_reported_by_mean_spread_and_quantiles(result, prepared):
    weights = weights_of(prepared, SOFTENED, 0)
    metrics = result.metrics()
    assert metrics["weights/q50"] == pytest.approx(np.median(weights))
    assert metrics["weights/mean"] == pytest.approx(weights.mean(), rel=1e-5)
    assert result.weights.histogram.sum() == len(weights)
    assert result.warning == ""


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"temperature": 0.02, "entropy_scale": "raw"}, "the median entropy weight is"),
        ({"temperature": 1e4}, "the entropy weights barely differ"),
        ({"temperature": 1e4, "entropy_target": "mean"}, ""),
        ({"entropy_target": "constant"}, ""),
    ],
)
def test_weights_that_cannot_do_what_the_treatment_says_are_warned_of(prepared, store, changes, says):
    treatment = dataclasses.replace(SOFTENED, **changes)
    assert run_trial(treatment, prepared, RECIPE, store).warning.startswith(says)
    assert says or run_trial(treatment, prepared, RECIPE, store).warning == ""


def test_every_member_has_a_permutation_of_its_own_of_the_same_weights(prepared):
    shuffled = dataclasses.replace(SOFTENED, entropy_target="shuffled")
    first, second = (weights_of(prepared, shuffled, member) for member in (0, 1))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    np.testing.assert_array_equal(first, weights_of(prepared, shuffled, 0))
    plain = [weights_of(prepared, SOFTENED, member) for member in (0, 1)]
    np.testing.assert_array_equal(*plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 2.0},
        {"alpha": 2.0, "oversample": "smote"},
        {"alpha": 2.0, "undersample": "reweight", "oversample": "reweight"},
        {"prune": "class", "prune_rate": 0.5},
        {"prune": "hardest", "prune_rate": 0.3},
    ],
)
def test_controls_are_of_the_methods_strength_also_over_a_harder_or_easier_training_set(prepared, changes):
    def strength(target):
        treatment = dataclasses.replace(RESAMPLED, **{"alpha": 0.0, **changes}, entropy_weight=0.2)
        treatment = dataclasses.replace(treatment, entropy_estimator="el2n", entropy_target=target)
        plan = plan_for(prepared, RECIPE, treatment, 0)
        samples = trained_on(plan)
        s = weights_for(prepared, RECIPE, treatment, 0, plan)[samples]
        return np.average(s, weights=plan.class_weights[prepared.split.train.labels[samples]])

    assert strength("mean") == pytest.approx(strength("difficulty"), rel=1e-5)
    assert strength("shuffled") == pytest.approx(strength("difficulty"), rel=0.015)  # at most 1
    everything = entropy_weights("mean", prepared.scores_of("el2n"))[0]
    assert abs(everything / strength("difficulty") - 1) > 0.01, "all samples are otherwise difficult"


def test_one_call_measures_shifted_images_too():
    recipe = dataclasses.replace(RECIPE, members=1, epochs=1)
    dataset = load("digits").subset(classes=10, train=10, test=5, seed=0)
    metrics = run(Treatment(), dataset, recipe, ood="rotated", corruptions=["fog"], severities=[2]).metrics()
    assert {"ood/msp_auroc", "corruptions/ece"} <= metrics.keys()
    with pytest.raises(InputError, match="unknown corruption 'smog'"):
        run(Treatment(), dataset, recipe, corruptions=["smog"])


def test_a_record_tells_each_class_with_its_spread_in_json_for_every_parser(prepared, split):
    few = np.flatnonzero(split.test.labels > 0)
    without = dataclasses.replace(
        prepared, split=dataclasses.replace(split, test=split.test.take(few), ood=None, corruptions=())
    )
    treatment = dataclasses.replace(RESAMPLED, undersample="reweight", oversample="adjust")
    after = dataclasses.replace(RESAMPLED, undersample="posthoc", oversample="posthoc")
    result = run_trial(treatment, without, RECIPE)
    record = record_of(0, result, without.split, bounds={})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    told = json.loads(json.dumps(dataclasses.asdict(record)), parse_constant=refuse)["per_class"]
    assert told[split.classes[0]]["test_recall"] is told[split.classes[0]]["test_recall_std"] is None
    assert [told[name]["test_size"] for name in split.classes] == np.bincount(without.split.test.labels).tolist()
    assert told[split.classes[0]]["test_size"] == 0
    recall = np.stack(
        [class_recall(Predictions.of(logits, without.split.test.labels)) for logits in result.test_logits]
    )
    assert told[split.classes[3]]["test_recall"] == pytest.approx(recall[:, 3].mean())
    assert told[split.classes[3]]["test_recall_std"] == pytest.approx(recall[:, 3].std(ddof=1))
    guesses = result.test_logits.argmax(axis=2)
    right = [(without.split.test.labels[guess == 3] == 3).mean() for guess in guesses]
    assert told[split.classes[3]]["test_precision"] == pytest.approx(np.mean(right))
    assert told[split.classes[3]]["test_precision_std"] == pytest.approx(np.std(right, ddof=1))
    assert told[split.classes[0]]["test_precision"] is told[split.classes[0]]["test_f1"] is None
    never = result.test_logits.copy()
    never[0, :, 3] = -99  # the first network predicts anything but class 3
    tested = evaluate_members(never, without.split.test.labels)
    record = record_of(0, dataclasses.replace(result, test=tested), without.split, bounds={})
    quiet = json.loads(json.dumps(dataclasses.asdict(record)), parse_constant=refuse)["per_class"][split.classes[3]]
    assert quiet["test_precision"] is quiet["test_precision_std"] is None, "a mean over the others is of other networks"
    assert quiet["test_f1"] == pytest.approx(class_f1(Predictions.of(never[1], without.split.test.labels))[3] / 2)
    plans = class_plans(without, treatment)
    assert [told[name]["weight"] for name in split.classes] == pytest.approx([row.weight for row in plans])
    assert [told[name]["offset"] for name in split.classes] == pytest.approx([row.offset for row in plans])
    posthoc = record_of(0, run_trial(after, without, RECIPE), without.split, bounds={}).per_class
    expected = [row.posthoc for row in class_plans(without, after)]
    assert [posthoc[name]["posthoc"] for name in split.classes] == pytest.approx(expected)
    assert {told[name]["posthoc"] for name in split.classes} == {0} != set(expected)
    assert [told[name]["hardness"] for name in split.classes] == pytest.approx([row.hardness for row in plans])
    assert min(row.weight for row in plans) < 1
    assert max(row.offset for row in plans) > 0
