import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from hardtune.errors import InputError
from hardtune.evaluation import Predictions, calibration, fit_temperature, reliability


def some(seed=0, n=300, k=4, scale=3.0, decimals=None):
    """Random logits, rounded to few decimals for ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    logits = rng.normal(size=(n, k)) * scale
    logits[np.arange(n), labels] += 1
    return (logits if decimals is None else logits.round(decimals)), labels


def certain():
    """Confidence exactly 1.0, twice right and once wrong, among doubtful samples."""
    logits, labels = some(n=20, scale=0.5)
    sure = np.array([[900.0, 0, 0, 0], [0, 900.0, 0, 0], [0, 0, 900.0, 0]])
    return np.concatenate([logits, sure]), np.concatenate([labels, [0, 1, 0]])


CASES = {
    "plain": some(), "ties": some(decimals=0), "certain": certain(), "two classes": some(k=2), "one": some(n=1),
    "many classes": some(k=40), "all improbable": some(n=30, k=60, scale=0.1),
}  # fmt: skip
every_case = pytest.mark.parametrize(("logits", "labels"), CASES.values(), ids=CASES.keys())


def brute_force_ece(said, happened, bins=15):
    """Over bins (lower, upper], straight from the definition; exact if ``said`` are fractions."""
    total = 0
    edges = [Fraction(b, bins) if isinstance(said[0], Fraction) else b / bins for b in range(bins + 1)]
    for b in range(bins):
        inside = [i for i, p in enumerate(said) if edges[b] < p <= edges[b + 1] or (b == 0 and p == 0)]
        if inside:
            total += abs(sum(happened[i] for i in inside) - sum(said[i] for i in inside))
    return total / len(said)


@every_case
def test_ece_is_its_definition(logits, labels):
    p = Predictions.of(logits, labels)
    assert calibration.ece(p) == pytest.approx(brute_force_ece(p.confidence, p.correct), abs=1e-12)


@pytest.mark.parametrize("n", [20, 100, 540])
def test_the_ece_by_chance_is_what_calibrated_predictions_have(n):
    """Of a network that is right about 98 % of the samples: sure of most, and unsure of a few."""
    rng = np.random.default_rng(n)
    confidence = np.where(rng.random(n) < 0.93, 1 - 10 ** rng.uniform(-5, -2.3, n), rng.uniform(0.4, 1, n))
    p = Predictions.of(np.log(np.stack([confidence, *[(1 - confidence) / 3] * 3], axis=1)), np.zeros(n, int))
    of_calibrated = [calibration.Reliability.of(confidence, rng.random(n) < confidence).error for _ in range(4000)]
    assert calibration.ece_by_chance(p) == pytest.approx(np.mean(of_calibrated), rel=0.04)


@every_case
def test_classwise_ece_is_its_definition(logits, labels):
    p = Predictions.of(logits, labels)
    expected = [brute_force_ece(p.probabilities[:, k], labels == k) for k in range(p.num_classes)]
    assert np.allclose(calibration.class_ece(p), expected, atol=1e-12)
    assert calibration.ece_classwise(p) == pytest.approx(np.mean(expected), abs=1e-12)


@every_case
def test_brier_and_nll_are_their_definitions(logits, labels):
    p = Predictions.of(logits, labels)
    n, k = logits.shape
    brier = sum((p.probabilities[i, c] - (labels[i] == c)) ** 2 for i in range(n) for c in range(k)) / n
    assert calibration.brier(p) == pytest.approx(brier)
    nll = sum(math.log(sum(math.exp(z - logits[i, labels[i]]) for z in logits[i])) if abs(logits[i]).max() < 600 else
              logits[i].max() - logits[i, labels[i]] for i in range(n)) / n  # fmt: skip
    assert calibration.nll(p) == pytest.approx(nll)


def test_adaptive_ece_without_ties_is_its_definition():
    p = Predictions.of(*some(n=100))
    order = sorted(range(100), key=lambda i: p.confidence[i])
    bins = np.array_split(order, 15)
    expected = sum(abs(sum(float(p.correct[i]) - p.confidence[i] for i in members)) for members in bins) / 100
    assert calibration.ece_adaptive(p) == pytest.approx(expected, abs=1e-12)


def test_adaptive_ece_with_ties_does_not_depend_on_the_order_of_samples():
    logits, labels = some(decimals=0, scale=1.0)
    values = {
        round(calibration.ece_adaptive(Predictions.of(logits[order], labels[order])), 12)
        for order in (np.random.default_rng(i).permutation(len(labels)) for i in range(5))
    }
    assert len(values) == 1


def test_all_samples_equally_confident_have_one_calibration_error():
    p = Predictions.of(np.tile([math.log(3), 0.0], (8, 1)), np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    for metric in (calibration.ece, calibration.ece_adaptive, calibration.ece_classwise):
        assert metric(p) == pytest.approx(0.25)


def test_confidence_exactly_one_lies_in_the_last_bin():
    p = Predictions.of(*certain())
    assert (p.confidence == 1.0).sum() == 3
    diagram = reliability(p)
    assert len(diagram.counts) == 15
    assert diagram.counts[-1] == 3
    assert diagram.accuracy[-1] == pytest.approx(2 / 3)


def test_a_confidence_on_an_edge_lies_in_the_bin_below():
    assert reliability(Predictions.of([[0.0, 0.0]], [0]), bins=2).counts.tolist() == [1, 0]


@pytest.mark.parametrize("bins", [10, 15, 20])
def test_shares_of_votes_lie_in_the_bin_below_whichever_way_an_edge_is_rounded(bins):
    votes = np.arange(1, bins + 1) / bins
    assert calibration.Reliability.of(votes, votes > 0.5, bins).counts.tolist() == [1] * bins


@pytest.mark.parametrize("bins", [0, -1, 2.5, "10", True])
def test_bins_can_be_counted(bins):
    with pytest.raises(InputError, match=f"bins must be a whole number of at least 1, got {bins!r}"):
        reliability(Predictions.of([[2.0, 0.0]], [0]), bins=bins)


@pytest.mark.parametrize("confidence", [[50.0, 70.0], [-0.1, 0.5], [np.nan, 0.5]])
def test_confidence_is_no_percentage(confidence):
    with pytest.raises(InputError, match=r"confidence must be in 0\.\.1: divide percentages by 100"):
        calibration.Reliability.of(np.array(confidence), np.array([True, False]))
    with pytest.raises(InputError, match=r"of the same samples \(N,\), got \(2,\) and \(1,\)"):
        calibration.Reliability.of(np.array([0.5, 0.7]), np.array([True]))


def test_confidence_that_was_rounded_to_above_one_is_taken():
    p = Predictions(np.log([[1.004, 0.001], [0.5, 0.5]]), [0, 1])
    assert reliability(p).counts[-1] == 1


@pytest.mark.parametrize("votes", [15, 20, 30, 100])
def test_shares_of_votes_lie_in_the_bins_of_exact_arithmetic(votes):
    rng = np.random.default_rng(votes)
    counts = 1 + rng.multinomial(votes - 4, [0.5, 0.3, 0.15, 0.05], size=600)
    labels = rng.integers(4, size=600)
    p = Predictions.of(np.log(counts / votes), labels)
    shares = [[Fraction(int(count), votes) for count in row] for row in counts]
    top = counts.argmax(axis=1)
    said = [row[k] for row, k in zip(shares, top, strict=True)]
    assert calibration.ece(p) == pytest.approx(float(brute_force_ece(said, (top == labels).tolist())), abs=1e-12)
    each = [brute_force_ece([row[k] for row in shares], (labels == k).tolist()) for k in range(4)]
    np.testing.assert_allclose(calibration.class_ece(p), [float(one) for one in each], atol=1e-12)


def test_a_reliability_diagram_holds_every_sample_and_marks_empty_bins():
    p = Predictions.of(*some(k=4))
    diagram = reliability(p, bins=10)
    assert diagram.counts.sum() == 300
    assert np.isnan(diagram.accuracy[:2]).all()  # of 4 classes the first has at least 0.25
    assert np.allclose(np.nansum(diagram.confidence * diagram.counts), p.confidence.sum())
    filled = diagram.counts > 0
    assert (diagram.edges[:-1][filled] < diagram.confidence[filled]).all()
    assert (diagram.confidence[filled] <= diagram.edges[1:][filled]).all()


def test_class_overconfidence_is_confidence_minus_recall_of_each_class():
    p = Predictions.of(*some(k=5))
    expected = [p.confidence[p.labels == k].mean() - p.correct[p.labels == k].mean() for k in range(5)]
    assert np.allclose(calibration.class_overconfidence(p), expected)
    few = calibration.class_overconfidence(Predictions.of([[math.log(3), 0, -99.0]] * 3, [0, 0, 1]))
    np.testing.assert_allclose(few, [-0.25, 0.75, np.nan])


def test_torchmetrics_agrees_where_no_confidence_is_exactly_one():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, labels = some(n=2000)
    p = Predictions.of(logits, labels)
    theirs = multiclass_calibration_error(torch.tensor(p.probabilities), torch.tensor(labels), 4, n_bins=15)
    assert calibration.ece(p) == pytest.approx(float(theirs), abs=1e-6)


def test_torch_uncertainty_agrees():
    # torch-uncertainty 0.13.0 on this input: AdaptiveCalibrationError, ClasswiseCalibrationError, CalibrationError
    # (15 bins each), BrierScore and CategoricalNLL, in float32. It is too heavy a dependency for a test.
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 10, 2000)
    logits = rng.normal(size=(2000, 10))
    logits[np.arange(2000), labels] += 2
    p = Predictions.of(2 * logits, labels)
    assert calibration.ece_adaptive(p) == pytest.approx(0.0232982, abs=1e-6)
    assert calibration.ece_classwise(p) == pytest.approx(0.0120798, abs=1e-6)
    assert calibration.ece(p) == pytest.approx(0.0255723, abs=1e-6)
    assert calibration.brier(p) == pytest.approx(0.4489372, abs=1e-6)
    assert calibration.nll(p) == pytest.approx(0.9692832, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_fitted_temperature_undoes_a_known_scaling(temperature):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(20_000, 5)) * 2
    p = Predictions.of(logits, np.zeros(20_000, dtype=int)).probabilities
    labels = (p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)  # drawn from what the logits say
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_a_lower_nll():
    logits, labels = some(n=500)
    best = fit_temperature(logits, labels)
    nlls = [calibration.nll(Predictions.of(logits / t, labels)) for t in best * np.array([1, 0.99, 1.01, 0.5, 2])]
    assert np.argmin(nlls) == 0


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.0, 7.0, 60.0])
@pytest.mark.parametrize(("n", "k"), [(3, 2), (3000, 2), (500, 10), (2, 40_000), (700, 100)])
def test_the_fitted_temperature_is_where_scipy_finds_the_lowest_nll(n, k, scale):
    """To the digits that an NLL so flat has there, and to nine of its slope."""
    rng = np.random.default_rng(n + k)
    logits = scale * rng.standard_t(3, size=(n, k))
    labels = logits.argmax(axis=1)
    labels[: n // 3 + 1] = rng.integers(k, size=n // 3 + 1)
    labels[0] = logits[0].argsort()[-2]  # one error at least

    def slope(log_t):  # in 1/T
        p = Predictions.of(logits / np.exp(log_t), labels).probabilities
        return ((p * logits).sum(axis=1) - np.take_along_axis(logits, labels[:, None], axis=1)[:, 0]).mean()

    def nll_at(log_t):
        return calibration.nll(Predictions.of(logits / np.exp(log_t), labels))

    found = np.log(fit_temperature(logits, labels))
    bounds = np.log(calibration.TEMPERATURES)
    best = minimize_scalar(nll_at, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    assert found == pytest.approx(best.x, abs=1e-5)
    assert nll_at(found) <= best.fun * (1 + 1e-12)
    if bounds[0] < found < bounds[1]:
        assert slope(found - 1e-9) > 0 > slope(found + 1e-9)


def test_where_no_best_temperature_exists_it_is_bounded_or_leaves_things_alone():
    logits = np.array([[2.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, [0, 1]) == 1, "as no error says how much one would cost"
    assert fit_temperature(np.tile(logits / 10_000, (5, 1)), [0, 1] * 4 + [0, 0]) == 0.01, "there is an error here"
    assert fit_temperature(logits, [1, 0]) == fit_temperature(logits / 10, [1, 0]) == 100.0
    assert fit_temperature(np.full((2, 3), 7.0), [0, 1]) == 1, "as none changes anything"


def test_a_temperature_can_be_fitted_to_huge_logits():
    assert 0.01 <= fit_temperature(np.array([[1e38, -1e38], [3e38, 0.0]]), [0, 1]) <= 100


def test_fitting_on_logits_that_are_not_finite_is_an_error():
    with pytest.raises(InputError, match="finite"):
        fit_temperature([[np.nan, 0.0]], [0])


def test_empty_bins_and_absent_classes_are_no_reason_for_a_warning():
    p = Predictions.of([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]], [0, 0])
    with np.errstate(all="raise"):
        assert reliability(p).counts.sum() == 2
        assert np.isnan(calibration.class_overconfidence(p)[1:]).all()
