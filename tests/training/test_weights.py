import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardtune.errors import HardtuneWarning, InputError
from hardtune.training.weights import (
    SCALES,
    TARGETS,
    clipped,
    difficulty_weights,
    entropy_weights,
    rank,
    summarise,
)


def relative_distances(n=2000, seed=0):
    """Scores like RMD's: mean zero, a heavy tail of hard samples, hundreds of units wide."""
    rng = np.random.default_rng(seed)
    scores = 40 * rng.standard_t(3, n)
    return (scores - scores.mean()).astype(np.float32)


finite = arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("scale", SCALES)
@settings(deadline=None)  # scipy is imported on the first call
@given(scores=finite, temperature=st.floats(0.01, 100))
def test_weights_are_in_zero_one_and_never_fall_with_difficulty(scale, scores, temperature):
    s = difficulty_weights(scores, scale=scale, temperature=temperature)
    assert s.dtype == np.float32
    assert s.shape == scores.shape
    assert (s > 0).all()
    assert s.max() == 1
    assert (np.diff(s[np.argsort(scores)]) >= 0).all()


def test_raw_weights_are_the_formula():
    scores = np.array([-1.0, 0.5, 0.7])
    expected = np.exp((scores - 0.7) / 0.4)
    assert np.allclose(difficulty_weights(scores, scale="raw", temperature=0.4), expected)


def test_clipped_scores_are_min_max_scaled_below_the_99th_percentile():
    scores = relative_distances().astype(float)
    top = np.percentile(scores, 99)
    expected = np.clip((scores - scores.min()) / (top - scores.min()), 0, 1)
    assert np.allclose(clipped(scores), expected)
    assert (clipped(scores) == 1).mean() == pytest.approx(0.01, abs=0.001)


@pytest.mark.parametrize("scale", ["clipped", "rank"])
def test_scaled_weights_do_not_depend_on_the_unit_of_the_scores(scale):
    scores = relative_distances()
    assert np.allclose(
        difficulty_weights(scores, scale=scale), difficulty_weights(3 * scores + 7, scale=scale), atol=1e-5
    )


def test_one_outlier_does_not_silence_the_others():
    scores = relative_distances()
    scores[0] = 1e6
    assert np.median(difficulty_weights(scores)) > 0.2


def test_ranks_give_every_estimator_the_same_weights():
    skewed, flat = np.exp(relative_distances() / 40), np.linspace(0, 1, 2000)
    quantiles = [summarise(difficulty_weights(s, scale="rank")).quantiles for s in (skewed, flat)]
    assert quantiles[0] == pytest.approx(quantiles[1], rel=1e-3)


def test_ranks_share_ties():
    assert rank(np.array([5.0, 1.0, 5.0, 9.0])).tolist() == [0.5, 0.0, 0.5, 1.0]


def test_scores_that_are_mostly_equal_still_single_out_the_rest():
    scores = np.zeros(1000)
    scores[:5] = 3.0
    weights = difficulty_weights(scores)
    assert (weights[:5] == 1).all()
    assert (weights[5:] < 0.3).all()


@pytest.mark.parametrize("scale", ["clipped", "rank", "raw"])
def test_scores_that_are_all_equal_weigh_all_samples_fully_and_say_so(scale):
    with pytest.warns(HardtuneWarning, match=r"are all equal, so this is a .*: choose another estimator"):
        assert (difficulty_weights(np.full(10, 2.5), scale=scale) == 1).all()


def test_raw_rmd_is_said_to_be_the_plain_loss_for_most_samples():
    with pytest.warns(HardtuneWarning, match="most samples get the plain loss"):
        difficulty_weights(relative_distances(), scale="raw")


def test_scores_divided_by_n_are_said_to_be_a_constant_penalty():
    with pytest.warns(HardtuneWarning, match="constant entropy penalty"):
        difficulty_weights(relative_distances() / 2e4, scale="raw")


def test_the_default_scale_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difficulty_weights(relative_distances())
        entropy_weights("constant", np.zeros(10))


@pytest.mark.parametrize("target", TARGETS)
def test_of_a_trials_weights_its_summary_warns_and_nothing_else(target):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "are all equal" in summarise(entropy_weights(target, np.zeros(10))).warning


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_gives_one_weight_in_zero_one_per_sample_and_leaves_scores_alone(target):
    scores = relative_distances()
    before = scores.copy()
    scores.flags.writeable = False
    s = entropy_weights(target, scores, seed=1)
    assert s.shape == scores.shape
    assert s.dtype == np.float32
    assert ((s > 0) & (s <= 1)).all()
    assert np.array_equal(scores, before)


def test_the_shuffled_control_has_the_same_weights_on_other_samples():
    scores = relative_distances()
    method, control = entropy_weights("difficulty", scores), entropy_weights("shuffled", scores, seed=3)
    assert np.array_equal(np.sort(method), np.sort(control))
    assert abs(np.corrcoef(method, control)[0, 1]) < 0.1
    assert np.array_equal(control, entropy_weights("shuffled", scores, seed=3))
    assert not np.array_equal(control, entropy_weights("shuffled", scores, seed=4))


def test_the_mean_control_has_the_same_strength_everywhere():
    scores = relative_distances()
    method, control = entropy_weights("difficulty", scores), entropy_weights("mean", scores)
    assert np.ptp(control) == 0
    assert control.mean(dtype=float) == pytest.approx(method.mean(dtype=float))


def test_no_weight_of_a_control_exceeds_one_however_unequally_classes_count():
    counting = np.where(np.arange(100) < 90, 0.1, 10.0)  # the hardest count most, so the control is raised
    with_all = np.arange(100)
    s = entropy_weights("shuffled", np.arange(100.0), trained=with_all, counting=counting)
    plain = entropy_weights("shuffled", np.arange(100.0), trained=with_all)
    assert np.average(plain, weights=counting) < np.average(s, weights=counting)
    assert s.max() == 1


def test_the_constant_penalty_needs_no_usable_scores():
    assert (entropy_weights("constant", np.full(4, np.nan)) == 1).all()
    with pytest.raises(InputError, match="scores must be an array of numbers"):  # it says how many weights there are
        entropy_weights("constant", None)


def test_the_summary_is_what_numpy_says():
    s = difficulty_weights(relative_distances())
    summary = summarise(s)
    assert summary.histogram.sum() == len(s)
    assert summary.histogram.shape == (20,)
    assert summary.metrics()["mean"] == pytest.approx(s.mean())
    assert summary.metrics()["std"] == pytest.approx(s.std())
    assert summary.metrics()["q50"] == pytest.approx(np.median(s))
    assert summary.metrics()["q99"] == pytest.approx(np.quantile(s.astype(float), 0.99))
    assert summary.metrics()["q100"] == 1
    assert summary.warning is None
    assert np.flatnonzero(summarise(np.array([0.52, 0.53, 1.0])).histogram).tolist() == [
        10,
        19,
    ]  # bins of all of [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.array([1.0, np.nan])}, "finite, and 1 of them"),
        ({"scores": np.array([1.0, np.inf])}, "finite"),
        ({"scores": np.empty(0)}, "one number per sample"),
        ({"scores": torch.zeros(3, device="meta")}, "scores must be an array of numbers: .*meta"),
        ({"scores": torch.zeros(3, requires_grad=True)}, "scores must be an array of numbers: RuntimeError"),
        ({"scores": np.zeros((2, 2))}, "one number per sample"),
        ({"scores": np.arange(3.0), "scale": "log"}, "unknown entropy scale 'log': choose from clipped, rank, raw"),
        ({"scores": np.arange(3.0), "temperature": 0.0}, "temperature"),
        ({"scores": np.arange(3.0), "temperature": float("nan")}, "temperature"),
        ({"scores": np.arange(3.0), "temperature": float("inf")}, "temperature"),
        ({"scores": np.arange(3.0), "temperature": "1"}, "temperature must be a finite number above 0, got '1'"),
        ({"scores": np.arange(3.0), "temperature": True}, "temperature must be a finite number above 0, got True"),
        ({"scores": np.arange(3.0) * 1j}, "scores must be an array of numbers: .* complex or masked"),
        ({"scores": np.ma.array([1.0, 2], mask=[1, 0])}, "scores must be an array of numbers: .* complex or masked"),
    ],
)
def test_what_cannot_be_weighted_is_an_error(arguments, message):
    with pytest.raises(InputError, match=message):
        difficulty_weights(**arguments)


@pytest.mark.parametrize("weights", [[np.nan, 0.5], [-0.1], [50.0], [], [[0.5]]])
def test_only_weights_are_summarised(weights):
    with pytest.raises(InputError, match=r"weights to be summarised must be numbers in \[0, 1\], one per sample"):
        summarise(np.array(weights))


def test_an_unknown_target_lists_the_known_ones():
    with pytest.raises(InputError, match="choose from constant, difficulty, mean, shuffled"):
        entropy_weights("hard", np.arange(3.0))


def test_weights_are_warned_of_by_their_median_and_spread():
    half_silent = np.concatenate([np.full(60, 1e-4), np.full(40, 0.9)])
    assert "most samples get the plain loss" in summarise(half_silent).warning
    assert summarise(1 - half_silent).warning is None
    barely = np.array([0.5, 0.5 + 2 * 0.009])
    assert "std 9.0e-03" in summarise(barely).warning
    assert summarise(barely * [1, 1.01]).warning is None


def test_all_quantiles_are_logged():
    found = summarise(np.linspace(0, 1, 101)).metrics()
    expected = {f"q{p:02d}": p / 100 for p in (0, 1, 5, 25, 50, 75, 95, 99, 100)}
    assert {name: value for name, value in found.items() if name.startswith("q")} == pytest.approx(expected)


@pytest.mark.parametrize("wrong", [np.full(4, np.nan), np.zeros(3)])
def test_a_scale_that_gives_no_numbers_is_an_error(monkeypatch, wrong):
    monkeypatch.setitem(SCALES._entries, "mine", lambda scores: wrong)
    with pytest.raises(InputError, match=r"entropy scale 'mine' must give (each sample a finite number|\(4,\))"):
        difficulty_weights(np.arange(4.0), scale="mine")


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(4, np.nan), np.full(4, -0.1), np.full(4, 1.5)])
def test_a_target_that_gives_no_weights_is_an_error(monkeypatch, wrong):
    monkeypatch.setitem(TARGETS._entries, "mine", lambda weights, rng: wrong)
    with pytest.raises(InputError, match=r"entropy target 'mine' must give (each sample a weight from 0 to 1|\(4,\))"):
        entropy_weights("mine", np.arange(4.0))


def test_a_scale_that_works_in_place_leaves_the_callers_scores_as_they_are(monkeypatch):
    def mine(scores):
        scores -= scores.min()
        return scores

    monkeypatch.setitem(SCALES._entries, "mine", mine)
    scores = np.arange(1.0, 5.0)
    with pytest.raises(ValueError, match="read-only"):
        difficulty_weights(scores, scale="mine")
    assert list(scores) == [1, 2, 3, 4]
