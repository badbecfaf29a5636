"""How a smaller gap between classes came about: by what weaker classes gain, or only by what stronger ones lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hardtune.report.metric_names import label
from hardtune.report.records import Record

GAPS = ("recall_gap", "recall_gap_excess", "recall_range", "recall_topk_gap", "recall_mad")
"""Metrics that become smaller, too, where every class does worse, if strong ones do by more."""


def levelling_down(trials: Sequence[Record], control: Record, gap: str) -> str:
    """A sentence on which of the trials with a smaller gap level down, as their mean recalls on the test split say.

    A trial levels down if, in tenths of a point, the control's weaker classes gain nothing on average and the others
    lose (Mittelstadt, Wachter & Russell 2023). The weaker ones are those that the control recalls below its mean on
    held-out samples: those that it happens to recall badly on the test images would do better in any other network
    there. What its own networks are poor at remains, so gains may look a little larger than they are.

    Args:
        gap: a figure of members on the test split, such as ``test/recall_gap``.

    Returns:
        The sentence; empty if no trial has a smaller gap, or where no recalls tell classes apart.
    """
    smaller = [one for one in trials if np.mean(one.members[gap]) < np.mean(control.members[gap])]
    held_out, before = _recalls(control, "recall"), _recalls(control, "test_recall")
    known = [name for name in before if name in held_out]
    weaker = [name for name in known if held_out[name] < np.mean([held_out[each] for each in known])]
    others = [name for name in known if name not in weaker]
    if not smaller or not weaker:
        return ""
    changes = {}
    for one in smaller:
        after = _recalls(one, "test_recall")
        changes[one.number] = [100 * np.mean([after[k] - before[k] for k in side]) for side in (weaker, others)]
    down = [number for number, (weak, other) in changes.items() if round(weak, 1) <= 0 and round(other, 1) < 0]
    weak, other = np.mean([changes[number] for number in down or changes], axis=0).round(1) + 0.0  # never -0.0
    found = f"Levelling down{', if not by chance' * bool(down)}: {_which(down, list(changes))}"
    sides = f"the control's weaker classes, by held-out recall: {weak:+.1f} points; others: {other:+.1f}"
    return f"{found} with a smaller {label(gap).removeprefix('test ')} ({sides})."


def _recalls(record: Record, which: str) -> Mapping[str, float]:
    """By class, of those that have samples there."""
    found = {name: figures.get(which) for name, figures in record.per_class.items()}
    return {name: recall for name, recall in found.items() if recall is not None}


def _which(down: Sequence[int], among: Sequence[int]) -> str:
    """``trials 1 and 3 of the 7``, or those that are not, if fewer."""
    if len(among) == 1:
        return f"{'' if down else 'not '}trial {among[0]}, the only one"
    of = f"of the {len(among)}"
    if len(down) in (0, len(among)):
        return f"{'all' if down else 'none'} {of}"
    rest = [number for number in among if number not in down]
    all_but, named = ("all but ", rest) if len(rest) < len(down) else ("", down)
    *first, last = map(str, sorted(named))
    trials = f"trials {', '.join(first)} and {last}" if first else f"trial {last}"
    return f"{all_but}{trials} {of}"
