"""The facts about relative Mahalanobis distance that its definition implies."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from hardtune.errors import InputError
from hardtune.hardness import within_classes
from hardtune.hardness.mahalanobis import fit, mahalanobis, relative_mahalanobis


def clusters(samples=1200, dimensions=24, classes=6, spread=3.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(samples) % classes)
    mixing = rng.normal(size=(dimensions, dimensions))
    features = (
        spread * rng.normal(size=(classes, dimensions))[labels] + rng.normal(size=(samples, dimensions))
    ) @ mixing
    return features, labels


def direct_form(features, labels, classes, ridge=0.0):
    """The definition, term by term."""
    means = np.stack([features[labels == c].mean(0) for c in range(classes)])
    own, all_ = features - means[labels], features - features.mean(0)
    within = own.T @ own / len(features)
    added = ridge * np.eye(len(within))
    to_class = np.einsum("nd,de,ne->n", own, np.linalg.inv(within + added), own)
    return to_class, to_class - np.einsum("nd,de,ne->n", all_, np.linalg.inv(all_.T @ all_ / len(all_) + added), all_)


def test_both_distances_equal_the_direct_form():
    features, labels = clusters()
    md, rmd = direct_form(features, labels, 6)
    np.testing.assert_allclose(mahalanobis(features, labels, 6), md, atol=1e-8)
    np.testing.assert_allclose(relative_mahalanobis(features, labels, 6), rmd, atol=1e-8)


def test_the_direct_form_holds_with_a_ridge_on_both_covariances():
    features, labels = clusters()
    gaussians = fit(features, labels, 6, ridge=0.1)
    md, rmd = direct_form(features, labels, 6, gaussians.ridge)
    np.testing.assert_allclose(gaussians.distance(features, labels), md, atol=1e-8)
    np.testing.assert_allclose(gaussians.relative_distance(features, labels), rmd, atol=1e-8)


def test_the_mean_over_the_training_set_is_zero_and_below_with_a_ridge():
    features, labels = clusters()
    assert abs(relative_mahalanobis(features, labels, 6).mean()) < 1e-10
    assert mahalanobis(features, labels, 6).mean() == pytest.approx(24)
    assert fit(features, labels, 6, ridge=0.1).relative_distance(features, labels).mean() < -0.01


def test_an_invertible_affine_map_changes_nothing():
    features, labels = clusters()
    rng = np.random.default_rng(5)
    moved = features @ rng.normal(size=(24, 24)) + 100 * rng.normal(size=24)
    np.testing.assert_allclose(
        relative_mahalanobis(moved, labels, 6), relative_mahalanobis(features, labels, 6), rtol=1e-6, atol=1e-6
    )


def test_flipped_labels_are_found_where_the_plain_distance_misses_them():
    features, labels = clusters(samples=6000, dimensions=512, classes=10, spread=0.2)
    rng = np.random.default_rng(1)
    flipped = rng.random(len(labels)) < 0.1
    given = np.where(flipped, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
    assert roc_auc_score(flipped, relative_mahalanobis(features, given, 10)) >= 0.99
    assert roc_auc_score(flipped, mahalanobis(features, given, 10)) < 0.75


def test_only_as_many_directions_are_kept_as_classes_less_one():
    features, labels = clusters()
    assert fit(features, labels, 6).directions.shape == (24, 5)


def test_four_samples_a_feature_need_no_ridge_and_fewer_get_one_that_is_recorded():
    features, labels = clusters()
    enough = 6 + 4 * 24
    assert fit(features[:enough], labels[:enough], 6).ridge == 0
    for samples in (25, enough - 1):
        few = fit(features[:samples], labels[:samples], 6)
        assert few.ridge > 0
        assert np.isfinite(few.relative_distance(features[:samples], labels[:samples])).all()


@pytest.mark.parametrize("samples", [400, 522, 530, 600])  # a covariance of full rank takes 522
def test_flipped_labels_are_found_with_hardly_more_samples_than_dimensions_or_fewer(samples):
    features, labels = clusters(samples=samples, dimensions=512, classes=10, spread=0.5)
    flipped = np.arange(samples) < samples // 10
    given = np.where(flipped, (labels + 3) % 10, labels)
    assert roc_auc_score(flipped, relative_mahalanobis(features, given, 10)) >= 0.95


@pytest.mark.parametrize("extra", ["constant", "copy"])
def test_features_that_depend_on_each_other_get_a_ridge(extra):
    features, labels = clusters()
    column = np.zeros((len(features), 1)) if extra == "constant" else features[:, :1] + features[:, 1:2]
    gaussians = fit(np.hstack([features, column]), labels, 6)
    assert gaussians.ridge > 0
    # A column that says nothing new changes nothing.
    np.testing.assert_allclose(
        gaussians.relative_distance(np.hstack([features, column]), labels),
        relative_mahalanobis(features, labels, 6),
        rtol=1e-3,
        atol=1e-3,
    )


def test_features_of_very_different_scales_are_not_mistaken_for_dependent_ones():
    features, labels = clusters()
    scaled = features * np.logspace(-6, 6, 24)
    assert fit(scaled, labels, 6).ridge == 0
    np.testing.assert_allclose(
        relative_mahalanobis(scaled, labels, 6), relative_mahalanobis(features, labels, 6), rtol=1e-6, atol=1e-6
    )


def test_blocks_of_rows_do_not_show(monkeypatch):
    features, labels = clusters()
    whole = relative_mahalanobis(features, labels, 6)
    monkeypatch.setattr(within_classes, "_ROWS", 7)
    np.testing.assert_allclose(relative_mahalanobis(features, labels, 6), whole, atol=1e-9)


def test_a_class_without_samples_does_no_harm():
    features, labels = clusters(classes=6)
    np.testing.assert_allclose(
        relative_mahalanobis(features, labels, 9), relative_mahalanobis(features, labels, 6), atol=1e-9
    )


def test_a_class_without_samples_counts_neither_for_the_ridge_nor_as_one_of_the_balanced():
    features, labels = clusters()
    enough = features[: 6 + 4 * 24], labels[: 6 + 4 * 24]
    assert fit(*enough, 9).ridge == 0
    np.testing.assert_allclose(
        relative_mahalanobis(*enough, 9, balanced=True), relative_mahalanobis(*enough, 6, balanced=True), atol=1e-9
    )


def test_features_that_do_not_vary_within_classes_are_an_error():
    labels = np.arange(20) % 2
    with pytest.raises(InputError, match="do not vary"):
        fit(np.eye(2)[labels], labels, 2)
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 20, 7])
    of_classes = rng.normal(size=(3, 4))  # whose means are not exact
    for score in (mahalanobis, relative_mahalanobis):
        for order in (np.arange(57), np.arange(57)[::-1]):
            with pytest.raises(InputError, match="do not vary"):
                score(of_classes[labels[order]], labels[order], 3)


def test_a_feature_that_only_tells_classes_apart_does_not_let_rounding_decide():
    features, labels = clusters()
    known = np.random.default_rng(0).normal(size=(6, 1))[labels]
    one = relative_mahalanobis(np.hstack([features, known]), labels, 6)
    order = np.random.default_rng(1).permutation(len(labels))
    other = relative_mahalanobis(np.hstack([features, known])[order], labels[order], 6)
    np.testing.assert_allclose(other, one[order], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("score", [fit, mahalanobis, relative_mahalanobis])
def test_what_cannot_be_fitted_is_refused_as_the_estimators_refuse_it(score):
    features, labels = clusters(samples=60)
    for wrong, given, says in (
        (np.where(np.arange(24) == 3, np.nan, features), labels, "the features contain NaN or infinity"),
        (features[:0], labels[:0], "there are no samples to fit Gaussians to"),
        (features, labels + 1, r"labels must be in 0\.\.5, got 1\.\.6"),
        (features, labels[1:], r"features must be \(59, D\), one row for each sample, got \(60, 24\)"),
        (features[:, 0], labels, r"features must be \(60, D\), one row for each sample, got \(60,\)"),
        (features, labels / 2, r"labels must be whole numbers \(N,\), got float64 \(60,\)"),
        (features, labels[:, None], r"labels must be whole numbers \(N,\), got int64 \(60, 1\)"),
        (features.astype(str), labels, "features must be an array of numbers: TypeError"),
        (torch.empty(60, 24, device="meta"), labels, "features must be an array of numbers: .*meta"),
    ):
        with pytest.raises(InputError, match=says):
            score(wrong, given, 6)


@pytest.mark.parametrize("score", [mahalanobis, relative_mahalanobis])
def test_lists_and_tensors_are_scored_as_arrays_are(score):
    features, labels = clusters(samples=60)
    for given in (features.tolist(), labels.tolist()), (torch.from_numpy(features), torch.from_numpy(labels)):
        np.testing.assert_array_equal(score(*given, 6), score(features, labels, 6))


@pytest.mark.parametrize("score", [mahalanobis, relative_mahalanobis])
def test_labels_of_two_classes_may_be_booleans(score):
    features, labels = clusters(samples=60)
    of_two = labels % 2
    np.testing.assert_array_equal(score(features, of_two.astype(bool), 2), score(features, of_two, 2))


def test_read_only_float32_features_are_fine():
    features, labels = clusters()
    features = features.astype(np.float32)
    features.flags.writeable = labels.flags.writeable = False
    assert relative_mahalanobis(features, labels, 6).dtype == np.float64


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_a_class_of_one_sample_lies_at_its_own_mean_and_the_unit_of_the_features_does_not_matter(unit):
    features, labels = clusters()
    labels[:] = np.where(labels == 5, 4, labels)
    labels[7] = 5
    md, rmd = direct_form(features, labels, 6)
    assert md[7] == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(mahalanobis(unit * features, labels, 6), md, atol=1e-8)
    np.testing.assert_allclose(relative_mahalanobis(unit * features, labels, 6), rmd, atol=1e-8)


def test_two_classes_and_a_single_feature_are_enough():
    features, labels = clusters(classes=2)
    for dimensions in (1, 2):
        some = features[:, :dimensions]
        md, rmd = direct_form(some, labels, 2)
        np.testing.assert_allclose(mahalanobis(some, labels, 2), md, atol=1e-8)
        np.testing.assert_allclose(relative_mahalanobis(some, labels, 2), rmd, atol=1e-8)


def test_float32_features_far_from_zero_are_summed_in_float64():
    features, labels = clusters(samples=5000)
    stored = (features + 1e4).astype(np.float32)
    np.testing.assert_allclose(
        relative_mahalanobis(stored, labels, 6), relative_mahalanobis(stored.astype(np.float64), labels, 6), atol=1e-6
    )


def test_of_unequal_classes_the_balanced_distance_calls_none_easy_and_finds_more_flipped_labels():
    sizes, dimensions, classes = [400, 230, 130, 80, 40, 20, 10, 8], 128, 8
    found = {"rmd": [], "balanced": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        labels = np.repeat(np.arange(classes), sizes)
        features = 0.5 * rng.normal(size=(classes, dimensions))[labels] + rng.normal(size=(len(labels), dimensions))
        given = np.where(rng.random(len(labels)) < 0.1, rng.integers(classes, size=len(labels)), labels)
        flipped = given != labels
        for name, scores in (
            ("rmd", relative_mahalanobis(features, given, classes)),
            ("balanced", relative_mahalanobis(features, given, classes, balanced=True)),
        ):
            means = [scores[(given == c) & ~flipped].mean() for c in range(classes)]
            found[name].append([np.ptp(means), roc_auc_score(flipped, scores)])
    (apart, auroc), (balanced_apart, balanced_auroc) = (np.mean(found[name], axis=0) for name in found)
    assert apart > 15
    assert balanced_apart < 5
    assert auroc < 0.96
    assert balanced_auroc > 0.985


def test_balanced_or_not_is_the_same_ranking_where_classes_are_equally_large():
    features, labels = clusters()
    one, other = (relative_mahalanobis(features, labels, 6, balanced=balanced) for balanced in (False, True))
    assert spearmanr(one, other).statistic > 0.999
    plain, balanced = (fit(features, labels, 6, balanced=balanced) for balanced in (False, True))
    np.testing.assert_allclose(plain.spread, balanced.spread)


def test_the_balanced_distance_is_the_direct_form_and_a_single_sample_is_as_far_as_others_are():
    features, labels = clusters(samples=600, dimensions=8, classes=4)
    labels = np.where(labels == 3, np.where(np.arange(600) % 5, 0, 3), labels)
    means = np.stack([features[labels == c].mean(0) for c in range(4)])
    own = features - means[labels]
    within = own.T @ own / 600
    centred = means - means.mean(0)
    to_all = np.linalg.inv(within + centred.T @ centred / 4)
    every = features - means.mean(0)
    sizes = np.bincount(labels)[labels]
    # Where class means do not differ, a sample's distances to its class and to all are the same, and cancel.
    bias = np.square(own @ fit(features, labels, 4, balanced=True).directions).sum(1) / (sizes - 1)
    expected = np.einsum("nd,de,ne->n", own, np.linalg.inv(within), own) + bias
    expected -= np.einsum("nd,de,ne->n", every, to_all, every)
    np.testing.assert_allclose(relative_mahalanobis(features, labels, 4, balanced=True), expected, atol=1e-6)
    alone = np.where(labels == 3, 0, labels)
    alone[7] = 3
    gaussians = fit(features, alone, 4, balanced=True)
    scores, u = gaussians.relative_distance(features, alone), (features[7] - gaussians.mean) @ gaussians.directions
    assert np.isfinite(scores).all()
    assert scores[7] == pytest.approx(len(u) - (u**2 / (1 + gaussians.spread)).sum())


def test_features_without_an_inverse_covariance_are_named_as_such():
    features, labels = clusters()
    with pytest.raises(InputError, match=r"covariance cannot be inverted \(ridge 0\): LinAlgError"):
        fit(np.hstack([features, features[:, :1]]), labels, 6, ridge=0.0)
    with pytest.raises(InputError, match="too large for their squares to be summed"):
        fit(features.astype(np.float64) * 1e200, labels, 6)
