"""How a smaller gap between classes came about."""

import numpy as np
import pytest

from hardtune import Treatment
from hardtune.report.levelling import levelling_down
from hardtune.report.records import CONTROL, Record

CLASSES = ("cat", "dog", "elk", "fox")
GAP = "test/recall_gap"


def record(number, test, held_out=None):
    """A trial with these recalls of four classes, in points."""
    test, held_out = (np.array(recalls) / 100 for recalls in (test, test if held_out is None else held_out))
    columns = zip(CLASSES, test.tolist(), held_out.tolist(), strict=True)
    per_class = {name: {"recall": theirs, "test_recall": ours} for name, ours, theirs in columns}
    return Record(number, Treatment(), "finished", members={GAP: [float(test.std())] * 2}, per_class=per_class)


CONTROLS = record(CONTROL, (60, 70, 90, 94))
DOWN, UP, WIDER = (60, 70, 87, 89), (64, 71, 90, 92), (50, 70, 90, 94)


def test_where_only_the_stronger_classes_lose_it_is_levelling_down():
    assert levelling_down([record(3, DOWN), record(4, WIDER)], CONTROLS, GAP) == (
        "Levelling down, if not by chance: trial 3, the only one with a smaller recall gap (the control's weaker "
        "classes, by held-out recall: +0.0 points; others: -4.0)."
    )
    assert levelling_down([record(3, UP)], CONTROLS, GAP) == (
        "Levelling down: not trial 3, the only one with a smaller recall gap (the control's weaker classes, by "
        "held-out recall: +2.5 points; others: -1.0)."
    )
    nobody_loses = record(3, (65, 65, 92, 93))
    assert levelling_down([nobody_loses], CONTROLS, GAP).startswith("Levelling down: not trial 3")


@pytest.mark.parametrize(("test", "down"), [((60, 70.06, 87, 89), True), ((60, 70, 89.95, 94), False)])
def test_changes_that_round_to_nothing_in_tenths_of_a_point_are_none(test, down):
    said = levelling_down([record(3, test)], CONTROLS, GAP)
    assert said.startswith(f"Levelling down{', if not by chance: ' if down else ': not '}trial 3")
    assert "0.0 points" in said


@pytest.mark.parametrize(
    ("down", "up", "which"),
    [
        ([], [1, 2], ": none of the 2 with"),
        ([2, 1], [], ", if not by chance: all of the 2 with"),
        ([7], [1, 2], ", if not by chance: trial 7 of the 3 with"),
        ([9, 2, 4], [1, 3, 5, 6], ", if not by chance: trials 2, 4 and 9 of the 7 with"),
        ([2, 4, 6, 7], [9, 8], ", if not by chance: all but trials 8 and 9 of the 6 with"),
    ],
)
def test_of_many_trials_it_names_the_fewer_and_tells_the_mean_of_those_that_level_down(down, up, which):
    trials = [*(record(number, DOWN) for number in down), *(record(number, UP) for number in up)]
    said = levelling_down(trials, CONTROLS, GAP)
    assert said.startswith(f"Levelling down{which}")
    assert ("+0.0 points; others: -4.0" if down else "+2.5 points; others: -1.0") in said


def test_which_classes_are_weaker_is_told_by_other_images_than_what_they_gain():
    unlucky = record(CONTROL, (60, 70, 90, 72), held_out=(70, 70, 90, 90))  # foxes, on these test images
    said = levelling_down([record(0, (60, 70, 82, 76))], unlucky, GAP)
    assert "weaker classes, by held-out recall: +0.0 points; others: -2.0" in said


def test_a_class_without_samples_in_a_split_is_on_neither_side():
    trials = [record(3, DOWN), CONTROLS]
    for one in trials:
        one.per_class["emu"] = {"recall": 0.1, "test_recall": None}
        one.per_class["gnu"] = {"recall": None, "test_recall": one.number / 100}
    assert "+0.0 points; others: -4.0" in levelling_down(trials[:1], trials[1], GAP)


def test_it_is_silent_without_a_smaller_gap_or_recalls_that_tell_classes_apart():
    assert levelling_down([record(0, WIDER), record(1, (60, 70, 90, 94))], CONTROLS, GAP) == ""
    alike = record(CONTROL, (60, 70, 90, 94), held_out=(80, 80, 80, 80))
    assert levelling_down([record(0, DOWN)], alike, GAP) == ""
    bare = [Record(number, Treatment(), "finished", members={GAP: [gap]}) for number, gap in ((CONTROL, 0.2), (0, 0.1))]
    assert levelling_down(bare[1:], bare[0], GAP) == ""
