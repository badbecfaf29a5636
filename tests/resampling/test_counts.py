"""The laws of class counts, over many random hardness vectors; and the published code's failures."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardtune.errors import HardtuneWarning, InputError
from hardtune.resampling.counts import FLOOR, class_counts
from hardtune.resampling.policies import POLICIES

many = settings(max_examples=300, deadline=None)


@st.composite
def cases(draw, balanced=False):
    """Hardness of any shape, sizes, alpha, policy and balance, for which a ratio exists."""
    classes = draw(st.one_of(st.integers(2, 12), st.sampled_from([100, 1000])))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = np.full(classes, draw(st.integers(1, 5000))) if balanced else rng.integers(1, 5000, classes)
    low_is_hard = draw(st.booleans())
    policy = draw(st.sampled_from(sorted(POLICIES)))
    textbook = np.exp(rng.normal(size=classes) * draw(st.sampled_from([0.01, 0.3, 2.0])))
    if policy == "margin":
        textbook = textbook / textbook.max()
    if draw(st.booleans()):
        textbook = textbook.round(1) + 0.1 * (policy != "margin")  # ties
    hardness = -np.maximum(textbook, 1e-3) if low_is_hard else textbook
    if policy in ("shift", "reversed") and draw(st.booleans()):
        hardness = hardness - hardness.mean()  # of either sign
    alpha = draw(st.one_of(st.just(0.0), st.floats(0, 10), st.just(1.0)))
    balance = draw(st.one_of(st.just(0.0), st.floats(0, 1), st.just(1.0)))
    return hardness, sizes, alpha, policy, low_is_hard, balance


def formula(hardness, sizes, alpha, policy, low_is_hard, balance):
    names = [str(c) for c in range(len(sizes))]
    ratio = POLICIES[policy](hardness, low_is_hard, names)
    ratio = ratio if ratio.any() else np.ones_like(ratio)
    evened = sizes + balance * (sizes.mean() - sizes)
    share = evened * ratio / (evened * ratio).sum()
    return evened + alpha * (sizes.sum() * share - evened)


def papers(hardness, sizes, alpha, policy, low_is_hard):
    """HBR's own, for classes of one size."""
    ratio = POLICIES[policy](hardness, low_is_hard, [str(c) for c in range(len(sizes))])
    ratio = ratio if ratio.any() else np.ones_like(ratio)
    mean = sizes.mean()
    return mean + alpha * (sizes.sum() * ratio / ratio.sum() - mean)


def nothing_binds(case):
    """Whether neither balance nor alpha asks for less than a class keeps."""
    hardness, sizes, _, policy, low_is_hard, balance = case
    least = np.ceil(FLOOR * sizes)
    evened = formula(hardness, sizes, 0.0, policy, low_is_hard, balance)
    return (evened >= least).all() and (formula(*case) >= least).all()


def counts_of(case):
    hardness, sizes, alpha, policy, low_is_hard, balance = case
    return class_counts(hardness, sizes, alpha, policy, balance=balance, low_is_hard=low_is_hard)


@many
@given(cases())
def test_counts_sum_to_n_and_leave_a_tenth_of_each_class_for_any_alpha(case):
    counts = counts_of(case)
    assert counts.dtype == np.int64
    assert counts.sum() == case[1].sum()
    assert (counts >= np.ceil(FLOOR * case[1])).all()
    assert (counts >= 1).all()


@many
@given(cases())
def test_counts_are_the_formula_rounded_where_nothing_binds(case):
    if nothing_binds(case):
        assert np.abs(counts_of(case) - formula(*case)).max() < 1 + 1e-6


@many
@given(cases(balanced=True))
def test_counts_of_equally_large_classes_are_the_papers(case):
    if nothing_binds(case):
        assert np.abs(counts_of(case) - papers(*case[:5])).max() < 1 + 1e-6


@many
@given(cases())
def test_counts_are_the_papers_once_classes_are_evened_out(case):
    case = (*case[:5], 1.0)
    if nothing_binds(case):
        assert np.abs(counts_of(case) - papers(*case[:5])).max() < 1 + 1e-6


@many
@given(cases(), st.integers(2, 50))
def test_what_a_class_gains_or_loses_is_a_share_of_its_own_size(case, factor):
    """Two classes of equal hardness, one ``factor`` times as large, end in that proportion."""
    hardness, sizes, *_ = case = (*case[:5], 0.0)
    sizes[1], hardness[1] = factor * sizes[0], hardness[0]
    if nothing_binds(case):
        small, large = counts_of(case)[:2]
        assert abs(large - factor * small) <= factor + 1


def test_a_small_class_that_is_hardly_easier_hardly_shrinks():
    hardness, sizes = np.array([0.30, 0.31, 0.29]), np.array([4000, 3000, 300])
    assert list(class_counts(hardness, sizes, 1)) == [3951, 3062, 287]
    assert list(class_counts(hardness, sizes, 1, "shift")) == [3561, 3561, 178]


@many
@given(cases())
def test_alpha_zero_is_the_data_itself(case):
    hardness, sizes, _, policy, low_is_hard, _ = case
    np.testing.assert_array_equal(class_counts(hardness, sizes, 0.0, policy, low_is_hard=low_is_hard), sizes)


@many
@given(cases(), st.floats(0, 1))
def test_balance_brings_classes_together_and_never_changes_which_is_larger(case, other):
    hardness, sizes, *_ = case
    less, more = sorted([case[5], other])
    before, after = (class_counts(hardness, sizes, 0.0, balance=balance) for balance in (less, more))
    assert (np.diff(before[np.argsort(sizes, kind="stable")]) >= -1).all()
    large = sizes > sizes.mean()
    assert (after[large] <= before[large] + 1).all()
    assert (after[~large] >= before[~large] - 1).all()


def test_full_balance_gives_all_classes_the_same_whatever_their_hardness_but_for_a_tenth_that_each_keeps():
    assert list(class_counts(np.array([5.0, 1.0, 2.0]), np.array([800, 100, 101]), 0, balance=1)) == [334, 334, 333]
    assert list(class_counts(np.zeros(3), np.array([800, 100, 300]), 0, balance=0.5)) == [600, 250, 350]
    sizes = np.array([10_000, *[10] * 99])
    assert list(class_counts(np.zeros(100), sizes, 0, balance=1)) == [1000, *[101] * 90, *[100] * 9]


@many
@given(cases(balanced=True))
def test_of_two_equally_large_classes_the_harder_never_gets_fewer(case):
    hardness = -case[0] if case[3] == "reversed" else case[0]
    counts = counts_of(case)[np.argsort(hardness, kind="stable")]
    if case[2] > 0:
        gaps = np.diff(counts)
        equally_hard = np.diff(np.sort(hardness)) == 0
        assert (gaps[~equally_hard] >= 0).all()
        assert (np.abs(gaps[equally_hard]) <= 1).all()


@many
@given(cases(), st.floats(0, 10))
def test_a_larger_alpha_never_gives_back_more_than_a_rounding(case, other):
    hardness, _, alpha, policy, low_is_hard, _ = case
    less, more = sorted([alpha, other])
    evened, before, after = (counts_of((*case[:2], alpha, *case[3:])) for alpha in (0.0, less, more))
    change = formula(hardness, evened, 1.0, policy, low_is_hard, 0.0) - evened
    change[np.abs(change) < 1] = 0  # by its rounding, a class could be on either side
    assert (after[change > 0] >= before[change > 0] - 1).all()
    assert (after[change < 0] <= before[change < 0] + 1).all()


@many
@given(cases(), st.integers(0, 11), st.floats(1.0, 3.0))
def test_a_class_that_becomes_harder_never_gets_fewer(case, index, factor):
    hardness, _, _, policy, *_ = case
    index %= len(hardness)
    harder = hardness.copy()
    harder[index] = harder[index] / factor if harder[index] < 0 else harder[index] * factor
    if policy in ("shift", "reversed") or (policy == "margin" and np.abs(harder).max() > 1):
        return  # moving one class moves the range that all are measured by
    before, after = counts_of(case), counts_of((harder, *case[1:]))
    assert after[index] >= before[index] - 1


@many
@given(cases())
def test_the_same_question_has_the_same_answer_and_inputs_stay_as_they_are(case):
    for array in case[:2]:
        array.flags.writeable = False
    np.testing.assert_array_equal(counts_of(case), counts_of(case))


def test_the_papers_formula_for_a_low_is_hard_estimator_by_hand():
    # AUM 2, 4, 4: R = 1/2, 1/4, 1/4, so S = 600, 300, 300 of N = 1200; at alpha 0.5 halfway there from 400.
    hardness, sizes = -np.array([2.0, 4.0, 4.0]), np.full(3, 400)
    assert list(class_counts(hardness, sizes, 1, low_is_hard=True)) == [600, 300, 300]
    assert list(class_counts(hardness, sizes, 0.5, low_is_hard=True)) == [500, 350, 350]


def test_an_alpha_at_which_the_published_code_goes_negative_leaves_a_tenth():
    hardness, sizes = np.array([1.0, 4.0, 7.0]), np.full(3, 1000)
    assert papers(hardness, sizes, 5.0, "paper", False)[0] < 0
    assert list(class_counts(hardness, sizes, 5.0)) == [100, 1000, 1900]
    assert list(class_counts(hardness, np.full(3, 5), 5.0)) == [1, 5, 9]


def test_equal_remainders_go_to_the_lower_class_number():
    assert list(class_counts(np.array([1.0, 1.0, 2.0]), np.array([2, 2, 2]), 1)) == [2, 1, 3]
    # Of 99 classes every third has a target of 11.2 and the others of 9.4, of which half have to do with 9.
    many_classes = class_counts(np.tile([1.0, 1.0, 3.0], 33), np.full(99, 10), 0.15)
    assert list(many_classes[2::3]) == [11] * 33
    assert list(np.delete(many_classes, np.s_[2::3])) == [10] * 33 + [9] * 33
    # Evened out, all have a target of 728/11, but for errors of arithmetic.
    sizes = np.array([26, 94, 70, 62, 87, 50, 98, 47, 96, 30, 68])
    assert list(class_counts(np.ones(11), sizes, 0, balance=1)) == [67] * 2 + [66] * 9


@pytest.mark.parametrize("mean", [0.0, -0.3])
def test_a_class_whose_mean_aum_is_not_above_zero_is_an_error_that_names_it_and_the_ways_out(mean):
    hardness = -np.array([3.0, mean, 2.0])
    with pytest.raises(InputError, match=r"'cat'.*'shift'.*'margin'"):
        class_counts(hardness, np.full(3, 5000), 1, low_is_hard=True, classes=["car", "cat", "dog"])


def test_the_same_class_has_counts_by_shift_and_by_probability_margins():
    sizes = np.full(3, 5000)
    assert list(class_counts(-np.array([3.0, -0.3, 2.0]), sizes, 1, "shift", low_is_hard=True)) == [3486, 6972, 4542]
    # R = 1 - margin = 0.1, 1.1, 0.3; and above R = 1, 2, 1 + 1/3.3
    assert list(class_counts(-np.array([0.9, -0.1, 0.7]), sizes, 1, "margin", low_is_hard=True)) == [1000, 11000, 3000]


def test_shift_gives_the_hardest_class_twice_the_easiest_in_any_unit():
    hardness = np.array([-7.0, 3.0, 13.0])
    counts = class_counts(hardness, np.full(3, 300), 1, "shift")
    assert list(counts) == [200, 300, 400]
    np.testing.assert_array_equal(class_counts(5 * hardness - 80, np.full(3, 300), 1, "shift"), counts)


def test_a_negative_mean_of_a_high_is_hard_estimator_is_an_error_too():
    with pytest.raises(InputError, match="at least 0"):
        class_counts(np.array([-1.0, 1.0]), np.full(2, 100), 1)


def test_reversed_gives_the_easiest_class_what_shift_would_if_it_were_the_hardest():
    hardness, sizes = np.array([4.0, 5.0, 8.0]), np.full(3, 300)
    assert list(class_counts(hardness, sizes, 1, "reversed")) == [379, 332, 189]  # R = 2, 1.75, 1
    np.testing.assert_array_equal(
        class_counts(hardness, sizes, 1, "reversed"), class_counts(-hardness, sizes, 1, "shift")
    )


def test_the_margin_policy_takes_what_is_high_for_hard_classes_as_the_papers_does():
    hardness, sizes = np.array([0.25, 0.75, 3.0]), np.full(3, 400)
    assert list(class_counts(hardness, sizes, 1, "margin")) == list(class_counts(hardness, sizes, 1)) == [75, 225, 900]


def test_a_class_that_is_surely_right_but_for_rounding_has_no_negative_share():
    sizes = np.full(2, 100)
    assert list(class_counts(-np.array([1 + 1e-7, 0.5]), sizes, 1, "margin", low_is_hard=True)) == [10, 190]


def test_probability_margins_need_probabilities():
    with pytest.raises(InputError, match=r"class '0' has a mean of 1\.1: choose estimator 'margin'"):
        class_counts(-np.array([1.1, 0.5]), np.full(2, 100), 1, "margin", low_is_hard=True)
    with pytest.raises(InputError, match=r"class '1' has a mean of 7\.5: choose estimator 'margin'"):
        class_counts(-np.array([0.5, 7.5]), np.full(2, 100), 1, "margin", low_is_hard=True)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_classes_that_are_all_equally_hard_keep_their_sizes_with_a_warning(policy):
    for value in (0.0, 0.5):
        with pytest.warns(
            HardtuneWarning, match=f"policy '{policy}' finds all classes equally hard, so alpha changes n"
        ):
            assert list(class_counts(np.full(4, value), np.full(4, 9), 3, policy)) == [9, 9, 9, 9]


@pytest.mark.parametrize("alpha", [1e12, 1e16, 1e300])
@pytest.mark.parametrize("balance", [0.0, 0.5])
def test_classes_that_are_all_equally_hard_keep_their_sizes_for_any_alpha(alpha, balance):
    sizes = np.array([3439, 4709, 5274, 567, 1965, 5823])
    evened = class_counts(np.full(6, 0.3), sizes, 0, balance=balance)
    with pytest.warns(HardtuneWarning, match="finds all classes equally hard"):
        np.testing.assert_array_equal(class_counts(np.full(6, 0.3), sizes, alpha, balance=balance), evened)


@pytest.mark.parametrize(("hardness", "alpha"), [([0.5, 0.5], 0), ([0.5, 0.5 + 1e-6], 1), ([0.0, 1.0], 1)])
def test_nothing_is_warned_of_where_sizes_follow_hardness_or_need_not(hardness, alpha):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        class_counts(hardness, [9, 9], alpha)


@pytest.mark.parametrize("policy", ["shift", "reversed"])
def test_classes_that_differ_by_rounding_alone_keep_their_sizes(policy):
    sizes = np.array([3, 7, 10, 50, 100, 333])
    means = np.array([np.full(size, 0.1).sum() / size for size in sizes])
    assert len(set(means)) > 1, "as means of equal scores do"
    with pytest.warns(HardtuneWarning, match="finds all classes equally hard"):
        assert list(class_counts(means, sizes, 1, policy)) == list(sizes)


def test_what_are_no_numbers_is_said_in_a_sentence():
    with pytest.raises(InputError, match="hardness and sizes must be arrays of numbers: ValueError"):
        class_counts(["easy", "hard"], [5, 5], 1)
    with pytest.raises(InputError, match=r"sizes must be whole numbers, got \[10.7 20. \]"):
        class_counts([1.0, 2.0], [10.7, 20.0], 1)


@pytest.mark.parametrize("ratio", [[1.0, np.nan], [1.0, -0.5], [1.0], [1.0, np.inf]])
def test_a_policy_whose_ratio_is_none_is_an_error(monkeypatch, ratio):
    monkeypatch.setitem(POLICIES._entries, "mine", lambda hardness, low_is_hard, classes: np.array(ratio))
    with pytest.raises(InputError, match=r"policy 'mine' must give (every class a finite|a ratio for each class)"):
        class_counts([1.0, 2.0], [5, 5], 1, "mine")


@pytest.mark.parametrize(
    ("hardness", "sizes", "alpha", "policy", "message"),
    [
        ([1.0, np.nan], [5, 5], 1, "paper", "class '1' is not finite"),
        ([1.0, 2.0], [5, 0], 1, "paper", "class '1' has no samples"),
        ([1.0, 2.0], [5, 5], -1, "paper", "alpha"),
        ([1.0, 2.0], [5, 5], np.inf, "paper", "alpha"),
        ([1.0, 2.0], [5, 5], 1, "papers", "choose from margin, paper, reversed, shift"),
        ([1.0, 2.0, 3.0], [5, 5], 1, "paper", r"\(3,\) and \(2,\)"),
        ([1.0], [5], 1, "paper", "K of at least 2"),
    ],
)
def test_what_has_no_counts_is_an_error(hardness, sizes, alpha, policy, message):
    with pytest.raises(InputError, match=message):
        class_counts(np.array(hardness), np.array(sizes), alpha, policy)


@pytest.mark.parametrize("alpha", ["1", None, True, 1e308])
def test_an_alpha_that_is_no_number_or_overflows_is_an_error(alpha):
    says = r"alpha must be a finite number of at least 0, got|alpha=1e\+308 is too large to compute counts with"
    with pytest.raises(InputError, match=says):
        class_counts(np.array([1.0, 3.0, 2.0]), np.full(3, 50), alpha)


def test_the_hardness_of_one_class_alone_is_an_error_though_it_is_no_array():
    with pytest.raises(InputError, match=r"for K of at least 2, got \(\) and \(\)"):
        class_counts(1.0, 2, 1.0)


def test_a_very_large_alpha_leaves_the_floor_and_gives_the_rest_to_the_hardest():
    assert list(class_counts(np.array([1.0, 3.0, 2.0]), np.full(3, 50), 1e300)) == [5, 95, 50]


@pytest.mark.parametrize("balance", [-0.1, 1.1, np.nan, "x", None])
def test_a_balance_out_of_range_is_an_error(balance):
    with pytest.raises(InputError, match="balance must be from 0 to 1, got"):
        class_counts(np.array([1.0, 2.0]), np.array([5, 5]), 0, balance=balance)


def test_the_error_says_the_mean_and_what_it_is_in_the_estimators_own_direction():
    says = r"class '1' has a mean score of 0\.3, which is -0\.3 in its .* the paper's ratio 1/mean needs .*: choose"
    with pytest.raises(InputError, match=says):
        class_counts(-np.array([3.0, -0.3]), np.full(2, 10), 1, low_is_hard=True)
    with pytest.raises(InputError, match=r"class '0' has a mean score of -1, and the paper's ratio needs .*: choose"):
        class_counts(np.array([-1.0, 1.0]), np.full(2, 100), 1)


def test_what_mends_scores_of_a_sweep_is_said_before_what_mends_those_whose_sign_may_be_wrong():
    aum, sizes = np.array([5.9, 3.0, 2.0]), np.full(3, 100)
    says = (
        r"class '0' has a mean score of 5\.9, which is -5\.9 .*: train the scoring networks longer, choose "
        r"policy 'shift', or .*, or, if these scores are your own, check their sign \(higher = harder, so AUM and"
    )
    with pytest.raises(InputError, match=says):
        class_counts(aum, sizes, 1, low_is_hard=True)
    says = (
        r"mean score of -5\.9, .*: choose policy 'shift', .* their sign \(higher = harder, or say low_is_hard=True if"
    )
    with pytest.raises(InputError, match=says):
        class_counts(-aum, sizes, 1)


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"reversed"}))
@pytest.mark.parametrize("low_is_hard", [False, True])
def test_a_ratio_is_at_least_zero_and_larger_for_harder_classes(policy, low_is_hard):
    hardness = np.array([0.2, 0.5, 0.9]) - low_is_hard
    ratio = POLICIES[policy](hardness, low_is_hard, ["a", "b", "c"])
    assert (ratio >= 0).all()
    assert (np.diff(ratio) > 0).all()


@pytest.mark.parametrize("unit", [1e-307, 1e-100, 1e100, 1e305])
def test_the_unit_of_hardness_does_not_matter_to_the_papers_ratio(unit):
    hardness, sizes = np.array([1.0, 2.0, 3.0]), np.array([5000] * 3)
    expected = class_counts(hardness, sizes, 1.0).tolist()
    assert class_counts(hardness * unit, sizes, 1.0).tolist() == expected
