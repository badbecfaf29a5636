import itertools
import math

import numpy as np
import pytest

from hardtune.errors import InputError
from hardtune.evaluation import Predictions, risk_coverage, selective


def binary(confidences, correct):
    """Two-class predictions of these confidences (> 0.5), right or wrong."""
    c = np.asarray(confidences, float)
    return Predictions.of(np.stack([np.log(c) - np.log1p(-c), np.zeros(len(c))], axis=1), np.where(correct, 0, 1))


def random_case(seed, n=50, ties=False):
    rng = np.random.default_rng(seed)
    confidences = 0.5 + rng.integers(1, 5, n) / 10 if ties else rng.uniform(0.51, 0.99, n)
    return confidences, rng.random(n) < 0.7


def brute_force_aurc(correct_by_falling_confidence):
    wrong = [not c for c in correct_by_falling_confidence]
    return sum(sum(wrong[:kept]) / kept for kept in range(1, len(wrong) + 1)) / len(wrong)


def test_aurc_is_the_mean_error_rate_over_coverages():
    confidences, correct = random_case(0)
    expected = brute_force_aurc(list(correct[np.argsort(-confidences)]))
    assert selective.aurc(binary(confidences, correct)) == pytest.approx(expected)


def test_ties_are_broken_at_random_in_expectation():
    confidences = np.array([0.9, 0.8, 0.8, 0.8, 0.6])
    correct = np.array([True, False, True, True, False])
    orders = [[0, *tied, 4] for tied in itertools.permutations([1, 2, 3])]
    expected = np.mean([brute_force_aurc([correct[i] for i in order]) for order in orders])
    assert selective.aurc(binary(confidences, correct)) == pytest.approx(expected)
    at_40 = np.mean([np.mean([correct[i] for i in order[:2]]) for order in orders])
    assert selective.accuracy_at(binary(confidences, correct), 0.4) == pytest.approx(at_40)


def test_confidence_exactly_one_is_a_tie_like_any_other():
    p = Predictions.of([[800.0, 0.0], [900.0, 0.0], [1.0, 0.0]], [0, 1, 0])
    assert (p.confidence[:2] == 1).all()
    assert selective.aurc(p) == pytest.approx((1 / 2 + 1 / 2 + 1 / 3) / 3)


def test_the_risk_coverage_curve_ends_at_the_error_rate():
    confidences, correct = random_case(1)
    coverage, risk = risk_coverage(binary(confidences, correct))
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(1 - correct.mean())
    assert np.allclose(np.diff(coverage), 1 / 50)


def test_torch_uncertainty_agrees_on_the_curve_and_differs_in_the_rule_of_integration():
    # torch-uncertainty 0.13.0 on this input; it integrates by trapezoids from coverage 1/N, its docstring by the mean.
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 10, 2000)
    logits = rng.normal(size=(2000, 10))
    logits[np.arange(2000), labels] += 2
    p = Predictions.of(2 * logits, labels)
    coverage, risk = risk_coverage(p)
    assert np.trapezoid(risk, coverage) / (1 - 1 / 2000) == pytest.approx(0.1444115, abs=1e-6)
    assert 1 - selective.accuracy_at_80(p) == pytest.approx(0.2525, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_eaurc_is_what_the_ordering_costs(seed):
    confidences, correct = random_case(seed, n=2000)
    p = binary(confidences, correct)
    r = 1 - correct.mean()
    assert selective.eaurc(p) == pytest.approx(selective.aurc(p) - (r + (1 - r) * math.log(1 - r)))
    perfect = binary(np.where(correct, 0.9, 0.6), correct)
    assert 0 <= selective.eaurc(perfect) < 2e-3 < selective.eaurc(p)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong_are_finite(right):
    p = binary([0.6, 0.7, 0.8], [right] * 3)
    assert selective.aurc(p) == (0.0 if right else 1.0)
    assert selective.eaurc(p) == pytest.approx(0.0)
    assert selective.misclassification_auroc(p) == 0.5


def test_accuracy_at_full_coverage_is_accuracy_and_grows_when_confidence_is_telling():
    confidences, correct = np.linspace(0.51, 0.99, 100), np.arange(100) >= 30
    p = binary(confidences, correct)
    assert selective.accuracy_at(p, 1.0) == pytest.approx(0.7)
    assert selective.accuracy_at_95(p) == pytest.approx(70 / 95)
    assert selective.accuracy_at_90(p) == pytest.approx(70 / 90)
    assert selective.accuracy_at_80(p) == pytest.approx(70 / 80)


@pytest.mark.parametrize(("samples", "kept"), [(1, 1), (4, 4), (7, 6), (10, 8), (11, 9)])
def test_coverage_is_rounded_up_to_whole_samples(samples, kept):
    p = binary(np.linspace(0.99, 0.51, samples), np.arange(samples) < kept - 1)  # the last that is kept is wrong
    assert selective.accuracy_at_80(p) == pytest.approx((kept - 1) / kept)


def test_misclassification_auroc_counts_pairs_and_ties_half():
    confidences, correct = random_case(3, ties=True)
    pairs = [(a > b) + 0.5 * (a == b) for a in confidences[correct].round(9) for b in confidences[~correct].round(9)]
    assert selective.misclassification_auroc(binary(confidences, correct)) == pytest.approx(np.mean(pairs))


def test_rounding_of_the_coverage_keeps_no_sample_more():
    p = binary(np.linspace(0.99, 0.51, 100), np.arange(100) < 7)  # 0.07 · 100 is a little more than 7
    assert selective.accuracy_at(p, 0.07) == 1
    assert selective.accuracy_at(binary([0.9, 0.8, 0.7], [True, False, False]), 0.01) == 1


def test_confidences_that_round_to_one_are_still_told_apart():
    """From a margin of 37 between two logits on."""
    p = Predictions.of([[60.0, 0.0], [50.0, 0.0], [45.0, 0.0], [40.0, 0.0]], [0, 0, 0, 1])
    assert (p.confidence == 1).all()
    assert selective.aurc(p) == pytest.approx(1 / 4 / 4)
    assert selective.misclassification_auroc(p) == 1
    assert selective.accuracy_at(p, 0.75) == 1


@pytest.mark.parametrize("right", [0, 1])
def test_the_order_of_the_classes_breaks_no_tie(right):
    """Which decides the last digit of a sum over them."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=100)
    logits = np.array([rng.permutation(values) for _ in range(40)])
    labels = logits.argmax(axis=1)
    first = Predictions.of(logits, labels).log_probabilities.max(axis=1)
    assert len(np.unique(first)) > 1
    labels[first == np.unique(first)[-right]] += 1
    predictions = Predictions.of(logits, labels % 100)
    assert selective.misclassification_auroc(predictions) == 0.5
    assert len(set(predictions.ranked[1])) == 1


@pytest.mark.parametrize("coverage", [80, 0, -0.1, np.nan, True, "0.8"])
def test_a_coverage_is_a_share(coverage):
    with pytest.raises(InputError, match="coverage must be a share of the samples, above 0 and at most 1, got"):
        selective.accuracy_at(binary([0.9, 0.8], [True, False]), coverage)
