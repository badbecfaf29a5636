"""The metrics that judge predictions, by name, and which direction is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from hardtune.errors import InputError
from hardtune.evaluation.predictions import Predictions
from hardtune.registry import Registry

Better = Literal["min", "max"]
Function = TypeVar("Function", bound=Callable[[Predictions], float])


@dataclass(frozen=True)
class Metric:
    """A figure that is finite for any predictions, so that it can be a search objective."""

    compute: Callable[[Predictions], float]
    better: Better
    """``min``: lower is better; ``max``: higher is."""


METRICS: Registry[Metric] = Registry("metric")
"""Everything that :func:`hardtune.evaluation.evaluate` computes."""
CORRUPTION_METRICS = ("accuracy", "ece")
"""Those measured under each corruption."""
CALIBRATION = ("nll", "brier", "ece", "ece_adaptive", "ece_classwise")
"""Those that temperature scaling is meant to improve."""

_DERIVED = ("recall_hard_easy", "temperature", *(f"{name}_scaled" for name in CALIBRATION))
"""What :func:`hardtune.evaluation.evaluate` computes beside the metrics."""


def directions() -> dict[str, Better]:
    """Which way each registered metric is better."""
    return {name: metric.better for name, metric in METRICS.items()}


def metric(name: str, better: Better) -> Callable[[Function], Function]:
    """Register a function of :class:`Predictions` as a metric, which every trial then reports::

        @metric("mean_confidence", better="max")
        def mean_confidence(predictions: Predictions) -> float:
            return float(predictions.confidence.mean())

    In a sweep's script, or a module that it imports, this is enough: workers get it, too. For racing, or for
    the front's hypervolume, its values must be at most 1 (``max``) or at least 0 (``min``): a trial's cost is 1 -
    value, or the value, in units of the control's cost.

    Raises:
        InputError: The name has characters that MLflow does not allow, or a slash, which separates a metric's name
            from what it is measured on; or it is taken; or ``better`` is neither ``min`` nor ``max``.

    >>> METRICS["ece"].better
    'min'
    """

    register = METRICS.register(name)
    if name in _DERIVED:
        raise InputError(f"{name!r} is what hardtune computes beside the metrics: choose another name")
    if better not in ("min", "max"):
        raise InputError(f"metric {name!r} is better='min' where lower is better, or 'max', got {better!r}")

    def add(function: Function) -> Function:
        register(Metric(function, better))
        return function

    return add
