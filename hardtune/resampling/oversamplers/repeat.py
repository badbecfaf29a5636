"""Oversampling with real images: the class's own samples again, or those that pruning had set aside."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import InputError, blamed
from hardtune.resampling.keeping import KEEPING
from hardtune.resampling.oversamplers.request import Added, Request, oversampler


def add_nothing(request: Request, rng: np.random.Generator) -> Added:
    """Add nothing: :data:`~hardtune.resampling.keeping.KEEPING` says what happens instead, by the name."""
    return Added()


for _name in KEEPING:
    oversampler(_name)(add_nothing)


@oversampler("random")
def random(request: Request, rng: np.random.Generator) -> Added:
    """The class's own samples, uniformly with replacement (HBR)."""
    return Added(indices=rng.choice(request.members, request.add))


@oversampler("easy", needs="scores")
def easy(request: Request, rng: np.random.Generator) -> Added:
    """The class's own samples with replacement, easier ones up to twice as likely (HBR)."""
    return _weighted(request, rng, rank_weights(-_scores(request)))


@oversampler("hard", needs="scores")
def hard(request: Request, rng: np.random.Generator) -> Added:
    """The class's own samples with replacement, harder ones up to twice as likely (HBR)."""
    return _weighted(request, rng, rank_weights(_scores(request)))


@oversampler("weighted", needs="scores")
def weighted(request: Request, rng: np.random.Generator) -> Added:
    """The class's own samples with replacement, in proportion to their score minus the class's lowest (ours)."""
    above = _scores(request) - _scores(request).min()
    return _weighted(request, rng, above if above.any() else np.ones_like(above))


def _holdout_is_short(request: Request) -> str | None:
    if len(request.holdout) >= request.add:
        return None
    return (
        f"class {request.name!r} should gain {request.add} samples from the holdout, and pruning set aside "
        f"{len(request.holdout)} of it: prune more, or move class sizes less"
    )


@oversampler("holdout", infeasible=_holdout_is_short)
def holdout(request: Request, rng: np.random.Generator) -> Added:
    """Real samples of the class that pruning had removed, without replacement (HBR)."""
    return Added(indices=rng.choice(request.holdout, request.add, replace=False))


def rank_weights(favour: ArrayLike) -> NDArray[np.float64]:
    """HBR's weights from 1 for the most favoured sample to 0.5 for the least: float64 (n,).

    With the rank r from 0 (highest ``favour``) to 1: 0.5 + 0.5 (1 - exp(-5 (1 - r))) / (1 - exp(-5)). Ties share their
    mean rank (ours), since the storage order of samples carries no information. Raises ``InputError`` for what is no
    array of numbers (n,), or has NaN.

    >>> rank_weights(np.array([3.0, 1.0, 2.0])).round(3)
    array([1.   , 0.5  , 0.962])
    """
    from scipy.stats import rankdata

    with blamed("what is favoured must be an array of numbers"):
        favour = np.asarray(favour, np.float64)  # unsigned numbers have no negatives
    if favour.ndim != 1 or np.isnan(favour).any():
        raise InputError(f"what is favoured must be numbers (n,), got {'NaN' if favour.ndim == 1 else favour.shape}")
    r = (rankdata(-favour) - 1) / max(len(favour) - 1, 1)
    weights: NDArray[np.float64] = 0.5 + 0.5 * (1 - np.exp(-5 * (1 - r))) / (1 - np.exp(-5))
    return weights


def _scores(request: Request) -> NDArray[np.float64]:
    assert request.scores is not None  # checked before any draw
    return request.scores[request.members].astype(np.float64)


def _weighted(request: Request, rng: np.random.Generator, weights: NDArray[np.float64]) -> Added:
    return Added(indices=rng.choice(request.members, request.add, p=weights / weights.sum()))
