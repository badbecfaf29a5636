import math

import numpy as np
import pytest
import torch

from hardtune.errors import InputError
from hardtune.evaluation import left_out
from hardtune.evaluation.comparison import compare, holm, least_significant, paired_difference


@pytest.mark.parametrize(("members", "comparisons"), [(2, 1), (5, 48), (8, 10)])
def test_what_is_barely_significant_is_the_first_that_holm_accepts(members, comparisons):
    spread = np.linspace(-1, 1, members)
    spread /= spread.std(ddof=1)
    least = least_significant(members, comparisons)
    for factor in (0.99, 1.01):
        others = {str(n): spread for n in range(comparisons - 1)}  # which differ by nothing on average
        found = compare({**others, "it": spread + factor * least}, np.zeros(members))
        assert found["it"].significant == (factor > 1)


def test_the_interval_and_p_value_are_scipys_paired_t_test():
    from scipy.stats import ttest_rel

    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.8, 0.02, 8), rng.normal(0.79, 0.02, 8)
    found, reference = paired_difference(ours, theirs, confidence=0.9), ttest_rel(ours, theirs)
    interval = reference.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p_value == pytest.approx(reference.pvalue)
    assert found.mean == pytest.approx(np.mean(ours - theirs))


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(1)
    seeds = rng.normal(0, 1, (2000, 5))  # what a seed adds to both sides
    ours, theirs = seeds + 0.1 + rng.normal(0, 0.1, (2000, 5)), seeds + rng.normal(0, 0.1, (2000, 5))
    found = [paired_difference(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert 0.935 < np.mean([d.low <= 0.1 <= d.high for d in found]) < 0.965
    assert np.median([d.high - d.low for d in found]) < 0.5  # unpaired it would be about 2.6


def both_by_chance(rng, seeds, images, true=0.0):
    """Whether each image is recognised (M, N) by two treatments that differ by ``true`` in expectation."""
    easy = rng.normal(size=images)  # an image is as easy for both, up to what each treatment makes of it
    sides = [easy + 0.7 * rng.normal(size=images) + shift for shift in (0.5, 0.5 + true)]
    of_seed = [0.1 * rng.normal(size=(seeds, 1)) for _ in sides]
    return [side + seed + 0.7 * rng.normal(size=(seeds, images)) > 0 for side, seed in zip(sides, of_seed, strict=True)]


def test_over_images_too_an_interval_covers_what_other_images_would_have_shown():
    rng = np.random.default_rng(4)
    parts = np.arange(200) % 20
    seeds_alone, both = [], []
    for _ in range(300):
        theirs, ours = both_by_chance(rng, seeds=8, images=200)
        a, b = ours.mean(axis=1), theirs.mean(axis=1)
        without = [ours[:, parts != p].mean() - theirs[:, parts != p].mean() for p in range(20)]
        seeds_alone.append(paired_difference(a, b))
        both.append(paired_difference(a, b, left_out=without))
        assert (both[-1].p_value < 0.05) == (not both[-1].low <= 0 <= both[-1].high)
        assert both[-1].p_value >= seeds_alone[-1].p_value
    assert np.mean([found.low <= 0 <= found.high for found in seeds_alone]) < 0.9
    assert np.mean([found.low <= 0 <= found.high for found in both]) > 0.94


def test_of_equal_members_the_interval_is_over_images_alone_and_of_one_member_it_stays_unbounded():
    from scipy.stats import t

    without = [0.1, 0.12, 0.09, 0.11]
    equal = paired_difference(np.arange(8) + 0.1, np.arange(8), left_out=without)
    error = np.sqrt(3 / 4 * np.sum((np.array(without) - np.mean(without)) ** 2))
    assert equal.high - equal.mean == pytest.approx(t.ppf(0.975, 3) * error)
    assert equal.p_value == pytest.approx(2 * t.sf(0.1 / error, 3))
    assert equal.images_share == pytest.approx(1)
    few = paired_difference(np.arange(2) + 0.1, np.arange(2), left_out=without)
    assert (few.low, few.high, few.p_value) == (-math.inf, math.inf, 0.5)
    one = paired_difference([0.2], [0.1], left_out=without)
    assert (one.low, one.high, one.p_value) == (-math.inf, math.inf, 1.0)


def test_sources_add_in_squares_and_say_their_share():
    rng = np.random.default_rng(5)
    ours, theirs, without = rng.normal(size=6), rng.normal(size=6), rng.normal(scale=0.1, size=20)
    alone, both = paired_difference(ours, theirs), paired_difference(ours, theirs, left_out=without)
    assert alone.images_share is None
    of_members, whole = alone.high - alone.mean, both.high - both.mean
    assert both.images_share == pytest.approx(1 - (of_members / whole) ** 2)
    assert 0.1 < both.images_share < 0.9
    far = paired_difference(ours + 1e9, theirs, left_out=without)
    assert 0 < far.p_value < 1e-40


def test_images_that_are_all_alike_say_nothing_of_others():
    """Both of a class's two test images, gained by each network, are no proof that all others would be."""
    ours, theirs = np.full(8, 1.0), np.zeros(8)
    assert paired_difference(ours, theirs).significant
    gained = paired_difference(ours, theirs, left_out=[1.0, 1.0])
    assert (gained.low, gained.high, gained.p_value, gained.images_share) == (-math.inf, math.inf, 1, 1)
    assert not gained.significant
    noise = 0.1 * np.random.default_rng(0).normal(size=8)
    thirds = [np.mean([0.1, 0.2, 0.6]), 0.9 / 3]  # equal, but for rounding
    for without in ([0.3] * 20, thirds):
        assert paired_difference(ours + noise, ours - 0.3, left_out=without).high == math.inf
    assert paired_difference(ours, theirs, left_out=1 - 1e-3 * np.arange(20)).significant
    same = paired_difference(ours, ours, left_out=[0.0, 0.0])
    assert (same.mean, same.low, same.high, same.p_value, same.images_share) == (0, 0, 0, 1, 0)


def test_one_member_says_nothing_about_spread():
    found = paired_difference([0.9], [0.8])
    assert (found.low, found.high, found.p_value) == (-math.inf, math.inf, 1.0)
    assert found.mean == pytest.approx(0.1)
    assert not found.significant


def test_equal_figures_differ_by_nothing():
    found = paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_the_same_gain_for_two_members_is_not_certainty():
    found = paired_difference([0.5 + 0.1, 0.6 + 0.1], [0.5, 0.6])
    assert found.p_value == 0.5
    assert not found.significant
    assert (found.low, found.high) == (-math.inf, math.inf)
    eight = paired_difference(np.arange(8) + 1.0, np.arange(8))
    assert eight.low == eight.high == 1
    assert paired_difference(np.arange(8) + 1.0, np.arange(8)).p_value == pytest.approx(2**-7)
    large = np.array([1e6, 3e6])
    assert paired_difference(large + 0.1, large).p_value == 0.5
    assert paired_difference(large, large + 0.1).p_value == 0.5


def test_holm_agrees_with_its_definition():
    p = [0.01, 0.04, 0.03, 0.005, 0.9, 0.03]
    rank = {i: r for r, i in enumerate(sorted(range(6), key=lambda i: p[i]))}
    expected = [min(1, max((6 - rank[j]) * p[j] for j in range(6) if rank[j] <= rank[i])) for i in range(6)]
    assert holm(p) == pytest.approx(expected)
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1, 1]


def test_many_comparisons_with_the_control_rarely_find_something_where_nothing_is():
    rng = np.random.default_rng(2)
    false_discoveries = uncorrected = 0
    for _ in range(300):
        control = rng.normal(size=5)
        found = compare({str(i): rng.normal(size=5) for i in range(20)}, control)
        false_discoveries += any(d.significant for d in found.values())
        uncorrected += any(d.p_value < 0.05 for d in found.values())
    assert false_discoveries / 300 < 0.08
    assert uncorrected / 300 > 0.4


def test_a_real_difference_survives_correction():
    rng = np.random.default_rng(3)
    control = rng.normal(size=6)
    noise = {f"noise {i}": control + rng.normal(0, 1, 6) for i in range(10)}
    found = compare({"real": control + 1 + rng.normal(0, 0.05, 6), **noise}, control)
    assert list(found) == ["real", *noise]
    assert found["real"].significant
    assert found["real"].mean == pytest.approx(1, abs=0.1)
    assert found["real"].p_adjusted == pytest.approx(11 * found["real"].p_value)


@pytest.mark.parametrize(
    ("treatment", "control", "message"),
    [
        ([1.0, 2.0], [1.0], "same members"),
        ([], [], "same members"),
        ([[1.0]], [[1.0]], "same members"),
        ([1.0, math.nan], [1.0, 2.0], "finite"),
        ([1.0, 2.0], [1.0, math.nan], "finite"),
        ({"a": [1.0]}, [1.0], r"needs a figure of each member \(M,\) on both sides: TypeError"),
        ([1.0], ["some"], r"needs a figure of each member \(M,\) on both sides: ValueError"),
    ],
)
def test_what_cannot_be_paired_is_an_error(treatment, control, message):
    with pytest.raises(InputError, match=message):
        paired_difference(treatment, control)


@pytest.mark.parametrize("left_out", [[], [0.1], [0.1, math.nan], [[0.1, 0.2]], [[0.1], [0.1, 0.2]], ["some", "all"]])
def test_parts_that_say_nothing_are_an_error(left_out):
    with pytest.raises(InputError, match="at least 2 parts"):
        paired_difference([1.0, 2.0], [1.0, 1.5], left_out=left_out)


def test_parts_are_of_one_metric():
    with pytest.raises(InputError, match=r"left_out takes one metric's \(P,\), the treatment's minus the control's"):
        paired_difference([1.0, 2.0], [1.0, 1.5], left_out=left_out(np.zeros((2, 4, 2)), [0, 1, 0, 1]))


def test_treatments_have_names():
    with pytest.raises(InputError, match=r"treatments maps names to figures of each member \(M,\), got a list"):
        compare([[1.0, 2.0]], [1.0, 1.5])


def test_parts_of_what_is_no_treatment_are_an_error_and_not_ignored():
    control, parts = np.array([0.80, 0.81, 0.79, 0.80]), [0.0, 0.06, -0.04, 0.05]
    treatments = {"smote": control + np.array([0.02, 0.021, 0.019, 0.02]), "hard": control}
    assert compare(treatments, control)["smote"].significant
    assert not compare(treatments, control, left_out={"smote": parts})["smote"].significant
    with pytest.raises(InputError, match="unknown treatment in left_out 'smoet': choose from hard, smote"):
        compare(treatments, control, left_out={"smoet": parts})
    with pytest.raises(InputError, match=r"left_out maps treatments to figures .*, got a list"):
        compare(treatments, control, left_out=[parts, parts])


@pytest.mark.parametrize("given_up", [-1, 1.5, "2", True])
def test_as_many_are_given_up_as_can_be_counted(given_up):
    with pytest.raises(InputError, match=f"given_up must be a whole number of at least 0, got {given_up!r}"):
        compare({"a": [1.0, 2.0]}, [1.0, 1.5], given_up=given_up)
    ours, theirs = {"a": [1.0, 2.1, 3.0]}, [0.5, 1.0, 2.0]
    assert compare(ours, theirs, given_up=np.int64(2)) == compare(ours, theirs, given_up=2)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, "95", None])
def test_a_confidence_of_nothing_or_a_hundred_percent_is_an_error(confidence):
    with pytest.raises(InputError, match="confidence must be a number between 0 and 1, got"):
        paired_difference([1.0, 2.0], [1.0, 1.0], confidence=confidence)
    with pytest.raises(InputError, match="confidence must be a number between 0 and 1, got"):
        least_significant(5, 1, confidence=confidence)


@pytest.mark.parametrize(("members", "comparisons", "which"), [(5, 0, "comparisons"), (-1, 1, "members")])
def test_members_and_comparisons_can_be_counted(members, comparisons, which):
    with pytest.raises(InputError, match=f"{which} must be a whole number of at least 1, got"):
        least_significant(members, comparisons)
    assert least_significant(np.int64(5), np.int64(1)) == least_significant(5, 1)


@pytest.mark.parametrize("wrong", [[0.01, math.nan, 0.03], [0.01, 40.0], [-0.1], [[0.1]], 0.1])
def test_what_are_no_p_values_is_not_corrected(wrong):
    with pytest.raises(InputError, match=r"p-values must be numbers in \[0, 1\], \(m,\), got"):
        holm(wrong)


def test_figures_whose_squares_cannot_be_summed_are_refused():
    with pytest.raises(InputError, match=r"finite figures of at most 1e\+150"):
        paired_difference([1e308, 1e308], [-1e308, -1e307])
    with pytest.raises(InputError, match="at least 2 parts"):
        paired_difference([1.0, 2.0], [1.0, 1.5], left_out=[1e200, -1e200])
    largest = paired_difference([1e150, 0.9e150], [-1e150, -0.95e150])
    small = paired_difference([1.0, 0.9], [-1.0, -0.95])
    assert largest.p_value == pytest.approx(small.p_value)


def test_all_treatments_are_compared_at_the_confidence_asked_for():
    rng = np.random.default_rng(0)
    control, treatments = rng.normal(size=6), {"a": rng.normal(size=6), "b": rng.normal(size=6)}
    for name, found in compare(treatments, control, confidence=0.5).items():
        alone = paired_difference(treatments[name], control, confidence=0.5)
        assert (found.low, found.high, found.confidence) == (alone.low, alone.high, 0.5)


def test_treatments_that_were_given_up_count_as_tried():
    rng = np.random.default_rng(0)
    control = rng.normal(size=8)
    treatments = {"better": control + 0.5 + 0.1 * rng.normal(size=8), "equal": control + 0.1 * rng.normal(size=8)}
    alone, among = compare(treatments, control), compare(treatments, control, given_up=10)
    for name, of in (("better", 12), ("equal", 11)):
        assert among[name].p_value == alone[name].p_value
        assert among[name].p_adjusted == pytest.approx(min(1, of * among[name].p_value))


def test_p_values_that_are_no_array_are_told_what_makes_one_of_them():
    for wrong in (torch.ones(3).bfloat16(), torch.ones(3, requires_grad=True)):
        with pytest.raises(
            InputError, match=r"p-values must be an array of numbers, .*\.detach\(\)\.float\(\)\.cpu\(\): "
        ):
            holm(wrong)
