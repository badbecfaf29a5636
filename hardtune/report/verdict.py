"""Whether what a search found is better than the control on data that the search did not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hardtune.evaluation.metric import Better
from hardtune.report.comparison import Comparison, Row, compared, tried
from hardtune.report.pareto import front
from hardtune.report.records import Record
from hardtune.report.table import label, members_like, of_ensemble, on_test


def verdict(
    records: Sequence[Record], objectives: Mapping[str, str], metrics: Mapping[str, Better] | None = None
) -> str:
    """A sentence on the front against the control, by the objectives on the test split.

    A front is chosen by noisy figures, so that of treatments without any effect some are on it. Differences are those
    of :func:`compared`, paired, and corrected for every treatment that was tried.

    Args:
        records: the control's, and those of the trials that have ended.
        metrics: a sweep's metrics and which way each is better, if not those registered here.

    Returns:
        The sentence; empty if no figure of the test split belongs to an objective, or if one network bounds nothing.
    """
    chosen = {record.number for record in front(records, objectives) if not record.is_control}
    if not chosen:
        return "The control alone is on the front." if tried(records) else ""
    control = next(record for record in records if record.is_control)
    twins = (members_like(on_test(name) or "") for name in objectives)
    names = tuple(dict.fromkeys(name for name in twins if name in control.members))
    single = "single networks' " * any(map(of_ensemble, objectives))
    if not names or len(control.members[names[0]]) < 2:
        return ""
    rows = compared(records, Comparison(tuple(tried(records)), metrics=names), metrics)
    rows = [row for row in rows if row["trial"] in chosen]
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
    corrected = "" if rows[0]["of"] == 1 else f", and corrected for all {rows[0]['of']} treatments that were tried"
    return f"On the test split {found}. (Paired over {over}{corrected}.)"


def _listed(rows: Sequence[Row], side: str, single: str) -> str:
    """Trials of that verdict with what it is in: ``trial 3 (recall gap, ECE)``."""
    found: dict[int, list[str]] = {}
    for row in rows:
        if row["verdict"] == side:
            found.setdefault(row["trial"], []).append(_word(row["metric"]))
    return " and ".join(f"trial {number} ({single}{', '.join(words)})" for number, words in sorted(found.items()))


def _word(metric: str) -> str:
    return label(metric).removeprefix("test ")
