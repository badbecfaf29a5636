import tracemalloc

import numpy as np
import pytest
import torch

from hardtune.errors import InputError
from hardtune.evaluation.ood import OOD_SCORES, mahalanobis, ood_figures, ood_metrics, ood_scores


def two_sides(seed=0, n=60, m=40, shift=1.0, decimals=1):
    """Scores with ties, higher outside."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=n).round(decimals), (rng.normal(size=m) + shift).round(decimals)


def test_every_score_is_higher_where_the_network_is_less_sure():
    sure, unsure = [[8.0, 0.0, 0.0]], [[1.0, 0.9, 0.8]]
    assert set(OOD_SCORES) == {"msp", "entropy", "max_logit"}
    for score in OOD_SCORES.values():
        assert score(np.array(sure)) < score(np.array(unsure))


def test_scores_are_their_definitions():
    logits = np.random.default_rng(0).normal(size=(20, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(OOD_SCORES["msp"](logits), 1 - p.max(axis=1))
    assert np.allclose(OOD_SCORES["entropy"](logits), -(p * np.log(p)).sum(axis=1))
    assert np.array_equal(OOD_SCORES["max_logit"](logits), -logits.max(axis=1))


def test_msp_still_ranks_samples_whose_confidence_rounds_to_one():
    scores = OOD_SCORES["msp"](np.array([[100.0, 0.0], [50.0, 0.0]]))
    assert 0 < scores[0] < scores[1]


def test_auroc_counts_pairs_with_the_outside_positive():
    inside, outside = two_sides()
    pairs = [(o > i) + 0.5 * (o == i) for o in outside for i in inside]
    assert ood_metrics(inside, outside)["auroc"] == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_fpr95_is_the_share_of_outsiders_that_pass_when_95_percent_of_insiders_do(seed):
    inside, outside = two_sides(seed, n=37, m=5000, decimals=1 if seed else 9)
    passing = [np.mean(outside <= t) for t in np.unique(inside) if np.mean(inside <= t) >= 0.95]
    assert ood_metrics(inside, outside)["fpr95"] == pytest.approx(min(passing))


def brute_force_average_precision(scores, positive):
    total, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        flagged = scores >= threshold
        new_recall = (flagged & positive).sum() / positive.sum()
        total += (new_recall - recall) * (flagged & positive).sum() / flagged.sum()
        recall = new_recall
    return total


def test_aupr_is_average_precision_for_each_side_as_positive():
    inside, outside = two_sides()
    scores, is_outside = np.concatenate([inside, outside]), np.arange(100) >= 60
    found = ood_metrics(inside, outside)
    assert found["aupr_out"] == pytest.approx(brute_force_average_precision(scores, is_outside))
    assert found["aupr_in"] == pytest.approx(brute_force_average_precision(-scores, ~is_outside))


def test_perfect_separation_and_none():
    assert ood_metrics([0.0, 1.0], [2.0, 3.0]) == {"auroc": 1, "aupr_out": 1, "aupr_in": 1, "fpr95": 0}
    blind = ood_metrics(np.zeros(30), np.zeros(10))
    assert blind == {"auroc": 0.5, "aupr_out": 0.25, "aupr_in": 0.75, "fpr95": 1}


@pytest.mark.parametrize(
    ("inside", "outside"), [([], [1.0]), ([1.0], []), ([[1.0]], [1.0]), ([1.0], [[1.0]]), ([np.nan], [1.0])]
)
def test_scores_that_cannot_be_compared_are_an_error(inside, outside):
    with pytest.raises(InputError):
        ood_metrics(inside, outside)


def gaussians(seed=0, n=300, d=6, k=3):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    mixing = rng.normal(size=(d, d))
    return (rng.normal(size=(n, d)) + 3 * rng.normal(size=(k, d))[labels]) @ mixing, labels


def test_ninety_five_percent_may_be_a_whole_number_of_samples_and_no_more_pass():
    assert ood_metrics(in_scores=np.arange(20.0), out_scores=[18.5])["fpr95"] == 0
    assert ood_metrics(in_scores=np.arange(20.0), out_scores=[17.5])["fpr95"] == 1


def test_mahalanobis_is_its_definition():
    train, labels = gaussians()
    asked = np.random.default_rng(1).normal(size=(10, 6)) * 5
    means = np.array([train[labels == k].mean(axis=0) for k in range(3)])
    precision = np.linalg.inv(np.mean([np.outer(x, x) for x in train - means[labels]], axis=0))
    expected = [min((x - m) @ precision @ (x - m) for m in means) for x in asked]
    assert np.allclose(mahalanobis(asked, train, labels), expected, rtol=1e-4)


def test_mahalanobis_finds_what_is_far_and_survives_an_offset_and_read_only_float32():
    train, labels = (a.astype(t) for a, t in zip(gaussians(), (np.float32, np.int64), strict=True))
    train.flags.writeable = False
    far = train + 20 * np.random.default_rng(2).normal(size=train.shape).astype(np.float32)
    near = mahalanobis(train, train, labels)
    assert ood_metrics(near, mahalanobis(far, train, labels))["auroc"] > 0.99
    offset = mahalanobis(train + np.float32(1000), train + np.float32(1000), labels)
    assert np.allclose(near, offset, rtol=0.05, atol=0.05)


def test_mahalanobis_works_with_fewer_samples_than_dimensions_and_with_an_absent_class():
    train, labels = gaussians(n=8, d=20)
    scores = mahalanobis(train, train, labels * 2)
    assert np.isfinite(scores).all()
    assert np.allclose(scores, mahalanobis(train, train, labels))


def test_mahalanobis_of_features_that_do_not_fit_is_an_error():
    train, labels = gaussians()
    for asked, known, given in (
        (train[:, :3], train, labels),
        (train[0], train, labels),
        (train, train[:, 0], labels),
        (train, train[:0], labels[:0]),
    ):
        with pytest.raises(InputError, match="one D"):
            mahalanobis(asked, known, given)
    with pytest.raises(InputError, match="finite"):
        mahalanobis(np.where(np.eye(6) == 1, np.nan, 0), train, labels)
    with pytest.raises(InputError, match="finite"):
        mahalanobis(train[:1], np.where(np.arange(len(train))[:, None] == 7, np.inf, train), labels)


def test_mahalanobis_does_not_depend_on_the_unit_of_the_features_and_survives_constant_ones():
    train, labels = gaussians()
    for unit in (1e-4, 1e-200, 1e200):
        np.testing.assert_allclose(mahalanobis(unit * train, unit * train, labels), mahalanobis(train, train, labels))
    constant = np.ones((20, 3))
    assert (mahalanobis(constant, constant, np.arange(20) % 2) == 0).all()
    assert (mahalanobis(constant + 1, constant, np.arange(20) % 2) == 3).all()
    of_classes = np.random.default_rng(0).normal(size=(3, 6))
    found = mahalanobis(of_classes + 1, of_classes[labels], labels)
    assert (found < 7).all(), "and not what rounding makes of it"


def test_mahalanobis_of_features_too_large_for_it_is_an_error():
    train, labels = gaussians()
    for asked, known in ((1e200 * train, train), (train, np.where(train > 0, 1.7e308, -1.7e308))):
        with pytest.raises(InputError, match="the features are too large for their distances to be computed"):
            mahalanobis(asked, known, labels)


def test_mahalanobis_does_not_depend_on_how_many_rows_are_worked_on_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    known, labels, asked = rng.normal(size=(50, 3)), rng.integers(0, 4, 50), rng.normal(size=(23, 3)) + 100
    whole = mahalanobis(asked, known, labels)
    monkeypatch.setattr("hardtune.hardness.within_classes._ROWS", 7)
    np.testing.assert_allclose(mahalanobis(asked, known, labels), whole, rtol=1e-10)


def test_mahalanobis_of_very_many_classes_takes_little_more_memory_than_their_means():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(20_000, 4)), np.arange(20_000) % 10_000
    tracemalloc.start()
    found = mahalanobis(features[:5], features, labels)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 20e6  # samples by classes would be 300 MB
    np.testing.assert_allclose(found, 1, atol=3)


def test_a_members_figures_are_those_of_its_scores():
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(30, 4)) * 3, rng.normal(size=(20, 4))
    found = ood_figures(ood_scores(inside, outside, (np.arange(30), np.arange(20) + 100)))
    assert len(found) == 16
    assert found["mahalanobis_auroc"] == 1.0
    expected = ood_metrics(OOD_SCORES["entropy"](inside), OOD_SCORES["entropy"](outside))
    assert {name: found[f"entropy_{name}"] for name in expected} == expected


def test_msp_is_its_definition_for_many_classes():
    logits = np.random.default_rng(0).normal(size=(20, 1000))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(OOD_SCORES["msp"](logits), 1 - p.max(axis=1), atol=1e-12)


@pytest.mark.parametrize("name", OOD_SCORES)
def test_no_score_is_made_of_logits_that_are_not_finite(name):
    with pytest.raises(InputError, match="finite"):
        OOD_SCORES[name](np.array([[np.nan, 0.0], [0.0, 1.0]]))


def test_a_score_of_ones_own_cannot_change_what_others_are_given(monkeypatch):
    monkeypatch.setitem(OOD_SCORES._entries, "centres", lambda logits: np.subtract(logits, 1, out=logits).max(axis=1))
    with pytest.raises(InputError, match=r"OOD score 'centres' fails: ValueError: .*read-only"):
        ood_scores(np.eye(3), np.eye(3), (np.arange(3), np.arange(3)))


def test_mahalanobis_with_labels_that_do_not_fit_is_an_error():
    train, labels = gaussians()
    for wrong in (labels[1:], labels.astype(float), labels - 1, labels.astype(str)):
        with pytest.raises(InputError, match="labels must be"):
            mahalanobis(train, train, wrong)


def test_what_is_no_array_of_numbers_is_said_with_what_makes_one_of_it():
    train, labels = gaussians()
    half = torch.from_numpy(train).bfloat16()
    says = r"must be an array of numbers, and are not, so pass the tensor's \.detach\(\)\.float\(\)\.cpu\(\): "
    for call in (
        lambda: ood_metrics(half[:, 0], train[:, 0]),
        lambda: ood_metrics(train[:, 0], torch.ones(3, requires_grad=True).bfloat16()),
        lambda: mahalanobis(half, train, labels),
        lambda: mahalanobis(train, half, labels),
    ):
        with pytest.raises(InputError, match=says):
            call()
    with pytest.raises(InputError, match="scores must be an array of numbers, and are not: ValueError"):
        ood_metrics(["low"], ["high"])
    with pytest.raises(InputError, match="one D"):
        mahalanobis(train[:, :0], train[:, :0], labels)


def test_mahalanobis_takes_tensors_as_it_takes_arrays():
    train, labels = gaussians()
    as_tensors = mahalanobis(*(torch.from_numpy(given) for given in (train, train, labels)))
    np.testing.assert_array_equal(as_tensors, mahalanobis(train, train, labels))
