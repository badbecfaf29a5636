"""How good a front is, in one number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hardtune.report.records import Record

REFERENCE = 2.0
"""The highest relative cost that counts, in each objective."""

_SMALLEST_COST = 1e-9
"""A control with zero cost leaves nothing to gain; this keeps the ratio to it defined."""


def hypervolume(front: Sequence[Record], control: Record, objectives: Mapping[str, str]) -> float:
    """The share that the front dominates of the box of all costs up to twice the control's in every objective.

    An objective's cost is its value if it is minimised, and 1 - value if it is maximised. Costs are divided by
    the control's, so the box is [0, 2] in each of d objectives and known before the first trial; its volume is 2^d. In
    [0, 1], higher = better; the control alone has 0.5^d, and whatever is added to a front can only raise it (Zitzler &
    Thiele 1999, IEEE Trans. Evol. Comput. 3). A control with zero cost in an objective can only be equalled there:
    anything with a higher cost counts nothing. For costs below 0, see :func:`with_negative_costs`.

    >>> from hardtune import Treatment
    >>> control = Record(-1, Treatment(), "finished", {"final/ece": 0.02, "final/accuracy": 0.90})
    >>> better = Record(0, Treatment(alpha=1.0), "finished", {"final/ece": 0.01, "final/accuracy": 0.95})
    >>> hypervolume([control], control, {"final/ece": "min", "final/accuracy": "max"})
    0.25
    >>> round(hypervolume([better], control, {"final/ece": "min", "final/accuracy": "max"}), 4)
    0.5625
    """
    import moocore

    if not front:
        return 0.0
    values = np.array([[record.metrics[name] for name in objectives] for record in front])
    volume = moocore.hypervolume(relative_costs(values, control, objectives), ref=np.full(len(objectives), REFERENCE))
    return float(volume) / REFERENCE ** len(objectives)


def with_negative_costs(control: Record, objectives: Mapping[str, str]) -> list[str]:
    """The objectives in which the control's cost is below 0 and so cannot be a unit: there is no hypervolume.

    The control's value is above 1 if they are maximised, or below 0 if they are minimised.
    """
    return [
        name
        for name, direction in objectives.items()
        if (control.metrics[name] < 0 if direction == "min" else control.metrics[name] > 1)
    ]


def relative_costs(values: NDArray[np.float64], control: Record, objectives: Mapping[str, str]) -> NDArray[np.float64]:
    """Values (..., O) of the objectives, in their order, as costs in units of the control's; lower = better."""
    minimised = np.array([direction == "min" for direction in objectives.values()])
    base = np.array([control.metrics[name] for name in objectives])
    unit = np.maximum(np.where(minimised, base, 1 - base), _SMALLEST_COST)
    return np.asarray(np.where(minimised, values, 1 - values) / unit)
