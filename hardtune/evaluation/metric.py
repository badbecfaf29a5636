"""The figures that predictions are judged by, by name, and which way is better."""

from __future__ import annotations

import re
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
    """A figure that is finite for any predictions, so that a search may have it as an objective."""

    compute: Callable[[Predictions], float]
    better: Better
    """``min``: lower is better; ``max``: higher is."""


METRICS: Registry[Metric] = Registry("metric")
"""Everything that :func:`hardtune.evaluation.evaluate` computes."""
UNSEEN = ("test", "ood", "corruptions")
"""How the names of metrics begin that are measured with the test split: the search never sees them."""
CORRUPTION_METRICS = ("accuracy", "ece")
"""Those that are measured under each corruption."""


def metric(name: str, better: Better) -> Callable[[Function], Function]:
    """Register a function of :class:`Predictions` as a metric, which every trial then reports::

        @metric("mean_confidence", better="max")
        def mean_confidence(predictions: Predictions) -> float:
            return float(predictions.confidence.mean())

    In a sweep's script, or a module that it imports, this is all: the sweep tells its workers. To race by it, or to see
    the front's hypervolume, its values must be at most 1 (``max``) or at least 0 (``min``): what a trial costs is 1 -
    value, or the value, in units of what the control costs.

    Raises:
        InputError: The name has characters that MLflow takes no figures under, or a slash, which parts a metric's name
            from what it is measured on; or ``better`` is neither ``min`` nor ``max``.
        ValueError: The name is taken.

    >>> METRICS["ece"].better
    'min'
    """

    if not re.fullmatch(r"\w[\w.\- ]*", name):
        raise InputError(
            f"a metric's name begins with a letter or digit and has letters, digits, _, -, . and spaces, got {name!r}"
        )
    if better not in ("min", "max"):
        raise InputError(f"metric {name!r} is better='min' where lower is better, or 'max', got {better!r}")

    def register(function: Function) -> Function:
        METRICS.register(name)(Metric(function, better))
        return function

    return register
