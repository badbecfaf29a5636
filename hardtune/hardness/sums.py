"""Per-sample sums over training, and the scores computed from them."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardtune.errors import HardtuneWarning, InputError
from hardtune.hardness.batch import check_range

SEEN, MARGIN, PROBABILITY_MARGIN, EL2N, LOG_P, CONFIDENCE, SQUARE, CORRECT, FORGOTTEN, LABEL = range(10)
"""The columns of the sums: one (B, 10) matrix and one indexed add serve every score."""

_PART = 16_384
"""Rows of predict's logits that EL2N is computed from at once."""


def scores_of(sums: NDArray[np.float64]) -> dict[str, NDArray[np.floating]]:
    """Every score, (N,) each, higher = harder, from the sums (N, 10); all samples must have been seen."""
    seen = sums[:, SEEN]
    margin, probability_margin, el2n_sum, log_p, confidence, square = (
        sums[:, column] / seen for column in range(MARGIN, CORRECT)
    )
    forgotten = sums[:, FORGOTTEN].copy()
    # Toneva 2019 says infinity; one more than any other sample ranks the same and can be averaged over members.
    forgotten[sums[:, CORRECT] == 0] = forgotten.max() + 1
    return {
        "aum": -margin,
        "margin": -probability_margin,
        "el2n_mean": el2n_sum,
        "forgetting": forgotten,
        "confidence": -confidence,
        "variability": np.sqrt(np.maximum(square - confidence**2, 0.0)),
        "dataiq": confidence - square,
        "loss": -log_p,
    }


def warn_of_other_labels(sums: Tensor, labels: Tensor) -> None:
    """Warn unless each sample had its last label (N,) whenever it was seen; waits for the device."""
    if bool((sums[:, LABEL] != sums[:, SEEN] * labels).any()):
        message = "a sample was seen with different labels: ids must be positions in the data set, not in the loader"
        warnings.warn(message, HardtuneWarning, stacklevel=4)


def warn_of_probabilities(sums: Tensor, total: Tensor) -> None:
    """Warn if what was seen so far adds up as probabilities do, not logits: each row to 1; waits for the device.

    Args:
        sums: (N, 10) of the first epoch.
        total: (), the sum of all its logits.
    """
    views = float(sums[:, SEEN].sum())
    ones = abs(float(total) - views) <= 1e-3 * views
    if ones and views and bool((sums[:, MARGIN].abs() <= 1.01 * sums[:, SEEN]).all()):
        _warn_of_probabilities("the rows that update was given")


def _warn_of_probabilities(rows: str) -> None:
    message = f"{rows} look like probabilities, and logits are asked for: pass their logarithms, zeros clipped"
    warnings.warn(message, HardtuneWarning, stacklevel=5)


def el2n(logits: Tensor, labels: Tensor) -> Tensor:
    """||p - onehot(y)|| (B,); NaN if a logit is not finite, since softmax would hide -inf."""
    finite = logits.isfinite().all(1)
    p = logits.softmax(1)
    error = p.scatter_add_(1, labels[:, None], torch.full_like(p[:, :1], -1.0))
    norm: Tensor = torch.linalg.vector_norm(error, dim=1)
    return norm.masked_fill_(~finite, torch.nan)


def early_el2n(logits: Tensor, labels: Tensor, classes: int | None) -> Tensor:
    """:func:`el2n` of all samples, float32 (N,) on the labels' device, from the logits (N, K) that predict returned.

    ``classes``: K in training, if that is known.

    Raises:
        InputError: it returned something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"predict must return logits ({len(labels)}, K) in a tensor, got {got}")
    check_range(labels, logits.shape[1], "labels, for the logits that predict returned,")
    if classes not in (None, logits.shape[1]):
        raise InputError(
            f"predict returned logits of {logits.shape[1]} classes, and those in training are of {classes}"
        )
    first = logits[:_PART].detach()
    if bool((first >= 0).all()) and bool(((first.sum(1) - 1).abs() <= 0.01).all()):
        _warn_of_probabilities("the rows that predict returned")
    parts = zip(logits.split(_PART), labels.split(_PART), strict=True)
    return torch.cat([el2n(part.detach().to(labels.device, torch.float32), own) for part, own in parts])
