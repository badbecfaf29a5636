"""Compares treatments with one another, member by member: differences, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.errors import InputError
from hardtune.evaluation.comparison import Difference, compare
from hardtune.evaluation.metric import Better
from hardtune.report.metric_names import better, figures_of_members, members_like, on_test
from hardtune.report.records import Record, by_treatment
from hardtune.treatment import Treatment

Row = dict[str, Any]
METRICS_A_TABLE = 4
"""As many as fit in 80 columns."""


@dataclass(frozen=True)
class Comparison:
    """Some treatments against a reference: one question, so one family per metric for Holm's correction."""

    treatments: tuple[Treatment, ...]
    reference: Treatment = field(default_factory=Treatment)
    metrics: tuple[str, ...] = ("test/accuracy", "test/ece", "test/nll", "test/aurc")
    """Figures of each member, from ``Result.by_member``."""

    def __post_init__(self) -> None:
        for name in ("treatments", "metrics"):
            if isinstance(getattr(self, name), (str, Treatment)):
                raise InputError(f"a comparison's {name} must be a tuple, got {getattr(self, name)!r}")


def metrics_of(
    objectives: Collection[str], measured: Collection[str], metrics: Mapping[str, Better] | None = None
) -> tuple[str, ...]:
    """What to compare after a search: its objectives on the test split, and as many others as fit in a table.

    Args:
        measured: the available figures of members.
        metrics: as for :func:`figures_of_members`.

    >>> metrics_of(["final/recall_gap", "ensemble/nll"], ["test/recall_gap", "test/accuracy", "test/ece"])
    ('test/recall_gap', 'test/accuracy', 'test/ece')
    >>> metrics_of(["test/recall_gap"], ["test/recall_gap", "test/accuracy"])  # a front may be by the test split
    ('test/recall_gap', 'test/accuracy')
    """
    known = figures_of_members(metrics=metrics)
    judged = dict.fromkeys(on_test(objective) or objective for objective in objectives)
    twins = [name for name in judged if name in known]
    others = [name for name in Comparison.metrics if name not in twins]
    return tuple(name for name in (*twins, *others[: max(0, METRICS_A_TABLE - len(twins))]) if name in measured)


def compared(
    records: Sequence[Record],
    comparison: Comparison,
    metrics: Mapping[str, Better] | None = None,
    *,
    over: str = "members",
    confidence: float = 0.95,
) -> list[Row]:
    """A row for each metric and treatment: its mean, its difference from the reference, and if that is significant.

    ``low`` and ``high`` bound the 95 % confidence interval of the mean difference for that comparison alone (Student's
    t, over members, paired by seed, and over test images, paired by image, if all records have what that takes; None
    for a single member, which has no spread); ``images_share`` is the part of its squared half-width that images
    account for (None if it does not cover them); ``p_adjusted`` is Holm's over the comparison's treatments (``of`` is
    their number), and the ``verdict`` is ``better`` or ``worse`` if it is below 0.05, else ``open``. Unfinished trials
    are left out, but those that racing stopped count in Holm's correction. ``recall_hard_easy`` counts by the
    absolute value of its mean: hard classes recalled more often than easy ones are just as unequal.

    Args:
        metrics: as for :func:`figures_of_members`.
        over: what the records have a figure of each of, ``members``; or ``sweeps``, if they are of ``report.pooled``,
            which may be compared by figures of their ensembles, too.
        confidence: of intervals, if not 95 %, and of verdicts.
    """
    found = by_treatment(records)
    reference = found.get(comparison.reference.canonical())
    others = [found[key] for key in dict.fromkeys(t.canonical() for t in comparison.treatments) if key in found]
    others = [record for record in others if record is not reference]
    if reference is None or not others:
        return []
    stopped = {record.treatment.canonical() for record in records if record.state == "stopped"}
    given_up = len(stopped & {treatment.canonical() for treatment in comparison.treatments} - found.keys())
    rows: list[Row] = []
    for metric in comparison.metrics:
        direction = better(members_like(metric), metrics)
        theirs = judged(metric, reference.members[metric])
        left_out = {}
        if all(metric in record.left_out for record in (reference, *others)):  # else some would look surer than others
            whole = judged(metric, reference.left_out[metric])
            left_out = {str(r.number): judged(metric, r.left_out[metric]) - whole for r in others}
        ours = {str(r.number): judged(metric, r.members[metric]) for r in others}
        differences = compare(ours, theirs, left_out=left_out, confidence=confidence, given_up=given_up)
        for record in others:
            difference = differences[str(record.number)]
            rows.append(
                {
                    "reference": str(reference.treatment),
                    "metric": metric,
                    "better": direction,
                    "trial": record.number,
                    "treatment": str(record.treatment),
                    "mean": float(np.mean(ours[str(record.number)])),
                    "reference_mean": float(np.mean(theirs)),
                    "of": len(others) + given_up,
                    "over": over,
                    **found_out(difference, direction),
                }
            )
    return rows


def tried(records: Sequence[Record]) -> list[Treatment]:
    """The treatments that a sweep tried: what the verdict on one chosen among them is corrected for."""
    ended = (record for record in records if record.state in ("finished", "stopped") and not record.is_control)
    return list(dict.fromkeys(record.treatment.canonical() for record in ended))


def found_out(difference: Difference, better: Better) -> Row:
    """The part of a row that says how large a difference is, how sure, and which side it speaks for."""
    helps = (difference.mean > 0) == (better == "max")
    return {
        "difference": difference.mean,
        "low": difference.low if math.isfinite(difference.low) else None,  # JSON has no infinity
        "high": difference.high if math.isfinite(difference.high) else None,
        "images_share": difference.images_share,
        "p": difference.p_value,
        "p_adjusted": difference.p_adjusted,
        "members": difference.members,
        "verdict": ("better" if helps else "worse") if difference.significant else "open",
    }


def judged(metric: str, figures: Sequence[float]) -> NDArray[np.float64]:
    """The figures (M,) or (P,) as they are compared: of the one that is best at 0, negated if their mean is below it.

    So their mean is the absolute value of the mean. That of absolute values would have more of chance in it.
    """
    values = np.asarray(figures, np.float64)
    return -values if metric.endswith("/recall_hard_easy") and values.mean() < 0 else values


def check_comparison(comparison: Comparison, treatments: Sequence[Treatment], measured: Collection[str]) -> None:
    """Raise ``InputError`` for a figure that will not be measured, or a treatment that will not be tried.

    ``measured``: the names of the figures that will be measured, from :func:`figures_of_members`.
    """
    for metric in comparison.metrics:
        better(metric)
        if metric not in measured:
            raise InputError(
                f"{metric!r} is compared, but the sweep does not measure it: ood/… needs ood, corruptions/… needs "
                "corruptions, and …_scaled needs held-out samples beside the test split, so another validation than "
                "'test'"
            )
    tried = {treatment.canonical() for treatment in (*treatments, Treatment())}
    for treatment in (comparison.reference, *comparison.treatments):
        if treatment.canonical() not in tried:
            raise InputError(f"the treatment {str(treatment)!r} is compared, but not in the sweep's list")
