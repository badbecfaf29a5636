"""When to stop training members: once the rest of an ensemble is not expected to be worth its price.

A trial is judged by its means over M members, and trials together by the hypervolume that their front dominates. After
k members a trial's means are predicted, and from them what it is expected to add to the hypervolume. It continues if
that is worth the M - k remaining networks: a whole ensemble's price is a given share of the front's hypervolume, and
fewer networks cost proportionally less. So a surely dominated trial stops at once, and so does one that would land on
the front but hardly raise it; one that may be excellent goes on. All figures are costs here: lower = better, see
``hardtune.report.hypervolume``.

The model: cost = trial + seed + noise. Member i has the same seed in every trial, so a seed's effect is estimated, by
least squares, from all trials that trained it, including those stopped early (whether a trial was stopped depends on
its observed members alone, so leaving them out would bias the estimate and keeping them does not; Rubin 1976). Noise
is normal, correlated between objectives (the fewer classes a network neglects, the more accurate it is), and its
variance may differ between trials and is moderated: a trial's own k - 1 degrees of freedom are added to those that the
other trials' variances are worth (Smyth 2004). Nothing is assumed about how good treatments are: a trial is judged by
its own members, never by the average of others, which would give up the exceptional one first. So a lucky first member
is taken at face value, and expected gains err on the side of training (tests/evaluation/test_racing.py).

The gain is the expected hypervolume improvement, known from Bayesian optimisation (Emmerich et al. 2006), of whole
ensembles rather than points. The cost of stopping is known as well: a trial stopped at a gain g of the
hypervolume loses g of it in expectation, and less if another trial comes to dominate the same.

References:
    Emmerich, Giannakoglou & Naujoks 2006, Single- and multiobjective evolutionary optimization assisted by Gaussian
        random field metamodels, IEEE Trans. Evol. Comput. 10.
    Maron & Moore 1994, Hoeffding races, NIPS; Zhang, Georgiopoulos & Anagnostopoulos 2013, S-Race, GECCO: races.
    Rubin 1976, Inference and missing data, Biometrika 63.
    Smyth 2004, Linear models and empirical Bayes methods, Stat. Appl. Genet. Mol. Biol. 3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError, blamed

Floats = NDArray[np.float64]

_DRAWS = 256
"""Outcomes that a gain is averaged over, always the same ones, so that decisions are reproducible."""


@dataclass(frozen=True)
class Noise:
    """What other trials tell about seeds and noise."""

    seeds: Floats
    """(M, O) What each seed adds to a trial's costs, up to a constant."""
    seeds_covariance: Floats
    """(M, M) Their covariance, for noise of variance 1."""
    variance: Floats
    """(O,) Variance of a member's noise in a typical trial."""
    variance_df: Floats
    """(O,) How many of a trial's own degrees of freedom that variance is worth; infinite if trials do not differ."""
    correlation: Floats
    """(O, O) Correlation of a member's noise between objectives."""
    df: int
    """Degrees of freedom of everything learned."""


def learn_noise(trials: Floats) -> Noise | None:
    """Least squares for the seeds, moments for the variances; None if there is too little data (one trial, say).

    Args:
        trials: Costs (T, M, O) of T different trials, NaN for members that were not trained. Identical treatments
            count as one trial: their noise is the same.

    Raises:
        InputError: what is no (T, M, O) of numbers.
    """
    with blamed("what trials cost must be an array of numbers (T, M, O)"):
        trials = np.asarray(trials, np.float64)
    if trials.ndim != 3:
        raise InputError(f"what trials cost must be an array of numbers (T, M, O), got {trials.shape}")
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(trials).all(axis=2))
    trained = seen.sum(axis=1)
    trials, seen, trained = trials[trained > 1], seen[trained > 1], trained[trained > 1]
    df = int((trained - 1).sum()) - (trials.shape[1] - 1)
    if df < 1 or not seen.all(axis=1).any():
        return None
    deviations = _centred(trials, seen)
    # The normal equations, with every trial's own level eliminated.
    equations = np.diag(seen.sum(axis=0).astype(float)) - (seen / trained[:, None]).T @ seen
    covariance = np.linalg.pinv(equations, hermitian=True)
    seeds = covariance @ deviations.sum(axis=0)
    residuals = deviations - _centred(np.broadcast_to(seeds, trials.shape), seen)
    squares = (residuals**2).sum(axis=1)
    # The trials share the degrees of freedom that estimating the seeds used up.
    own_df = (trained - 1) * (df / (trained - 1).sum())
    variance, variance_df = np.array([_moderation(column, own_df) for column in squares.T]).T
    return Noise(seeds, covariance, variance, variance_df, _correlation(residuals, df), df)


@dataclass(frozen=True)
class Prediction:
    """What a trial's means over all M members will be: Student's t in each of O objectives."""

    mean: Floats
    error: Floats
    df: Floats

    def outcomes(self, correlation: Floats) -> Floats:
        """(draws, O) equally likely ones, always the same; ``correlation`` (O, O) couples the objectives."""
        from scipy.special import ndtr, stdtrit

        normal = _normal_points(len(self.mean)) @ np.linalg.cholesky(correlation).T
        return np.asarray(self.mean + self.error * stdtrit(self.df, ndtr(normal)))


def predict(members: Floats, noise: Noise) -> Prediction:
    """Where a trial will end, from the costs (k, O) of its first k members, k < M."""
    (k, _), m = members.shape, len(noise.seeds)
    # Members to come have other seeds: the mean effect of all M seeds minus that of the first k.
    ahead = np.full(m, 1 / m) - np.repeat([1 / k, 0.0], [k, m - k])
    deviations = members - noise.seeds[:k]
    squares = ((deviations - deviations.mean(axis=0)) ** 2).sum(axis=0)
    variance = (noise.variance + squares / noise.variance_df) / (1 + (k - 1) / noise.variance_df)
    return Prediction(
        mean=members.mean(axis=0) + ahead @ noise.seeds,
        error=np.sqrt(variance * (1 / k - 1 / m + ahead @ noise.seeds_covariance @ ahead)),
        df=np.minimum(noise.variance_df + k - 1, noise.df),
    )


@dataclass(frozen=True)
class Verdict:
    """Whether the rest of a trial is worth its price, both as shares of the front's hypervolume."""

    gain: float
    price: float

    @property
    def stops(self) -> bool:
        return self.gain < self.price


def judge(members: Floats, noise: Noise, front: Floats, reference: Floats, price: float) -> Verdict:
    """Whether a trial should go on.

    Args:
        members: Costs (k, O) of its first k members, 0 < k < M.
        front: Means (F, O) over all M members of the finished trials that are on the front; others have no effect.
        reference: (O,) The worst costs that still count.
        price: Of a whole ensemble, as a share of the front's hypervolume.

    >>> rng = np.random.default_rng(0)
    >>> trials = rng.normal(size=(5, 4, 2)) + 9  # 5 finished trials of 4 members, 2 costs
    >>> noise, worst = learn_noise(trials), np.array([20.0, 20.0])
    >>> judge(np.array([[19.0, 19.0]]), noise, trials.mean(axis=1), worst, price=0.01).stops
    True
    >>> judge(np.array([[19.0, 6.0]]), noise, trials.mean(axis=1), worst, price=0.01).stops  # better in one of them
    False
    """
    k, m = len(members), len(noise.seeds)
    return Verdict(expected_gain(predict(members, noise), noise.correlation, front, reference), price * (m - k) / m)


def expected_gain(prediction: Prediction, correlation: Floats, front: Floats, reference: Floats) -> float:
    """The expected share by which a trial will raise the hypervolume of the front.

    Infinite if the front's hypervolume is 0. The arguments are those of :func:`judge`.
    """
    import moocore

    volume = moocore.hypervolume(front, ref=reference)
    if not volume:
        return np.inf
    outcomes = np.maximum(prediction.outcomes(correlation), 0)  # costs are never negative, unlike t's tail
    dominated = (front[:, None] <= outcomes).all(axis=2).any(axis=0)
    adding = outcomes[(outcomes < reference).all(axis=1) & ~dominated]
    raised = sum(moocore.hypervolume(np.vstack([front, outcome]), ref=reference) - volume for outcome in adding)
    return float(raised / len(outcomes) / volume)


@functools.lru_cache
def _normal_points(dimensions: int) -> Floats:
    """(draws, dimensions) standard normal, evenly spread (Sobol): a tenth of the error of as many random ones."""
    from scipy.special import ndtri
    from scipy.stats import qmc

    return np.asarray(ndtri(qmc.Sobol(dimensions, rng=0).random(_DRAWS)))


def _correlation(residuals: Floats, df: int) -> Floats:
    """(O, O) from residuals (T, M, O) with ``df`` degrees of freedom, and one more of independence: never singular."""
    products = np.einsum("tmo,tmp->op", residuals, residuals)
    spread = np.sqrt(products.diagonal())
    scale = np.outer(spread, spread)
    observed = np.divide(products, scale, out=np.eye(len(spread)), where=scale > 0)
    return np.asarray((df * observed + np.eye(len(spread))) / (df + 1))


def _centred(values: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Values (T, M, O) minus their trial's mean over the members seen; 0 for the others."""
    level = np.where(seen[..., None], values, 0.0).sum(axis=1) / seen.sum(axis=1)[:, None]
    return np.where(seen[..., None], values - level[:, None], 0.0)


def _moderation(squares: Floats, df: Floats) -> tuple[float, float]:
    """A typical trial's variance, and the degrees of freedom that it is worth (Smyth 2004, section 6.2).

    If all trials have the same noise, log variances have variance trigamma(df / 2); any excess is how much trials
    differ.

    Args:
        squares: Sums of squared residuals (T,), each with ``df`` (T,) degrees of freedom.
    """
    from scipy.optimize import brentq
    from scipy.special import digamma, polygamma

    pooled = float(squares.sum() / df.sum())
    variances = squares / df
    # If all members tie by chance, log(0) would mean no noise at all.
    logs = np.log(np.maximum(variances, max(1e-5 * float(np.median(variances)), 1e-300)))
    logs -= digamma(df / 2) - np.log(df / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, df / 2).mean()) if len(logs) > 2 else 0.0
    if excess < 1e-6:
        return pooled, np.inf
    half = float(brentq(lambda x: polygamma(1, x) - excess, 1e-6, 1e7))
    return float(np.exp(logs.mean() + digamma(half) - np.log(half))), 2 * half
