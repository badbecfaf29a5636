"""The figures that say whether a score has settled."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from hardtune.errors import InputError
from hardtune.hardness.stability import (
    agreement,
    nested_change,
    nested_pruned_change,
    pruned_overlap,
    rank_correlation,
    rank_correlations,
)


def noisy_members(count, noise, samples=2000, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=samples)
    return (truth + noise * rng.normal(size=(count, samples))).astype(np.float32)


def test_nested_change_is_the_change_of_class_hardness_as_members_join():
    members = np.array([[1.0, 3.0], [3.0, 3.0], [2.0, 0.0]])
    change = nested_change(members, np.array([0, 1]), 2)
    np.testing.assert_allclose(change, [[1, 0], [0, 1]])


def test_nested_change_of_class_sizes_goes_through_the_callers_formula():
    members = np.array([[1.0, 1.0], [3.0, 1.0]])
    change = nested_change(members, np.array([0, 1]), 2, sizes=lambda h: 12 * h / h.sum())
    np.testing.assert_allclose(change, [[2, 2]])


def test_nested_change_shrinks_even_for_scores_that_are_pure_noise_while_agreement_does_not_rise():
    noise = np.random.default_rng(0).normal(size=(20, 3000))
    change = nested_pruned_change(noise, 0.3)
    assert change[-1] < change[0] / 3  # by arithmetic alone
    assert abs(agreement(noise, 10, seed=0).rank_correlation.mean()) < 0.05  # and nothing is agreed upon


def test_agreement_follows_the_spearman_brown_formula_for_members_with_independent_noise():
    members = noisy_members(16, noise=1.0)
    for size in (1, 4, 8):
        expected = size / (size + 1)  # reliability of a mean over `size` members where signal and noise have variance 1
        assert agreement(members, size, seed=0).rank_correlation.mean() == pytest.approx(expected, abs=0.03)


def test_bootstrap_ensembles_share_members_and_so_agree_more_than_disjoint_ones():
    members = noisy_members(8, noise=2.0)
    disjoint = agreement(members, 4, seed=0)
    bootstrap = agreement(members, 4, seed=0, how="bootstrap")
    assert bootstrap.rank_correlation.mean() > disjoint.rank_correlation.mean() + 0.03
    assert bootstrap.pruned_overlap.mean() > disjoint.pruned_overlap.mean()


def test_agreement_is_reproducible_by_seed():
    members = noisy_members(6, noise=1.0)
    one, other = agreement(members, 2, seed=3), agreement(members, 2, seed=3)
    np.testing.assert_array_equal(one.rank_correlation, other.rank_correlation)


def test_disjoint_ensembles_need_twice_as_many_members():
    with pytest.raises(InputError, match="at least 10 members"):
        agreement(noisy_members(8, noise=1.0, samples=50), 5)


def test_rank_correlation_is_spearmans_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation(np.zeros(300), b) == 0


def test_rank_correlations_are_symmetric_with_ones_on_the_diagonal():
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=100) for name in ("aum", "el2n", "rmd")}
    table = rank_correlations(scores)
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)
    assert table[0, 2] == pytest.approx(spearmanr(scores["aum"], scores["rmd"]).statistic)


def test_a_rate_that_prunes_nothing_or_everything_is_an_error():
    with pytest.raises(InputError, match="prunes none or all"):
        pruned_overlap(np.arange(10.0), np.arange(10.0), 0.0)
