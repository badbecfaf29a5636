"""What a trial is expected to add is held against what it adds, by simulation, and noise against least squares."""

import moocore
import numpy as np
import pytest
from scipy.special import digamma, polygamma, stdtr
from scipy.stats import kstest, multivariate_normal

from hardtune.errors import InputError
from hardtune.evaluation import racing
from hardtune.evaluation.racing import Noise, Prediction, expected_gain, judge, learn_noise, predict

M = 5
ALIKE, UNLIKE = (lambda rng, t: np.ones((t, 1, 1))), (lambda rng, t: np.sqrt(3 / rng.gamma(3, 1, (t, 1, 1))))
WORST = np.full(3, 20.0)


def world(rng, trials=30, seeds=1.0, spread=ALIKE, levels=0.0, tie=0.0):
    """Costs (T, M, 3) around 10: what the trial, its seed and chance add; ``spread`` is each trial's own.

    Chance is correlated by ``tie`` between the objectives.
    """
    chance = np.sqrt(1 - tie) * rng.normal(size=(trials, M, 3)) + np.sqrt(tie) * rng.normal(size=(trials, M, 1))
    level = levels * rng.uniform(-1, 1, size=(trials, 1, 3))
    return 10 + level + seeds * rng.normal(size=(1, M, 3)) + spread(rng, trials) * chance


def stops(trial, noise, rivals, price=0.01):
    """Whether the trial is stopped at any look."""
    return any(judge(trial[:k], noise, rivals, WORST, price).stops for k in range(1, M))


def gained(front, mean):
    """By which share of itself the hypervolume is raised."""
    return moocore.hypervolume(np.vstack([front, mean]), ref=WORST) / moocore.hypervolume(front, ref=WORST) - 1


@pytest.mark.parametrize("members", [1, 3])
def test_with_two_trials_to_learn_from_a_prediction_is_exact(members):
    """Held against where the trial really ends, predictions are uniform: 4 degrees of freedom, two unsure seeds."""
    rng = np.random.default_rng(8)
    reached = []
    for _ in range(2000):
        costs = world(rng, 3)
        p = predict(costs[2, :members], learn_noise(costs[:2]))
        reached.append(stdtr(p.df, (costs[2].mean(axis=0) - p.mean) / p.error)[0])
    assert kstest(reached, "uniform").pvalue > 0.01


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("spread", [ALIKE, UNLIKE], ids=["all as noisy", "some much noisier"])
def test_what_is_expected_is_what_comes_on_average(members, spread):
    """Trials of all levels there can be, and more; half of what noise adds is common to the objectives."""
    rng = np.random.default_rng(0)
    front = np.array([[9.0, 11.0, 10.0], [11.0, 9.0, 10.0]])
    expected, came = [], []
    for _ in range(60):
        costs = world(rng, 40, spread=spread, levels=14.0, tie=0.5)
        noise = learn_noise(costs[:20])
        for trial in costs[20:]:
            expected.append(expected_gain(predict(trial[:members], noise), noise.correlation, front, WORST))
            came.append(gained(front, np.maximum(trial.mean(axis=0), 0)))
    assert np.mean(came) > 0.05
    assert np.mean(expected) == pytest.approx(np.mean(came), rel=0.03)


def test_a_gain_is_the_mean_over_all_outcomes():
    """Against a grid over two correlated normal objectives; the volume is two rectangles less what they share."""
    front = np.array([[10.0, 12.0], [12.0, 10.0]])
    correlation = np.array([[1.0, 0.6], [0.6, 1.0]])
    prediction = Prediction(np.array([11.5, 10.5]), np.array([1.0, 0.5]), np.array([1e9, 1e9]))
    x, y = np.meshgrid(np.linspace(6.5, 16.5, 401), np.linspace(7.5, 13.5, 401))
    covariance = correlation * np.outer(prediction.error, prediction.error)
    density = multivariate_normal(prediction.mean, covariance).pdf(np.stack([x, y], axis=-1))
    width, height = np.maximum(20 - x, 0), np.maximum(20 - y, 0)
    shared = [np.maximum(20 - np.maximum(x, a), 0) * np.maximum(20 - np.maximum(y, b), 0) for a, b in front]
    all_three = np.maximum(20 - np.maximum(x, 12), 0) * np.maximum(20 - np.maximum(y, 12), 0)
    adds = width * height - shared[0] - shared[1] + all_three
    volume = 2 * 10 * 8 - 8 * 8
    plain = (density * adds).sum() / density.sum() / volume
    assert expected_gain(prediction, correlation, front, np.full(2, 20.0)) == pytest.approx(plain, rel=0.03)


def test_a_whole_race_loses_no_more_of_the_volume_than_was_expected():
    """Trials come one by one, what is stopped teaches only by the members it had, and several rivals are about."""
    lost, expected, saved = 0.0, 0.0, 0.0
    for seed in range(12):
        costs = world(np.random.default_rng(seed), 60, spread=UNLIKE, levels=2.0)
        means = costs.mean(axis=1)
        known, finished = np.full_like(costs, np.nan), [0]
        known[0] = costs[0]
        for t in range(1, len(costs)):
            for k in range(1, M + 1):
                noise = learn_noise(known[:t])
                verdict = judge(costs[t, :k], noise, means[finished], WORST, 0.02) if noise and k < M else None
                if verdict and verdict.stops:
                    expected += verdict.gain
                    break
            known[t, :k] = costs[t, :k]
            saved += M - k
            finished += [t] * (k == M)
        lost += 1 - moocore.hypervolume(means[finished], ref=WORST) / moocore.hypervolume(means, ref=WORST)
    assert lost <= expected
    assert lost / 12 < 0.02
    assert saved / (12 * 60 * M) > 0.4


def test_what_is_far_behind_stops_after_one_member_and_what_is_ahead_anywhere_never():
    costs = world(np.random.default_rng(1))
    noise, rivals = learn_noise(costs), costs[:3].mean(axis=1)
    assert judge(costs[5, :1] + [5.0, 5.0, 5.0], noise, rivals, WORST, 0.01).stops
    assert not stops(costs[5] + [5.0, 5.0, -5.0], noise, rivals)


def test_what_would_land_beside_the_front_stops_although_nothing_dominates_it():
    rng = np.random.default_rng(2)
    noise = learn_noise(0.01 * world(rng))
    rivals = np.array([[9.0, 11.0, 10.0], [11.0, 9.0, 10.0]])
    beside = rivals[:1] + noise.seeds[:1] + np.array([-0.001, 0.05, 0.0])
    assert judge(beside, noise, rivals + noise.seeds.mean(axis=0), WORST, 0.01).stops


def test_the_price_is_of_the_networks_to_come_and_nothing_is_stopped_for_nothing():
    costs = world(np.random.default_rng(3))
    noise, rivals = learn_noise(costs), costs[:3].mean(axis=1)
    prices = [judge(costs[5, :k], noise, rivals, WORST, 0.01).price for k in range(1, M)]
    np.testing.assert_allclose(prices, [0.008, 0.006, 0.004, 0.002])
    assert not stops(costs[5] + 9.0, noise, rivals, price=0.0)


def test_a_front_without_volume_is_raised_by_anything():
    costs = world(np.random.default_rng(3))
    assert not stops(costs[5], learn_noise(costs), np.full((1, 3), 30.0))


def test_with_nobody_to_learn_from_nothing_is_known():
    costs = world(np.random.default_rng(3), trials=2)
    assert learn_noise(costs[:1]) is None
    assert learn_noise(np.where(np.arange(M)[:, None] < 3, costs, np.nan)) is None, "no seed was seen after the third"
    assert learn_noise(costs).df == M - 1
    more = np.where(np.arange(M)[:, None] < 3, world(np.random.default_rng(3), trials=4), np.nan)
    assert learn_noise(more) is None, "nor by four trials, which are enough for three seeds"


def test_a_list_of_costs_is_learned_from_like_an_array_and_what_are_no_costs_is_told():
    costs = world(np.random.default_rng(3))
    np.testing.assert_array_equal(learn_noise(costs.tolist()).variance, learn_noise(costs).variance)
    for wrong in (costs[0], [], [[[1.0], [2.0, 3.0]]]):
        with pytest.raises(InputError, match=r"what trials cost must be an array of numbers \(T, M, O\)"):
            learn_noise(wrong)


def test_what_seeds_add_drops_out():
    """With seeds that add 50 times the noise, one member tells as much as with seeds that add nothing."""
    ahead = []
    for seeds in (0.0, 50.0):
        costs = world(np.random.default_rng(4), seeds=seeds)
        p = predict(costs[-1, :1] + 1.0, learn_noise(costs[:-1]))
        ahead.append([p.mean - costs[0].mean(axis=0), p.error])
    np.testing.assert_allclose(*ahead, atol=1e-9)


def test_seeds_and_variance_are_those_of_least_squares_written_out():
    costs = world(np.random.default_rng(5), trials=12)
    for t, k in enumerate([5, 5, 3, 2, 2, 4, 1]):
        costs[t, k:] = np.nan
    noise = learn_noise(costs)
    rows, columns = np.nonzero(np.isfinite(costs[..., 0]))
    design = np.hstack([np.eye(12)[rows], np.eye(M)[columns]])
    y = costs[rows, columns]
    fit = np.linalg.pinv(design) @ y
    seeds = fit[12:]
    np.testing.assert_allclose(noise.seeds - noise.seeds[0], seeds - seeds[0], atol=1e-12)
    contrast = np.array([0.2 - 1, 0.2, 0.2, 0.2, 0.2])
    covariance = np.linalg.pinv(design.T @ design)[12:, 12:]
    assert contrast @ noise.seeds_covariance @ contrast == pytest.approx(contrast @ covariance @ contrast)
    assert noise.df == len(y) - np.linalg.matrix_rank(design)
    alike = np.isinf(noise.variance_df)
    pooled = ((y - design @ fit) ** 2).sum(axis=0) / noise.df
    np.testing.assert_allclose(noise.variance[alike], pooled[alike])
    assert alike.any()


def test_what_is_learned_does_not_depend_on_the_unit_of_the_costs():
    """Shares lie a hundred times closer together than these costs, and cross-entropies do not."""
    costs = world(np.random.default_rng(10), spread=UNLIKE, tie=0.5)
    plain, small = learn_noise(costs), learn_noise(1e-3 * costs)
    np.testing.assert_allclose(small.seeds, 1e-3 * plain.seeds, atol=1e-12)
    np.testing.assert_allclose(small.variance, 1e-6 * plain.variance)
    np.testing.assert_allclose(small.variance_df, plain.variance_df)
    np.testing.assert_allclose(small.correlation, plain.correlation)
    front = costs[:3].mean(axis=1)
    gains = [
        expected_gain(predict(unit * costs[5, :2], noise), noise.correlation, unit * front, unit * WORST)
        for unit, noise in ((1, plain), (1e-3, small))
    ]
    assert 0 < gains[0] == pytest.approx(gains[1])


def test_a_trials_own_members_and_the_others_variance_are_weighed_by_their_degrees_of_freedom():
    """Three members at 1, 2, 3 beyond their seeds: squares of 2 in 2 degrees of freedom, beside 6 at a variance of 2.

    And in a second objective at 100, 104, 108, beside 10 at a variance of 3; all is learned from no more than 11.
    """
    seeds = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    noise = Noise(seeds, np.zeros((M, M)), np.array([2.0, 3.0]), np.array([6.0, 10.0]), np.eye(2), df=11)
    p = predict(np.array([[1.0, 100.0], [12.0, 104.0], [23.0, 108.0]]), noise)
    assert p.mean == pytest.approx([12.0 + 6.0 - 10.0, 104.0])
    assert p.error**2 == pytest.approx([(6 * 2 + 2) / 8 * (1 / 3 - 1 / 5), (10 * 3 + 32) / 12 * (1 / 3 - 1 / 5)])
    assert list(p.df) == [8.0, 11.0]


def test_another_process_expects_the_same():
    costs = world(np.random.default_rng(11))
    noise, front = learn_noise(costs), costs[:3].mean(axis=1)
    found = []
    for _ in range(2):
        racing._normal_points.cache_clear()
        found.append(expected_gain(predict(costs[5, :1], noise), noise.correlation, front, WORST))
    assert found[0] == found[1] > 0


def test_how_much_trials_differ_in_noise_is_found_out():
    """Variances that scatter as an inverse chi-square with 6 degrees of freedom, scaled by 1, are worth 6 of 1."""
    rng = np.random.default_rng(6)
    unlike = learn_noise(world(rng, 4000, spread=UNLIKE))
    np.testing.assert_allclose(unlike.variance_df, 6, rtol=0.25)
    np.testing.assert_allclose(unlike.variance, 1, rtol=0.1)
    assert (learn_noise(world(rng, 4000)).variance_df > 60).all()


def test_objectives_that_err_together_are_found_out():
    rng = np.random.default_rng(9)
    tied = learn_noise(world(rng, 400, tie=0.6)).correlation
    np.testing.assert_allclose(tied, np.full((3, 3), 0.6) + 0.4 * np.eye(3), atol=0.05)
    few = learn_noise(world(rng, 2)[:, :2]).correlation
    np.testing.assert_allclose(np.diag(few), 1)
    assert np.linalg.eigvalsh(few).min() > 0, "one degree of freedom would tie them wholly"
    assert np.linalg.eigvalsh(learn_noise(np.ones((3, M, 2))).correlation).min() > 0


def test_a_noisy_trial_is_given_more_time_than_a_quiet_one():
    rng = np.random.default_rng(7)
    costs = world(rng, 200, seeds=0.0, spread=UNLIKE)
    noise, rival = learn_noise(costs), np.full((1, 3), 10.0)
    shape = np.array([[-1.0], [0.0], [1.0]])
    quiet, noisy = (judge(11.0 + size * shape * np.ones(3), noise, rival, WORST, 0.01).gain for size in (0.1, 3.0))
    assert noisy > quiet


def test_how_much_trials_differ_is_smyths_estimate_written_out_and_takes_three_of_them():
    df = np.array([4.0, 4.0, 3.0])
    squares = np.array([0.001, 40.0, 3.0])
    logs = np.log(squares / df) - digamma(df / 2) + np.log(df / 2)
    excess = np.sum((logs - logs.mean()) ** 2) / 2 - polygamma(1, df / 2).mean()  # 3 - 1 degrees of freedom
    variance, worth = racing._moderation(squares, df)
    assert polygamma(1, worth / 2) == pytest.approx(excess)
    assert np.log(variance) == pytest.approx(logs.mean() + digamma(worth / 2) - np.log(worth / 2))
    assert racing._moderation(squares[:2], df[:2]) == (pytest.approx(40.001 / 8), np.inf), "two may differ by chance"


def test_a_member_without_all_its_figures_teaches_nothing():
    costs = world(np.random.default_rng(12), trials=6)
    half, none = costs.copy(), costs.copy()
    half[2, 3, 1] = none[2, 3] = np.nan
    found, expected = learn_noise(half), learn_noise(none)
    np.testing.assert_array_equal(found.seeds, expected.seeds)
    np.testing.assert_array_equal(found.variance, expected.variance)
    assert found.df == expected.df
