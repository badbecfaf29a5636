"""Whether what a search found is better than the control on data that the search did not see."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from hardtune.evaluation.metric import Better
from hardtune.report.comparison import Comparison, Row, compared, tried
from hardtune.report.levelling import GAPS, levelling_down
from hardtune.report.metric_names import label, members_like, of_ensemble, on_test
from hardtune.report.pareto import front
from hardtune.report.records import Record, control_of


def verdict(
    records: Sequence[Record], objectives: Mapping[str, str], metrics: Mapping[str, Better] | None = None
) -> str:
    """A sentence on the front against the control, by the objectives on the test split; and one on levelling down.

    A front is chosen by noisy figures, so that of treatments without any effect some are on it. Differences are those
    of :func:`compared`, paired, and corrected for every treatment that was tried, each objective on its own. Where none
    is significant, it says how large one of the first objective would have had to be. Where a gap between classes is an
    objective, :func:`~hardtune.report.levelling.levelling_down` follows.

    Args:
        records: the control's, and those of the trials that have ended.
        metrics: a sweep's metrics and which way each is better, if not those registered here.

    Returns:
        The sentences; empty if no figure of the test split belongs to an objective, or if one network bounds nothing.
    """
    chosen = {record.number: record for record in front(records, objectives) if not record.is_control}
    if not chosen:
        return "The control alone is on the front." if tried(records) else ""
    control = control_of(records)
    twins = (members_like(on_test(name) or "") for name in objectives)
    names = tuple(dict.fromkeys(name for name in twins if name in control.members))
    single = "single networks' " * any(map(of_ensemble, objectives))
    if not names or len(control.members[names[0]]) < 2:
        return ""
    all_rows = compared(records, Comparison(tuple(tried(records)), metrics=names), metrics)
    rows = [row for row in all_rows if row["trial"] in chosen]
    if not rows:
        return ""
    better, worse = (_listed(rows, side, single) for side in ("better", "worse"))
    if not better and not worse:
        words = [_word(name) for name in names]
        said = " or ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])
        none = "the one on the front is not" if len(chosen) == 1 else f"none of the {len(chosen)} on the front is"
        found = f"{none} significantly better or worse than the control in {single}{said}"
    else:
        sides = [f"{side} than the control: {them}" for side, them in (("better", better), ("worse", worse)) if them]
        found = f"significantly {'; '.join(sides)}" + ("" if better else "; none is better")
    over = f"{rows[0]['members']} networks" + " and test images" * all(row["images_share"] is not None for row in rows)
    alone = ", each objective on its own" * (len(names) > 1)
    corrected = f", and corrected for all {rows[0]['of']} treatments that were tried{alone}" * (rows[0]["of"] > 1)
    needed = "" if better or worse else _needed(records, metrics, all_rows, list(chosen))
    needed = f". To be significant, the {single}{needed}" if needed else ""
    said = f"On the test split {found}. (Paired over {over}{corrected}{needed}.)"
    gap = next((name for name in names if name.partition("/")[2] in GAPS), None)
    levelled = levelling_down(list(chosen.values()), control, gap) if gap else ""
    return f"{said} {levelled}".strip()


def _needed(
    records: Sequence[Record], metrics: Mapping[str, Better] | None, all_rows: Sequence[Row], chosen: Collection[int]
) -> str:
    """What the first metric would have had to do to be significant, in the median over the front; empty if unbounded.

    It is half as wide as the interval that covers as much as Holm's next step asks for, after those treatments that are
    significant, but not on the front.
    """
    metric = all_rows[0]["metric"]
    significant = sum(row["metric"] == metric and row["verdict"] != "open" for row in all_rows)
    confidence = 1 - 0.05 / (all_rows[0]["of"] - significant)
    rows = compared(records, Comparison(tuple(tried(records)), metrics=(metric,)), metrics, confidence=confidence)
    rows = [row for row in rows if row["trial"] in chosen]
    widths = [math.inf if row["low"] is None else row["high"] - row["low"] for row in rows]
    needed, way = float(np.median(widths)) / 2, "fall" if rows[0]["better"] == "min" else "rise"
    if not 0 < needed < math.inf:
        return ""
    control = rows[0]["reference_mean"]
    than = ", more than" if way == "fall" and needed > control else " from"
    return f"{_word(metric)} would have had to {way} by about {needed:.2g}{than} the control's {control:.3f}"


def _listed(rows: Sequence[Row], side: str, single: str) -> str:
    """Trials of that verdict with what it is in: ``trial 3 (recall gap, ECE)``."""
    found: dict[int, list[str]] = {}
    for row in rows:
        if row["verdict"] == side:
            found.setdefault(row["trial"], []).append(_word(row["metric"]))
    return " and ".join(f"trial {number} ({single}{', '.join(words)})" for number, words in sorted(found.items()))


def _word(metric: str) -> str:
    return label(metric).removeprefix("test ")
