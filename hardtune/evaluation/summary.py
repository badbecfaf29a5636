"""From logits and labels to every figure that a trial reports."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hardtune.errors import TRANSIENT, InputError, blamed
from hardtune.evaluation.calibration import fit_temperature
from hardtune.evaluation.metric import CALIBRATION, METRICS
from hardtune.evaluation.predictions import Floats, Predictions, checked_logits, checked_members, log_softmax
from hardtune.evaluation.recall import class_f1, class_precision, class_recall, recall_hard_easy

_TRIED = 4096
"""Samples that metrics are tried on before there are predictions, at most, where classes are few."""
_TRIED_OF_EACH = 8
"""And of each class, at least, where they are many: one's own metric may need a few of each."""


def evaluate(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    hard_classes: Sequence[int] | ArrayLike | None = None,
    temperature: float | None = None,
) -> dict[str, float]:
    """Every metric in :data:`~hardtune.evaluation.metric.METRICS`, all finite.

    Beside the logits, takes about 8 times their memory in float32, with a temperature 10 to 15 times.

    Args:
        logits: (N, K), finite.
        labels: (N,) in 0..K-1; a class without samples is left out of summaries of recall or F1, but not of
            ``ece_classwise``, since its probability is still predicted.
        hard_classes: Labels or mask (K,) of the hard classes; adds ``recall_hard_easy``.
        temperature: From :func:`fit_temperature` on held-out samples; adds ``temperature`` and, for every calibration
            metric, its value after scaling as ``<name>_scaled``.

    Raises:
        InputError: As :meth:`Predictions.of`, hard classes that do not exist, a temperature that is no finite number
            above 0, or a metric that raises or is not finite.

    >>> figures = evaluate([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]], [0, 1, 1])
    >>> round(figures["accuracy"], 3), figures["recall_gap"], figures["worst_recall"]
    (0.667, 0.25, 0.5)
    """
    return _figures(Predictions.of(logits, labels), hard_classes, temperature)


@dataclass(frozen=True, eq=False)
class MemberSummary:
    """The figures of an ensemble: each member's, their mean, and those of the ensemble as one predictor."""

    members: tuple[dict[str, float], ...]
    member_mean: dict[str, float]
    """What HBR reports: mean over members, never a vote."""
    ensemble: dict[str, float]
    """From the members' averaged softmax."""
    recall: Floats
    """(M, K) per member and class; NaN for a class without samples."""
    precision: Floats
    """(M, K) likewise; NaN, too, where a member never predicts a class."""
    f1: Floats
    """(M, K) likewise; 0 where a member never predicts a class that has samples."""


def evaluate_members(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    hard_classes: Sequence[int] | ArrayLike | None = None,
    held_out: tuple[ArrayLike, ArrayLike] | None = None,
) -> MemberSummary:
    """Evaluate an ensemble's logits (M, N, K) on labels (N,).

    Beside the logits, takes about 10 times the memory of one member's in float32, with ``held_out`` 15 times.

    Args:
        hard_classes: As in :func:`evaluate`.
        held_out: The same members' logits (M, N', K) and labels (N',) on held-out training samples; each member's
            temperature, and the ensemble's, are fitted on them, and figures after scaling added.

    Raises:
        InputError: As :func:`evaluate`, or logits that are not (M, N, K).
    """
    stack = checked_members(logits)
    temperatures: list[float | None] = [None] * (len(stack) + 1)
    if held_out is not None:
        held_logits, held_labels = checked_members(held_out[0]), held_out[1]
        if len(held_logits) != len(stack):
            raise InputError(f"held-out logits are of {len(held_logits)} members, the others of {len(stack)}")
        if held_logits.shape[-1] != stack.shape[-1]:
            raise InputError(f"held-out logits are of {held_logits.shape[-1]} classes, the others of {stack.shape[-1]}")
        temperatures = [fit_temperature(one, held_labels) for one in held_logits]
        temperatures.append(fit_temperature(averaged_softmax(held_logits), held_labels))

    def judged(one: Floats, temperature: float | None) -> tuple[dict[str, float], list[Floats]]:
        predictions = Predictions.of(one, labels)
        by_class = [of(predictions) for of in (class_recall, class_precision, class_f1)]
        return _figures(predictions, hard_classes, temperature), by_class

    # One predictor at a time: float64 predictions and what is derived from them take many times the logits' memory.
    members, by_class = zip(*map(judged, stack, temperatures[:-1]), strict=True)
    ensemble, _ = judged(averaged_softmax(stack), temperatures[-1])
    recall, precision, f1 = np.stack(by_class, axis=1)
    return MemberSummary(
        members=members,
        member_mean={name: float(np.mean([figures[name] for figures in members])) for name in members[0]},
        ensemble=ensemble,
        recall=recall,
        precision=precision,
        f1=f1,
    )


def check_metrics(labels: NDArray[np.int64], num_classes: int) -> None:
    """Compute every metric on made-up predictions for ``labels`` (N,) that favour the right class.

    Of large classes for some of their samples only, since metrics of 100,000 samples of 1,000 classes take 4 GB; a
    class that has none, or only a few, keeps what it has.

    Raises:
        InputError: A metric raises, or is not finite.
    """
    sizes = np.bincount(labels, minlength=num_classes)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    few = place < max(_TRIED_OF_EACH, _TRIED // num_classes)
    some = labels[np.sort(np.argsort(labels, kind="stable")[few])]
    logits = np.random.default_rng(0).normal(size=(len(some), num_classes))
    logits[np.arange(len(some)), some] += 2
    evaluate(logits, some)


def averaged_softmax(logits: ArrayLike) -> Floats:
    """The log of the members' mean softmax (N, K), from logits (M, N, K); they serve as the ensemble's logits."""
    stack = checked_members(logits)
    total = log_softmax(checked_logits(stack[0]))
    for member in stack[1:]:
        # logaddexp stays finite where every member's probability underflows.
        np.logaddexp(total, log_softmax(checked_logits(member)), out=total)
    return np.asarray(total - math.log(len(stack)))


def _figures(
    predictions: Predictions, hard_classes: Sequence[int] | ArrayLike | None, temperature: float | None
) -> dict[str, float]:
    if temperature is None:
        return figures_of(predictions, hard_classes)
    return {**figures_of(predictions, hard_classes, predictions.at(temperature)), "temperature": float(temperature)}


def figures_of(
    predictions: Predictions,
    hard_classes: Sequence[int] | ArrayLike | None,
    scaled: Predictions | None = None,
    failed: dict[str, InputError] | None = None,
) -> dict[str, float]:
    """Every metric of predictions, and those of calibration of ``scaled`` ones as ``<name>_scaled``.

    ``failed``: takes what metrics of one's own raise; without it, the first is raised.
    """
    figures = {}
    for name in METRICS:
        try:
            figures[name] = _figure(name, predictions)
        except InputError as error:
            if failed is None or isinstance(error.__cause__, TRANSIENT):
                raise
            failed[name] = error
    if hard_classes is not None:
        figures["recall_hard_easy"] = recall_hard_easy(predictions, hard_classes)
    if scaled is not None:
        figures |= {f"{name}_scaled": _figure(name, scaled) for name in CALIBRATION}
    return figures


def _figure(metric: str, predictions: Predictions) -> float:
    with blamed(f"metric {metric!r} fails"):
        value = float(METRICS[metric].compute(predictions))
    if not math.isfinite(value):
        raise InputError(f"metric {metric!r} is {value}, and must be a finite number for any predictions")
    return value
