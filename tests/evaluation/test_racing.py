"""Stopping a trial is held to what it promises, by simulation and against least squares written out."""

import numpy as np
import pytest
from scipy.stats import kstest

from hardtune.evaluation.racing import confidence_of_a_look, confidence_worse, dominating_rival, learn_noise

M = 5
ALIKE, UNLIKE = (lambda rng, t: np.ones((t, 1, 1))), (lambda rng, t: np.sqrt(3 / rng.gamma(3, 1, (t, 1, 1))))


def world(rng, trials=30, seeds=1.0, spread=ALIKE, levels=0.0):
    """Costs (T, M, 3): what the trial, its seed and chance add; ``spread`` is each trial's own."""
    noise = spread(rng, trials) * rng.normal(size=(trials, M, 3))
    return levels * rng.normal(size=(trials, 1, 3)) + seeds * rng.normal(size=(1, M, 3)) + noise


def raced(trial, noise, rivals, confidence):
    """Whether the trial is stopped at any look."""
    return any(dominating_rival(trial[:k], noise, rivals, confidence) is not None for k in range(1, M))


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("spread", [ALIKE, UNLIKE], ids=["all as noisy", "some much noisier"])
def test_a_trial_level_with_its_rival_is_stopped_as_rarely_as_the_confidence_says(confidence, spread):
    """The worst that can be, as good as the rival in one objective and far worse in the others, over the whole race.

    Simulated to about a tenth; noise that differs as much as in the second case costs as much again.
    """
    rng = np.random.default_rng(0)
    stopped = []
    for _ in range(200):
        costs = world(rng, 25, spread=spread)
        noise = learn_noise(costs[:10])
        rival = costs[0].mean(axis=0)
        for trial in costs[10:]:
            level = trial - trial.mean(axis=0) + rival + [0.0, 9.0, 9.0]
            stopped.append(raced(level, noise, rival[None], confidence))
    assert np.mean(stopped) == pytest.approx(1 - confidence, rel=0.25)


def test_one_look_needs_no_correction_and_many_need_less_than_bonferronis():
    assert confidence_of_a_look(2, 0.95) == pytest.approx(0.95, abs=0.001)
    for members in (3, 5, 10):
        assert 0.95 < confidence_of_a_look(members, 0.95) < 1 - 0.05 / (members - 1)


@pytest.mark.parametrize("members", [1, 3])
def test_with_two_trials_to_learn_from_a_look_is_exact(members):
    """Held against where the trial really ends, confidences are uniform: 4 degrees of freedom, two unsure seeds."""
    rng = np.random.default_rng(8)
    sure = []
    for _ in range(2000):
        costs = world(rng, 3)
        sure.append(confidence_worse(costs[2, :members], learn_noise(costs[:2]), costs[2].mean(axis=0)[None])[0, 0])
    assert kstest(sure, "uniform").pvalue > 0.01


def test_a_whole_race_loses_no_more_of_the_front_than_the_confidence_says():
    """Trials come one by one, what is stopped teaches only by the members it had, and several rivals are about."""
    lost, front, saved = 0, 0, 0.0
    for seed in range(12):
        costs = world(np.random.default_rng(seed), 60, spread=UNLIKE, levels=1.0)
        means = costs.mean(axis=1)
        known, finished = np.full_like(costs, np.nan), [0]
        known[0] = costs[0]
        for t in range(1, len(costs)):
            for k in range(1, M + 1):
                noise = learn_noise(known[:t])
                if noise and dominating_rival(costs[t, :k], noise, means[finished], 0.8) is not None:
                    break
            known[t, :k] = costs[t, :k]
            saved += M - k
            finished += [t] * (k == M)
        best = [not ((means <= mean).all(axis=1) & (means < mean).any(axis=1)).any() for mean in means]
        front += sum(best)
        lost += sum(on and t not in finished for t, on in enumerate(best))
    assert lost / front <= 0.2
    assert saved / (12 * 60 * M) > 0.1


def test_what_is_far_behind_stops_after_one_member_and_what_is_ahead_anywhere_never():
    costs = world(np.random.default_rng(1))
    noise, rivals = learn_noise(costs), costs[:3].mean(axis=1)
    assert dominating_rival(costs[5, :1] + [9.0, 9.0, 9.0], noise, rivals, 0.95) is not None
    assert not raced(costs[5] + [9.0, 9.0, -9.0], noise, rivals, 0.95)


def test_the_rival_that_is_named_is_the_one_that_is_surest():
    costs = world(np.random.default_rng(2))
    rivals = np.array([[0.0, -9.0, -9.0], [-2.0, -2.0, -2.0], [-3.0, -3.0, -3.0]])
    assert dominating_rival(np.full((1, 3), 1.0) + costs[0, :1], learn_noise(costs), rivals, 0.95) == 2


def test_with_nobody_to_learn_from_nothing_stops():
    costs = world(np.random.default_rng(3), trials=2)
    assert learn_noise(costs[:1]) is None
    assert learn_noise(np.where(np.arange(M)[:, None] < 3, costs, np.nan)) is None, "no seed was seen after the third"
    assert learn_noise(costs).df == M - 1
    assert dominating_rival(np.full((1, 3), 99.0), learn_noise(costs), np.empty((0, 3)), 0.95) is None
    assert dominating_rival(np.full((M, 3), 99.0), learn_noise(costs), costs.mean(axis=1), 0.95) is None


def test_what_seeds_add_drops_out():
    """With seeds that add 50 times the noise, one member tells as much as with seeds that add nothing."""
    answers = []
    for seeds in (0.0, 50.0):
        costs = world(np.random.default_rng(4), seeds=seeds)
        answers.append(confidence_worse(costs[-1, :1] + 1.0, learn_noise(costs[:-1]), costs[:3].mean(axis=1)))
    np.testing.assert_allclose(*answers, atol=1e-9)


def test_seeds_and_variance_are_those_of_least_squares_written_out():
    costs = world(np.random.default_rng(5), trials=12)
    for t, k in enumerate([5, 5, 3, 2, 2, 4]):
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


def test_how_much_trials_differ_in_noise_is_found_out():
    """Variances that scatter as a scaled inverse chi-square with 6 degrees of freedom are worth 6."""
    rng = np.random.default_rng(6)
    np.testing.assert_allclose(learn_noise(world(rng, 4000, spread=UNLIKE)).variance_df, 6, rtol=0.25)
    assert (learn_noise(world(rng, 4000)).variance_df > 60).all()


def test_a_noisy_trial_is_given_more_time_than_a_quiet_one():
    rng = np.random.default_rng(7)
    costs = world(rng, 200, seeds=0.0, spread=UNLIKE)
    noise, rival = learn_noise(costs), np.zeros((1, 3))
    shape = np.array([[-1.0], [0.0], [1.0]])
    quiet, noisy = (confidence_worse(1.0 + size * shape * np.ones(3), noise, rival).min() for size in (0.1, 3.0))
    assert quiet > noisy
