"""The figures that say whether a score has settled."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hardtune.errors import InputError
from hardtune.hardness.stability import (
    Agreement,
    Stability,
    agreement,
    assess,
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


def test_a_change_takes_two_members():
    labels = np.zeros(50, np.int64)
    members = noisy_members(2, noise=1.0, samples=50)
    assert nested_change(members, labels, 1).shape == (1, 1)
    assert nested_pruned_change(members, 0.3).shape == (1,)
    with pytest.raises(InputError, match="at least 2 members"):
        nested_change(members[:1], labels, 1)
    with pytest.raises(InputError, match="at least 2 members"):
        nested_pruned_change(members[:1], 0.3)


def test_disjoint_ensembles_need_twice_as_many_members_and_any_at_least_one():
    members = noisy_members(8, noise=1.0, samples=50)
    with pytest.raises(InputError, match="at least 10 members"):
        agreement(members, 5)
    with pytest.raises(InputError, match="at least 1 member, got 0"):
        agreement(members, 0)


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


def test_as_many_count_as_easiest_as_pruning_would_remove():
    scores = np.arange(100.0)
    moved = np.where(scores == 28, 1000, scores)
    assert pruned_overlap(scores, moved, 0.29) == 28 / 29  # 0.29 · 100 is a little less than 29


def test_of_tied_samples_the_first_count_as_easiest():
    tied = np.arange(1000) % 2
    apart = 1000.0 * tied + np.arange(1000)
    assert pruned_overlap(tied, apart, 0.3) == 1
    assert pruned_overlap(apart, tied, 0.3) == 1


def test_an_assessment_has_every_number_of_members_that_its_kind_of_pair_can_have():
    labels = np.arange(2000) % 4
    found = assess(noisy_members(7, noise=1.0), labels, 4, rate=0.3, draws=3)
    assert found.change.shape == (6, 4)
    assert found.pruned_change.shape == (6,)
    assert [one.size for one in found.disjoint] == [1, 2, 3]
    assert [one.size for one in found.bootstrap] == [1, 2, 3, 4, 5, 6, 7]
    least = assess(noisy_members(2, noise=1.0), labels, 4, draws=3)
    assert [one.size for one in least.disjoint] == [1]
    assert [one.size for one in least.bootstrap] == [1, 2]


def test_the_members_that_a_correlation_takes_are_those_that_reach_it():
    members = noisy_members(24, noise=1.0, samples=20_000)
    found = assess(members[:8], np.zeros(20_000, np.int64), 1, draws=10)
    assert found.expected_correlation(12) == pytest.approx(12 / 13, abs=0.01)
    needed = found.members_for(0.9)
    assert needed == pytest.approx(9, abs=1)  # 9 / (9 + 1)
    assert agreement(members, needed, draws=10).rank_correlation.mean() == pytest.approx(0.9, abs=0.01)


@pytest.mark.parametrize("single", [0.1, 0.3, 0.65])
def test_what_a_number_of_members_is_expected_to_reach_takes_that_number_and_more_takes_another(single):
    measured = Agreement(1, np.array([single]), np.array([0.5]))
    found = Stability(np.zeros((1, 1)), np.zeros(1), (measured,), (measured,))
    for size in range(1, 40):
        reached = found.expected_correlation(size)
        assert found.members_for(reached) == size
        assert found.members_for(reached + 1e-5) == size + 1


def test_no_number_of_members_makes_noisy_ones_agree_fully_and_one_is_enough_where_they_do():
    labels = np.zeros(500, np.int64)
    assert assess(noisy_members(4, noise=1.0, samples=500), labels, 1, draws=3).members_for(1.0) is None
    assert assess(noisy_members(4, noise=0.0, samples=500), labels, 1, draws=3).members_for(1.0) == 1


def test_no_number_of_members_makes_noise_agree():
    noise = np.random.default_rng(0).normal(size=(4, 3000)) * np.array([[1], [1], [-1], [-1]])
    noise[2:] -= 3 * noise[:2]
    assert assess(noise, np.zeros(3000, np.int64), 1, draws=10).members_for(0.95) is None


def test_an_assessment_takes_its_rate_draws_and_seed_to_every_pair():
    members, labels = noisy_members(4, noise=1.0), np.zeros(2000, np.int64)
    found = assess(members, labels, 1, rate=0.05, draws=7, seed=3)
    np.testing.assert_array_equal(found.pruned_change, nested_pruned_change(members, 0.05))
    for how, agreements in (("disjoint", found.disjoint), ("bootstrap", found.bootstrap)):
        for one in agreements:
            again = agreement(members, one.size, rate=0.05, draws=7, seed=3, how=how)
            np.testing.assert_array_equal(one.pruned_overlap, again.pruned_overlap)
            np.testing.assert_array_equal(one.rank_correlation, again.rank_correlation)


def test_the_share_of_the_easiest_that_changes_is_by_hand():
    # By the first member alone the easiest half is {0, 1}, by the mean of two {0, 2}, and by that of three as well.
    members = np.array([[0.0, 1.0, 2.0, 3.0], [0.0, 3.0, 1.0, 4.0], [0.0, 3.0, 1.0, 4.0]])
    np.testing.assert_allclose(nested_pruned_change(members, 0.5), [0.5, 0.0])


def test_scores_and_ways_to_compare_them_that_are_none_are_errors():
    members = np.random.default_rng(0).normal(size=(4, 30))
    with pytest.raises(InputError, match="unknown way to draw ensembles 'disjiont': choose from bootstrap, disjoint"):
        agreement(members, 1, how="disjiont")
    for compare in (rank_correlation, lambda a, b: pruned_overlap(a, b, 0.3)):
        with pytest.raises(InputError, match=r"scores \(N,\) of the same samples are compared, got \(30,\), \(29,\)"):
            compare(members[0], members[1, 1:])
        with pytest.raises(InputError, match=r"scores must be arrays of numbers \(N,\)"):
            compare(members[0], ["hard"] * 30)
    with pytest.raises(InputError, match="of the same samples are compared, got none"):
        rank_correlations({})
    with pytest.raises(InputError, match=r"the members' scores must be an array of numbers \(J, N\)"):
        assess([[0.1, 0.2], [0.3]], np.arange(2), 2)
    members[2, 3] = np.nan
    with pytest.raises(InputError, match="the members' scores contain NaN or infinity"):
        agreement(members, 1)


def test_members_that_contradict_each_other_are_not_expected_to_agree():
    score = np.arange(30.0)
    assert assess(np.stack([score, -score]), np.arange(30) % 2, 2).expected_correlation(2) == 0


def test_scores_that_are_nan_are_not_correlated():
    scores = np.array([1.0, np.nan, 2.0])
    for compare in (
        lambda: rank_correlation(scores, np.arange(3.0)),
        lambda: rank_correlations({"a": scores}),
        lambda: pruned_overlap(scores, scores, 0.5),
    ):
        with pytest.raises(InputError, match="scores that are NaN have no rank"):
            compare()


def test_lists_and_tensors_are_scores_like_arrays():
    members, labels = noisy_members(4, noise=1.0, samples=50), np.arange(50) % 2
    expected = assess(members, labels, 2, seed=1)
    for kind in (np.ndarray.tolist, torch.from_numpy):
        found = assess(kind(members), labels, 2, seed=1)
        np.testing.assert_array_equal(found.change, expected.change)
        np.testing.assert_array_equal(found.disjoint[0].rank_correlation, expected.disjoint[0].rank_correlation)
        pair = kind(members[0]), kind(members[1])
        assert pruned_overlap(*pair, 0.3) == pruned_overlap(members[0], members[1], 0.3)
        assert rank_correlation(*pair) == rank_correlation(members[0], members[1])


def test_no_correlation_is_beyond_one():
    scores = np.random.default_rng(0).random((200, 30))
    found = rank_correlations({str(n): score for n, score in enumerate([*scores, *scores, *-scores])})
    assert np.abs(found).max() == 1
