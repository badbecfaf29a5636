"""When to stop training members: once a finished trial beats what the whole ensemble could still become.

A trial is judged by its means over M members. After k of them its means are predicted, objective by objective, and it
may be stopped when some finished trial is better in *every* objective by more than the prediction can err. All figures
are costs here: lower = better, so negate what is maximised.

The model: cost = trial + seed + noise. Member i has the same seed in every trial, so what a seed adds is learned, by
least squares, from all the trials that trained it, those stopped early included (whether a trial was stopped depends on
its observed members alone, so leaving them out would bias what is learned and keeping them does not; Rubin 1976). Noise
is normal; its variance may differ between trials and is moderated: a trial's own k - 1 degrees of freedom are added to
those that the other trials' variances are worth (Smyth 2004). Nothing is assumed of how good treatments are: a trial is
judged by its own members, never by the average of others, which would give up the exceptional one first.

The error: a trial that finished trial f would not dominate is no worse than f in some objective, and is stopped in f's
favour only if that objective's own test errs, so no correction for the number of objectives is needed (the
intersection-union test, Berger 1982). Its M - 1 looks share 1 - confidence, and each is as strict as the others (Pocock
1977). So the probability of such an error is at most 1 - confidence for a trial and a rival, whatever the trial. It is
close to that only for a trial that would end exactly level with f in one objective, and far below for any other. A
trial that would end level with several rivals at once, each in another objective, can be wronged by each: at most
(number of objectives) x (1 - confidence). Simulated, errors are what is stated (tests/evaluation/test_racing.py);
where trials' variances differ by a factor of five and more, 6 % instead of 5 %.

References:
    Berger 1982, Multiparameter hypothesis testing and acceptance sampling, Technometrics 24.
    Maron & Moore 1994, Hoeffding races, NIPS; Zhang, Georgiopoulos & Anagnostopoulos 2013, S-Race, GECCO: races.
    Pocock 1977, Group sequential methods in the design and analysis of clinical trials, Biometrika 64.
    Rubin 1976, Inference and missing data, Biometrika 63.
    Smyth 2004, Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """What other trials say of seeds and noise."""

    seeds: Floats
    """(M, O) What each seed adds to a trial's costs, up to a constant."""
    seeds_covariance: Floats
    """(M, M) Of these estimates, for noise of variance 1."""
    variance: Floats
    """(O,) Of a member's noise, in a typical trial."""
    variance_df: Floats
    """(O,) How many degrees of freedom of a trial's own that variance is worth; infinite where trials do not differ."""
    df: int
    """Degrees of freedom of everything learned."""


def learn_noise(trials: Floats) -> Noise | None:
    """Least squares for the seeds, moments for the variances; None where too little is known (one trial, say).

    Args:
        trials: Costs (T, M, O) of T different trials, NaN for members that were not trained. Identical treatments
            count as one trial: their noise is the same.
    """
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(trials).all(axis=2))
    trained = seen.sum(axis=1)
    trials, seen, trained = trials[trained > 1], seen[trained > 1], trained[trained > 1]
    df = int((trained - 1).sum()) - (trials.shape[1] - 1)
    if df < 1 or not seen.all(axis=1).any():
        return None
    deviations = _centred(trials, seen)
    # The normal equations once every trial's own level is eliminated.
    equations = np.diag(seen.sum(axis=0).astype(float)) - (seen / trained[:, None]).T @ seen
    covariance = np.linalg.pinv(equations, hermitian=True)
    seeds = covariance @ deviations.sum(axis=0)
    squares = ((deviations - _centred(np.broadcast_to(seeds, trials.shape), seen)) ** 2).sum(axis=1)
    # What estimating the seeds took from the degrees of freedom is shared by the trials.
    own_df = (trained - 1) * (df / (trained - 1).sum())
    variance, variance_df = np.array([_moderation(column, own_df) for column in squares.T]).T
    return Noise(seeds, covariance, variance, variance_df, df)


def confidence_worse(members: Floats, noise: Noise, rivals: Floats) -> Floats:
    """How sure it is (F, O) that a trial will end with a higher cost than each finished rival, by objective.

    One look's own one-sided confidence: the t distribution function of predicted excess over standard error.

    Args:
        members: Costs (k, O) of the trial's first k members, k < M.
        rivals: Means (F, O) over all M members of finished trials.
    """
    from scipy.special import stdtr

    (k, _), m = members.shape, len(noise.seeds)
    # The members to come have other seeds: what those add, less what the first k seeds added.
    ahead = np.full(m, 1 / m) - np.repeat([1 / k, 0.0], [k, m - k])
    predicted = members.mean(axis=0) + ahead @ noise.seeds
    deviations = members - noise.seeds[:k]
    squares = ((deviations - deviations.mean(axis=0)) ** 2).sum(axis=0)
    variance = (noise.variance + squares / noise.variance_df) / (1 + (k - 1) / noise.variance_df)
    error = np.sqrt(variance * (1 / k - 1 / m + ahead @ noise.seeds_covariance @ ahead))
    return stdtr(np.minimum(noise.variance_df + k - 1, noise.df), (predicted - rivals) / error)


def dominating_rival(members: Floats, noise: Noise, rivals: Floats, confidence: float) -> int | None:
    """The row of the rival that surely dominates the trial in the end, or None.

    Args:
        members: Costs (k, O) of the trial's first k members; with all of them there is nothing left to stop.
        rivals: Means (F, O) over all M members of finished trials; the front is enough.
        confidence: Of one trial's whole race against a rival, all its looks together.

    >>> rng = np.random.default_rng(0)
    >>> trials = rng.normal(size=(5, 4, 2))  # 5 finished trials of 4 members, 2 costs
    >>> noise = learn_noise(trials)
    >>> dominating_rival(np.array([[9.0, 9.0]]), noise, trials.mean(axis=1), 0.95) is None
    False
    >>> dominating_rival(np.array([[9.0, 0.0]]), noise, trials.mean(axis=1), 0.95) is None  # as good in one of them
    True
    """
    m = len(noise.seeds)
    if not 0 < len(members) < m or not len(rivals):
        return None
    sure = confidence_worse(members, noise, rivals).min(axis=1)
    best = int(sure.argmax())
    return best if sure[best] >= confidence_of_a_look(m, confidence) else None


@functools.lru_cache
def confidence_of_a_look(members: int, confidence: float) -> float:
    """How sure each of the looks after 1 … M - 1 members must be, so that all of them together are ``confidence``.

    The same at every look (Pocock 1977). What one look mistakes, the next largely mistakes too: the error after k
    members is the mean of M normal deviates less that of the first k. Simulated, with a fixed seed, to within 0.001.

    >>> round(confidence_of_a_look(2, 0.95), 2), round(confidence_of_a_look(5, 0.95), 3)
    (0.95, 0.984)
    """
    from scipy.special import ndtr

    k = np.arange(1, members + 1)
    means = np.random.default_rng(0).normal(size=(200_000, members)).cumsum(axis=1) / k
    errors = (means[:, -1:] - means[:, :-1]) / np.sqrt(1 / k[:-1] - 1 / members)
    return float(ndtr(np.quantile(errors.max(axis=1), confidence)))


def _centred(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Values (T, M, O) less their trial's mean over the members seen; 0 for the others."""
    level = np.where(seen[..., None], values, 0.0).sum(axis=1) / seen.sum(axis=1)[:, None]
    return np.where(seen[..., None], values - level[:, None], 0.0)


def _moderation(squares: Floats, df: Floats) -> tuple[float, float]:
    """A typical trial's variance, and the degrees of freedom that it is worth (Smyth 2004, section 6.2).

    Log variances scatter by trigamma(df / 2) if all trials' noise is alike; what they scatter more is how much trials
    differ.

    Args:
        squares: Sums of squared residuals (T,), each with ``df`` (T,) degrees of freedom.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    pooled = float(squares.sum() / df.sum())
    variances = squares / df
    # A tie of all members by chance would count as infinitely quiet.
    logs = np.log(np.maximum(variances, max(1e-5 * float(np.median(variances)), 1e-300)))
    logs -= digamma(df / 2) - np.log(df / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, df / 2).mean()) if len(logs) > 2 else 0.0
    if excess < 1e-6:
        return pooled, np.inf
    half = float(brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e7))
    return float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half
