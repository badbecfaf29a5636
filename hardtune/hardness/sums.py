"""Per-sample sums over training, and the scores computed from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

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
    """Every score, (N,) each, higher = harder, from the sums (N, 10); NaN for samples that were never seen."""
    seen = np.where(sums[:, SEEN] > 0, sums[:, SEEN], np.nan)
    margin, probability_margin, el2n_sum, log_p, confidence, square = (
        sums[:, column] / seen for column in range(MARGIN, CORRECT)
    )
    forgotten = sums[:, FORGOTTEN].copy()
    # Toneva 2019 says infinity; one more than any other sample ranks the same and can be averaged over members.
    forgotten[sums[:, CORRECT] == 0] = forgotten.max() + 1
    forgotten[np.isnan(seen)] = np.nan
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


def check_seen(seen: Tensor, early_epoch: int | None = None) -> None:
    """Raise ``InputError`` unless all samples were seen, bool (N,): until the early epoch's end, if there is one."""
    lack = torch.nonzero(~seen)
    if not len(lack):
        return
    those, one = f"{len(lack)} of {len(seen)} samples", f"(sample {int(lack[0])} for one)"
    if early_epoch is not None:
        raise InputError(
            f"{those} were in no training batch until after epoch {early_epoch} {one}, so they have no el2n: "
            "scores(unseen='nan') gives NaN for them"
        )
    raise InputError(
        f"{those} were never in a training batch {one}, so they have no score: train on all, without drop_last, or "
        "number those of your subset from 0 and create Dynamics with how many they are, or take the others' by "
        "scores(unseen='nan'), which gives NaN for them"
    )


def check_finite(total: Tensor, sums: Tensor, when: str) -> None:
    """Raise ``InputError`` unless the total of the logits (), and the sums (N, 10), are finite.

    Sums are infinite where float32 holds no difference of two logits.
    """
    if not bool(total.isfinite() & sums.sum().isfinite()):
        raise InputError(
            f"the network's logits, or their differences, became NaN or infinite {when}: training diverged, "
            "so lower the learning rate or raise the warm-up (or a class is masked: by -1e4, not by -inf), "
            "and go on by load_state_dict from before; a loop that skips such batches calls update after a check"
        )


def warn_of_other_labels(sums: Tensor, labels: Tensor) -> None:
    """Warn unless each sample had its last label (N,) whenever it was seen; waits for the device."""
    if bool((sums[:, LABEL] != sums[:, SEEN] * labels).any()):
        message = (
            "a sample was seen with different labels: ids must be positions in the data set, not in the loader, and "
            "where images are mixtures (mixup, CutMix) update takes the logits and labels of unmixed ones"
        )
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


def early_el2n(logits: Tensor | Iterable[Tensor], labels: Tensor, classes: int | None) -> Tensor:
    """:func:`el2n` of all samples, float32 (N,) on the labels' device, from the logits (N, K) that predict returned.

    These may come in parts (b, K), in order, of which only one need be in memory at once.

    ``classes``: K in training, if that is known. Samples without a label, -1, get that of class 0.

    Raises:
        InputError: it returned something else.
    """
    wanted = f"predict must return logits ({len(labels)}, K) in a tensor, or in parts (b, K) in the order of ids"
    parts = [logits] if isinstance(logits, Tensor) else logits
    if not isinstance(parts, Iterable):
        raise InputError(f"{wanted}, got {type(logits).__name__}")
    norms: list[Tensor] = []
    done = 0
    for part in parts:
        if not isinstance(part, Tensor) or part.ndim != 2 or done + len(part) > len(labels):
            got = tuple(part.shape) if isinstance(part, Tensor) else type(part).__name__
            raise InputError(f"{wanted}, got {got}" + (f" after {done} rows" if done else ""))
        own = labels[done : done + len(part)].clamp(min=0)
        check_range(own, part.shape[1], "labels, for the logits that predict returned,")
        if classes not in (None, part.shape[1]):
            raise InputError(
                f"predict returned logits of {part.shape[1]} classes, and those in training are of {classes}"
            )
        first = part[:_PART].detach()
        if not done and len(part) and bool((first >= 0).all()) and bool(((first.sum(1) - 1).abs() <= 0.01).all()):
            _warn_of_probabilities("the rows that predict returned")
        pieces = zip(part.split(_PART), own.split(_PART), strict=True)
        norms += [el2n(piece.detach().to(labels.device, torch.float32), its) for piece, its in pieces]
        done += len(part)
    if done < len(labels):
        raise InputError(f"{wanted}, got {done} rows")
    return torch.cat(norms)
