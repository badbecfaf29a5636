"""Pruning removes the easiest, unless the hardest are asked for: published code in this field has mixed them up."""

import numpy as np
import pytest

from hardtune import Treatment
from hardtune.checks import check_names
from hardtune.errors import InputError
from hardtune.resampling.prune import PRUNERS

rng = np.random.default_rng(0)
LABELS = np.repeat(np.arange(4), [100, 100, 60, 40])
SCORES = (rng.normal(size=300) + LABELS).astype(np.float32)  # class 0 is the easiest
SCORES.flags.writeable = LABELS.flags.writeable = False


def pruned(name, scores, labels, rate, seed=0):
    if name == "quotas":
        scores = scores - scores.min()  # it takes none below 0
    return PRUNERS[name](scores, labels, rate, np.random.default_rng(seed))


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.57, 0.7])  # 0.57 · 300 is a little less than 171
def test_the_dataset_level_removes_exactly_the_easiest_of_all(rate):
    kept = pruned("dataset", SCORES, LABELS, rate)
    removed = np.setdiff1d(np.arange(300), kept)
    assert len(removed) == round(rate * 300)
    assert SCORES[removed].max() <= SCORES[kept].min()


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.7])
def test_the_class_level_removes_the_same_share_of_every_class_and_its_easiest(rate):
    kept = pruned("class", SCORES, LABELS, rate)
    removed = np.setdiff1d(np.arange(300), kept)
    assert list(np.bincount(LABELS[removed])) == [round(rate * n) for n in (100, 100, 60, 40)]
    for label in range(4):
        assert SCORES[removed][LABELS[removed] == label].max() <= SCORES[kept][LABELS[kept] == label].min()


def test_the_hardest_go_first_if_asked_for_and_no_class_goes_with_them():
    kept = pruned("hardest", SCORES, LABELS, 0.1)
    removed = np.setdiff1d(np.arange(300), kept)
    assert len(removed) == 30
    assert SCORES[removed].min() >= SCORES[kept].max()
    most = pruned("hardest", SCORES, LABELS, 0.99)
    assert len(most) == 4
    for label in range(4):
        assert SCORES[most][LABELS[most] == label].min() == SCORES[label == LABELS].min()


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.7])
def test_random_pruning_takes_the_same_share_of_every_class_whatever_the_scores(rate):
    kept = pruned("random", SCORES, LABELS, rate)
    np.testing.assert_array_equal(kept, pruned("random", -SCORES, LABELS, rate))
    assert not np.array_equal(kept, pruned("random", SCORES, LABELS, rate, seed=1))
    removed = np.setdiff1d(np.arange(300), kept)
    assert list(np.bincount(LABELS[removed])) == [round(rate * n) for n in (100, 100, 60, 40)]
    assert np.abs(SCORES[kept].mean() - SCORES.mean()) < 0.2
    assert np.isin(pruned("random", SCORES, LABELS, 0.9), kept).all(), "a larger rate removes the same ones and others"
    assert list(np.bincount(LABELS[pruned("random", SCORES, LABELS, 0.999)])) == [1, 1, 1, 1]


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.7, 0.9])
def test_by_quotas_the_share_that_a_class_keeps_follows_its_mean_score_and_random_samples_go(rate):
    scores = np.exp(SCORES)
    kept = pruned("quotas", scores, LABELS, rate)
    counts, sizes, hardness = (
        np.bincount(LABELS[kept]),
        np.bincount(LABELS),
        np.bincount(LABELS, weights=scores - scores.min()) / np.bincount(LABELS),
    )
    assert counts.sum() == len(kept) == 300 - round(rate * 300)
    np.testing.assert_allclose(counts, drop(hardness, sizes, 1 - rate) * sizes, atol=1)
    assert (counts == sizes)[-1] == (rate < 0.7), "the hardest class keeps all of its samples if few are removed"
    assert not np.array_equal(kept, pruned("quotas", scores, LABELS, rate, seed=1))
    if rate == 0.7:
        assert np.abs(SCORES[kept[LABELS[kept] == 1]].mean() - SCORES[LABELS == 1].mean()) < 0.3


def drop(hardness, sizes, density):
    """Algorithm 1 of arXiv 2404.05579, line by line, with class hardness in the place of 1 - recall."""
    densities, unsaturated, excess = np.zeros(len(sizes)), set(range(len(sizes))), density * sizes.sum()
    while excess > 1e-9:
        total = sum(sizes[k] * hardness[k] for k in unsaturated)
        excess_now = excess
        for k in sorted(unsaturated):
            share = excess_now * hardness[k] / total
            densities[k] += share
            excess -= sizes[k] * share
            if densities[k] > 1:
                unsaturated.remove(k)
                excess += sizes[k] * (densities[k] - 1)
                densities[k] = 1
    return densities


def test_quotas_leave_one_sample_of_a_class_that_is_not_hard_at_all_and_none_of_them_is_overdrawn():
    labels, scores = np.repeat([0, 1, 2], [40, 40, 20]), np.repeat([0.0, 0.0, 1.0], [40, 40, 20])
    assert list(np.bincount(labels[PRUNERS["quotas"](scores, labels, 0.5, rng)])) == [15, 15, 20]
    assert list(np.bincount(labels[PRUNERS["quotas"](scores, labels, 0.9, rng)])) == [1, 1, 10]
    assert list(np.bincount(labels[PRUNERS["quotas"](0 * scores, labels, 0.5, rng)])) == [20, 20, 10]


def test_quotas_take_no_scores_below_zero_and_say_so_before_any_are_made():
    with pytest.raises(
        InputError, match=r"it needs scores of at least 0, and the lowest is -.*choose estimator dataiq"
    ):
        PRUNERS["quotas"](SCORES, LABELS, 0.5, rng)
    for estimator in ("aum", "confidence", "rmd"):
        with pytest.raises(InputError, match=f"'quotas' needs scores of at least 0, and those of '{estimator}' are no"):
            check_names(Treatment(prune="quotas", prune_rate=0.5, estimator=estimator))
    check_names(Treatment(prune="quotas", prune_rate=0.5, estimator="el2n_mean"))
    check_names(Treatment(prune="quotas", prune_rate=0.0, estimator="aum"))


def test_the_dataset_level_makes_easy_classes_smaller_and_the_class_level_does_not():
    balanced = np.arange(300) % 3
    scores = rng.normal(size=300) + balanced
    sizes = np.bincount(balanced[pruned("dataset", scores, balanced, 0.5)])
    assert sizes[0] < sizes[1] < sizes[2]
    assert list(np.bincount(balanced[pruned("class", scores, balanced, 0.5)])) == [50, 50, 50]


@pytest.mark.parametrize("name", ["dataset", "class"])
def test_of_equally_easy_samples_the_first_are_not_the_ones_that_go(name):
    # Image folders are stored class by class, and most forgetting counts are 0.
    labels = np.repeat(np.arange(10), 100)
    scores = (np.arange(1000) % 10 == 0).astype(np.float32)
    kept = pruned(name, scores, labels, 0.4)
    assert (np.abs(np.bincount(labels[kept], minlength=10) - 60) < 20).all()
    assert np.abs(np.mean(kept % 100) - 49.5) < 5  # nor those at the beginning of each class
    assert scores[kept].sum() == 100
    np.testing.assert_array_equal(kept, pruned(name, scores, labels, 0.4))


def test_of_equally_hard_samples_the_last_are_not_the_ones_that_go():
    labels = np.repeat(np.arange(10), 100)
    kept = pruned("hardest", np.zeros(1000, np.float32), labels, 0.4)
    assert (np.abs(np.bincount(labels[kept], minlength=10) - 60) < 20).all()


@pytest.mark.parametrize("name", PRUNERS)
def test_the_indices_that_stay_ascend_and_a_rate_of_zero_keeps_all(name):
    kept = pruned(name, SCORES, LABELS, 0.0)
    np.testing.assert_array_equal(kept, np.arange(300))
    some = pruned(name, SCORES, LABELS, 0.5)
    assert some.dtype == np.int64
    assert (np.diff(some) > 0).all()


def test_the_class_level_leaves_one_sample_of_every_class():
    assert list(pruned("class", np.array([3.0, 1.0, 2.0]), np.array([0, 0, 1]), 0.99)) == [0, 2]


def test_a_share_of_a_class_is_rounded_not_cut_off():
    labels = np.repeat([0, 1, 2], [100, 9, 4])
    kept = pruned("class", np.arange(113.0), labels, 0.29)  # 29 (0.29 · 100 is a little less), 2.61 and 1.16
    assert list(np.bincount(labels[kept])) == [71, 6, 3]
