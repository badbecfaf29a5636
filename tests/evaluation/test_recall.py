import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardtune.errors import InputError
from hardtune.evaluation import METRICS, Predictions, recall


def predicted(labels, predictions, num_classes):
    """Predictions whose argmax is given."""
    return Predictions.of(np.eye(num_classes)[np.asarray(predictions)] * 5, np.asarray(labels))


def with_recalls(recalls):
    """Predictions of 100 samples a class whose recalls are these."""
    k = len(recalls)
    labels = np.repeat(np.arange(k), 100)
    hits = np.concatenate([np.arange(100) < round(100 * r) for r in recalls])
    return predicted(labels, np.where(hits, labels, (labels + 1) % k), k)


def drawn(recalls, seed, sizes=54):
    """Predictions of so many samples a class, each right with the probability of its class."""
    labels = np.repeat(np.arange(len(recalls)), sizes)
    hit = np.random.default_rng(seed).random(len(labels)) < recalls[labels]
    return predicted(labels, np.where(hit, labels, (labels + 1) % len(recalls)), len(recalls))


def gaps(predictions):
    names = [name for name in METRICS if "recall" in name]
    return {name: METRICS[name].compute(predictions) for name in names}


@settings(deadline=None)  # scikit-learn is imported on the first call
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_per_class_figures_agree_with_scikit_learn_where_classes_have_samples(pairs):
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    labels, guesses = map(np.array, zip(*pairs, strict=True))
    ours = predicted(labels, guesses, 5)
    assert np.array_equal(ours.confusion, confusion_matrix(labels, guesses, labels=range(5)))
    _, recalls, f1, support = precision_recall_fscore_support(labels, guesses, labels=range(5), zero_division=0)
    precisions, *_ = precision_recall_fscore_support(labels, guesses, labels=range(5), zero_division=np.nan)
    present = support > 0
    for values, reference in (
        (recall.class_recall(ours), recalls),
        (recall.class_precision(ours), precisions),  # NaN for a class that is never predicted
        (recall.class_f1(ours), f1),
    ):
        assert np.allclose(values[present], reference[present], equal_nan=True)
        assert np.isnan(values[~present]).all()
    assert recall.macro_f1(ours) == pytest.approx(f1[present].mean())
    assert recall.balanced_accuracy(ours) == pytest.approx(recalls[present].mean())


def test_gaps_of_hbrs_cifar10_baseline_are_those_of_its_figure():
    # arXiv 2504.07031, sorted class recalls digitised from the authors' figure.
    figure = with_recalls([0.89, 0.92, 0.94, 0.96, 0.96, 0.97, 0.97, 0.97, 0.97, 0.98])
    found = gaps(figure)
    assert found["recall_range"] == pytest.approx(0.09)
    assert found["recall_topk_gap"] == pytest.approx((0.98 + 0.97) / 2 - (0.89 + 0.92) / 2)
    assert found["recall_gap"] == pytest.approx(np.std([89, 92, 94, 96, 96, 97, 97, 97, 97, 98]) / 100)
    assert found["worst_recall"] == pytest.approx(0.89)
    assert found["recall_bottom_k"] == pytest.approx((0.89 + 0.92) / 2)


@pytest.mark.parametrize(("classes", "k"), [(2, 1), (3, 1), (4, 2), (10, 2), (20, 2), (30, 3), (100, 10)])
def test_the_best_and_worst_are_two_classes_of_ten_and_ten_of_a_hundred(classes, k):
    recalls = np.linspace(0, 1, classes).round(2)
    found = gaps(with_recalls(recalls[::-1]))
    assert found["recall_bottom_k"] == pytest.approx(recalls[:k].mean())
    assert found["recall_topk_gap"] == pytest.approx(recalls[-k:].mean() - recalls[:k].mean())


def test_mean_absolute_deviation_is_from_the_mean():
    assert recall.recall_mad(with_recalls([0.0, 0.5, 1.0, 0.5])) == pytest.approx(0.25)


@pytest.mark.parametrize(("p", "n"), [(0.9, 5), (0.8, 36), (0.8, 100), (0.95, 500)])
def test_the_gap_by_chance_is_what_equally_good_classes_have(p, n):
    shares = np.random.default_rng(0).binomial(n, p, (4000, 10)) / n
    said = np.mean(
        [recall.gap_by_chance(of_class, np.full(10, n)) for of_class in shares]
    )  # from what such classes show
    assert said == pytest.approx(shares.std(axis=1).mean(), rel=0.05)


@pytest.mark.parametrize("p", [0.984, 0.94, 0.7])
def test_the_excess_of_the_gap_leaves_little_of_what_chance_gives_to_equally_good_classes(p):
    found = [gaps(drawn(np.full(10, p), seed)) for seed in range(400)]
    gap, excess = (np.mean([each[name] ** 2 for each in found]) for name in ("recall_gap", "recall_gap_excess"))
    chance = recall.gap_by_chance(np.full(10, p), np.full(10, 54)) ** 2
    assert gap == pytest.approx(chance, rel=0.1)
    assert excess < chance / 4


def test_the_excess_of_the_gap_is_the_true_gap_whatever_the_accuracy():
    for top in (1.0, 0.8):
        recalls = np.linspace(top - 0.25, top, 10)
        found = [gaps(drawn(recalls, seed)) for seed in range(400)]
        assert np.mean([each["recall_gap"] ** 2 for each in found]) > 1.15 * recalls.var()
        excess = np.mean([each["recall_gap_excess"] ** 2 for each in found])
        assert excess == pytest.approx(recalls.var(), rel=0.05)


def test_the_excess_of_the_gap_is_the_true_gap_where_small_classes_are_hard():
    recalls, sizes = np.linspace(0.95, 0.6, 10), np.geomspace(500, 10, 10).round().astype(int)
    found = [gaps(drawn(recalls, seed, sizes)) for seed in range(400)]
    assert np.mean([each["recall_gap"] ** 2 for each in found]) > 1.35 * recalls.var()
    assert np.mean([each["recall_gap_excess"] ** 2 for each in found]) == pytest.approx(recalls.var(), rel=0.05)


def test_the_excess_of_the_gap_leaves_out_classes_without_two_samples():
    labels = np.repeat([0, 1, 3, 4], [200, 20, 20, 1])  # class 2 has none
    wrong = np.isin(np.arange(241), [0, 1, 200, 201, 202, 203, 204, 205, 240])  # recalls of 0.99, 0.7, 1 and 0
    found = gaps(predicted(labels, np.where(wrong, 2, labels), 5))
    chance = 2 / 3 * np.mean([0.99 * 0.01 / 199, 0.7 * 0.3 / 19, 0])
    assert found["recall_gap_excess"] == pytest.approx(np.sqrt(np.var([0.99, 0.7, 1]) - chance))
    assert gaps(predicted([0, 1, 1], [1, 1, 1], 3))["recall_gap_excess"] == 0, "one class has two"
    assert gaps(predicted([0, 1], [1, 1], 3))["recall_gap_excess"] == 0, "none has"


def test_without_samples_there_is_no_gap_by_chance():
    with pytest.raises(InputError, match="a recall gap needs samples, and no class has any"):
        recall.gap_by_chance(np.full(3, np.nan), np.zeros(3, int))


def test_a_class_that_is_never_recognised_stays_in_the_gaps():
    found = gaps(with_recalls([0.0, 1.0]))
    assert found["worst_recall"] == 0
    assert found["recall_gap"] == pytest.approx(0.5)


def test_a_class_without_samples_is_left_out_of_the_gaps():
    found = gaps(predicted([0, 0, 1, 1], [0, 0, 1, 2], num_classes=3))
    assert found["worst_recall"] == 0.5
    assert found["recall_gap"] == pytest.approx(0.25)


def test_one_class_alone_has_no_gap():
    found = gaps(predicted([1, 1], [1, 0], num_classes=3))
    assert found.pop("worst_recall") == found.pop("recall_bottom_k") == 0.5
    assert set(found.values()) == {0}


@pytest.mark.parametrize("hard", [[0, 1], np.array([True, True, False, False])])
def test_hard_easy_gap_is_positive_when_hard_classes_are_recognised_less(hard):
    assert recall.recall_hard_easy(with_recalls([0.2, 0.4, 0.8, 1.0]), hard) == pytest.approx(0.6)


@pytest.mark.parametrize("hard", [[], [0, 1, 2, 3]])
def test_hard_easy_gap_is_zero_where_one_group_is_empty(hard):
    assert recall.recall_hard_easy(with_recalls([0.2, 0.4, 0.8, 1.0]), hard) == 0


@pytest.mark.parametrize("hard", [[4], [-1], [-1, 2], [1, 4], [0.5], np.array([True])])
def test_hard_classes_that_do_not_exist_are_an_error(hard):
    with pytest.raises(InputError, match="hard classes"):
        recall.recall_hard_easy(with_recalls([0.2, 0.4, 0.8, 1.0]), hard)


@pytest.mark.parametrize("hard", [[1, 1, 0, 0], np.array([0, 1, 0, 0], np.uint8), [2, 2]])
def test_a_mask_of_zeros_and_ones_is_not_taken_for_labels(hard):
    with pytest.raises(InputError, match="hard classes must be labels, each once: a mask must be of booleans"):
        recall.recall_hard_easy(with_recalls([0.2, 0.4, 0.8, 1.0]), hard)


@pytest.mark.parametrize("hard", [[[0], [1, 2]], [[0, 1]]])
def test_hard_classes_that_are_no_list_are_an_error(hard):
    with pytest.raises(InputError, match="hard classes must be a list of labels or a mask of booleans"):
        recall.recall_hard_easy(with_recalls([0.2, 0.4, 0.8, 1.0]), hard)
