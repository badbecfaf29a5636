import numpy as np
import pytest

from hardtune.evaluation import Predictions, diagnose, evaluate, reliability, risk_coverage
from hardtune.evaluation.calibration import class_ece, class_overconfidence


@pytest.fixture(scope="module")
def ensemble():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 230)
    return 2 * rng.normal(size=(3, 230, 4)) + 2 * np.eye(4)[labels], labels


def test_the_members_diagram_is_that_of_all_their_predictions_together(ensemble):
    logits, labels = ensemble
    pooled = reliability(Predictions.of(logits.reshape(-1, 4), np.tile(labels, 3)))
    curves = diagnose(logits, labels).members
    filled = pooled.counts > 0
    np.testing.assert_allclose(curves.confidence, pooled.confidence[filled], rtol=1e-12)
    np.testing.assert_allclose(curves.accuracy, pooled.accuracy[filled], rtol=1e-12)
    np.testing.assert_allclose(curves.share, pooled.counts[filled] / (3 * 230), rtol=1e-12)
    gap = np.abs(curves.accuracy - curves.confidence)
    assert gap @ curves.share == pytest.approx(pooled.error)
    assert curves.share.sum() == pytest.approx(1)
    assert (np.diff(curves.confidence) > 0).all()


def test_risk_at_full_coverage_is_the_error_rate_and_at_less_that_of_the_most_confident(ensemble):
    logits, labels = ensemble
    curves = diagnose(logits, labels)
    accuracies = [evaluate(one, labels)["accuracy"] for one in logits]
    assert curves.members.risk[-1] == pytest.approx(1 - np.mean(accuracies))
    member = diagnose(logits[:1], labels).members
    coverage, risk = risk_coverage(Predictions.of(logits[0], labels))
    assert member.risk.shape == (100,)
    assert member.risk[49] == risk[np.searchsorted(coverage, 0.5)]
    assert member.risk[89] == pytest.approx(1 - evaluate(logits[0], labels)["accuracy_at_90"])


@pytest.mark.parametrize("samples", [30, 100])  # 0.07 · 100 is a little more than 7
def test_coverages_are_rounded_up_to_whole_samples(ensemble, samples):
    logits, labels = ensemble[0][:1, :samples], ensemble[1][:samples]
    _, risk = risk_coverage(Predictions.of(logits[0], labels))
    kept = [-(-samples * percent // 100) for percent in range(1, 101)]
    np.testing.assert_array_equal(diagnose(logits, labels).members.risk, risk[np.array(kept) - 1])


def test_classes_are_averaged_over_members(ensemble):
    logits, labels = ensemble
    found = diagnose(logits, labels)
    each = [class_overconfidence(Predictions.of(one, labels)) for one in logits]
    np.testing.assert_allclose(found.class_overconfidence, np.mean(each, axis=0))
    each = [class_ece(Predictions.of(one, labels)) for one in logits]
    np.testing.assert_allclose(found.class_ece, np.mean(each, axis=0))


def test_a_single_member_is_its_own_ensemble(ensemble):
    logits, labels = ensemble
    found = diagnose(logits[:1], labels)
    np.testing.assert_allclose(found.members.risk, found.ensemble.risk)
    np.testing.assert_allclose(found.members.confidence, found.ensemble.confidence)


def test_a_bin_with_a_single_sample_is_on_the_curve():
    curves = diagnose([[[0.1, 0.0], [1.0, 0.0], [0.0, 9.0]]], [0, 1, 1]).members
    np.testing.assert_allclose(curves.share, [1 / 3] * 3)
    np.testing.assert_allclose(curves.accuracy, [1, 0, 1])
