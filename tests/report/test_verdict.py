"""After a search, one sentence says whether the front is better than the control where the search did not look."""

import dataclasses
import re

import numpy as np
import pytest

from hardtune import Treatment
from hardtune.report.metric_names import on_test
from hardtune.report.records import CONTROL, Record
from hardtune.report.verdict import verdict

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}
SEEDS = np.array([0.01, -0.02, 0.005, 0.015, -0.01])
"""What the members' figures differ by: less than treatments do."""


def record(number, held_out, test=None, members=5, **fields):
    """A trial with this recall gap and accuracy on average."""
    noise = {"final": SEEDS, "test": SEEDS[::-1] * (1 + 0.1 * number)}
    means = {"final": held_out, "test": test or held_out}
    figures = {
        f"{group}/{name.partition('/')[2]}": means[group][i] + noise[group][:members]
        for group in means
        for i, name in enumerate(OBJECTIVES)
    }
    treatment = Treatment() if number == CONTROL else Treatment(alpha=number + 1)
    metrics = {name: float(values.mean()) for name, values in figures.items()}
    by_member = {name: values.tolist() for name, values in figures.items()}
    return Record(number, treatment, "finished", metrics, members=by_member, **fields)


CONTROLS = record(CONTROL, (0.2, 0.8))


def test_what_is_better_by_chance_alone_is_said_to_be_no_better():
    lucky = [record(0, (0.19, 0.79), (0.2001, 0.7999)), record(1, (0.18, 0.78), (0.2001, 0.7999))]
    assert verdict([CONTROLS, *lucky], OBJECTIVES) == (
        "On the test split none of the 2 on the front is significantly better or worse than the control in recall gap "
        "or accuracy. (Paired over 5 networks, and corrected for all 2 treatments that were tried, each objective on "
        "its own. To be significant, the recall gap would have had to fall by about 0.0034 from the control's 0.200.)"
    )
    assert verdict([CONTROLS, lucky[0]], OBJECTIVES).startswith("On the test split the one on the front is not sig")


def test_what_is_better_or_worse_is_named_with_what_it_is_in():
    found = [CONTROLS, record(0, (0.1, 0.7)), record(1, (0.1, 0.9)), record(2, (0.3, 0.7)), record(3, (0.15, 0.95))]
    assert verdict(found, OBJECTIVES).startswith(
        "On the test split significantly better than the control: trial 1 (recall gap, accuracy) and trial 3 (recall "
        "gap, accuracy). (Paired"
    )
    assert "worse than the control: trial 0 (accuracy). (" in verdict(found[:2], OBJECTIVES)
    overfitted = record(0, (0.1, 0.9), (0.3, 0.8))
    assert "significantly worse than the control: trial 0 (recall gap); none is better." in verdict(
        [CONTROLS, overfitted], OBJECTIVES
    )


def test_it_is_corrected_for_all_that_was_tried_not_for_those_on_the_front():
    slightly = record(0, (0.19, 0.81), (0.1978, 0.8))
    others = [record(number, (0.3, 0.7)) for number in range(1, 40)]
    assert "better than the control: trial 0 (recall gap)" in verdict([CONTROLS, slightly], OBJECTIVES)
    among = verdict([CONTROLS, slightly, *others], OBJECTIVES)
    assert "the one on the front is not significantly better" in among
    assert "corrected for all 40 treatments that were tried" in among


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("share", [0.94, 1.06])
def test_where_nothing_is_significant_it_says_what_would_have_been(share, images):
    def found(fall):
        others = [record(n, (0.3, 0.7), (0.3, 0.7) if n < 30 else (0.2, 0.8)) for n in range(1, 40)]  # most are worse
        found = [CONTROLS, record(0, (0.19, 0.81), (0.2 - fall, 0.8)), *others]
        if not images:
            return found
        parts = [0.0005 * one.number * np.arange(20) for one in found]
        left_out = [{name: part.tolist() for name in ("test/recall_gap", "test/accuracy")} for part in parts]
        return [dataclasses.replace(one, left_out=each) for one, each in zip(found, left_out, strict=True)]

    said = verdict(found(0.0), OBJECTIVES)
    needed = re.search(r"To be significant, the recall gap would have had to fall by about ([\d.]+) from", said)
    judged = verdict(found(share * float(needed[1])), OBJECTIVES)
    assert ("better than the control: trial 0 (recall gap)" in judged) == (share > 1)
    assert ("To be significant" in judged) == (share < 1)
    accuracy = verdict(found(0.0), dict(reversed(OBJECTIVES.items())))
    assert "the accuracy would have had to rise by about" in accuracy


def test_what_no_gap_could_have_fallen_by_is_said_to_be_more_than_it_is():
    narrow = [
        dataclasses.replace(one, members={"test/recall_gap": gaps})
        for one, gaps in ((CONTROLS, [0.001, 0.002]), (record(0, (0.19, 0.81)), [0.001, 0.005]))
    ]
    said = verdict(narrow, OBJECTIVES)
    assert "the recall gap would have had to fall by about 0.019, more than the control's 0.002." in said


def test_how_a_smaller_gap_came_about_follows_where_a_gap_is_an_objective():
    def with_classes(one, *recalls):
        per_class = {str(k): {"recall": recall, "test_recall": recall} for k, recall in enumerate(recalls)}
        return dataclasses.replace(one, per_class=per_class)

    found = [with_classes(CONTROLS, 0.7, 0.9), with_classes(record(0, (0.1, 0.75)), 0.7, 0.8)]
    said = verdict(found, OBJECTIVES)
    assert said.startswith("On the test split significantly better than the control: trial 0 (recall gap); worse than")
    assert ".) Levelling down, if not by chance: trial 0, the only one with a smaller recall gap (the" in said
    assert ".) Levelling down" in verdict(found, dict(reversed(OBJECTIVES.items()))), "whichever objective it is"
    assert "Levelling" not in verdict(found, {"final/accuracy": "min"})


def test_where_the_control_is_alone_on_the_front_that_is_the_verdict():
    assert verdict([CONTROLS, record(0, (0.3, 0.7))], OBJECTIVES) == "The control alone is on the front."
    assert verdict([CONTROLS], OBJECTIVES) == "", "nothing was tried"


@pytest.mark.parametrize("objectives", [{"final_std/accuracy": "min"}, {"ensemble/brier": "min"}])
def test_nothing_is_said_of_what_members_have_no_figure_of_on_the_test_split(objectives):
    figures = dict.fromkeys(objectives, 0.2)
    control = Record(CONTROL, Treatment(), "finished", figures, members={"final/accuracy": [0.8, 0.9]})
    assert on_test(next(iter(objectives))) not in control.members
    other = Record(0, Treatment(alpha=1.0), "finished", dict.fromkeys(objectives, 0.1), control.members)
    assert verdict([control, other], objectives) == ""


def test_nothing_is_said_of_single_networks():
    assert verdict([record(CONTROL, (0.2, 0.8), members=1), record(0, (0.1, 0.9), members=1)], OBJECTIVES) == ""


def test_an_ensembles_objective_is_judged_by_its_networks_once_and_it_says_so():
    def with_ensemble(one):
        of_ensemble = {"ensemble/accuracy": one.metrics["final/accuracy"]}
        return dataclasses.replace(one, metrics=one.metrics | of_ensemble)

    found = [with_ensemble(one) for one in (CONTROLS, record(0, (0.2, 0.9), (0.2001, 0.7999)))]
    both = {"ensemble/accuracy": "max", "final/accuracy": "max"}
    said = verdict(found, both)
    assert " than the control in single networks' accuracy. (" in said
    assert "the single networks' accuracy would have had to rise by" in said
    better = [found[0], with_ensemble(record(0, (0.1, 0.9)))]
    assert "better than the control: trial 0 (single networks' accuracy). (" in verdict(better, both)


def test_a_metric_of_ones_own_is_judged_in_its_direction():
    def with_own(one, value):
        own = {f"{group}/mine": [value + 0.001 * seed for seed in range(5)] for group in ("final", "test")}
        return dataclasses.replace(one, metrics=one.metrics | {"final/mine": value}, members=one.members | own)

    found = [with_own(CONTROLS, 0.5), with_own(record(0, (0.2, 0.8)), 0.7)]
    found[1].members["test/mine"][0] += 0.001  # a difference without any spread bounds nothing
    said = verdict(found, {"final/mine": "max"}, {"mine": "max"})
    assert said.startswith("On the test split significantly better than the control: trial 0 (mine). (")
    found[1].members["test/mine"][0] += 3
    assert "the mine would have had to rise by" in verdict(found, {"final/mine": "max"}, {"mine": "max"})


def test_it_says_whether_test_images_are_counted():
    left_out = {f"test/{name.partition('/')[2]}": [0.2 + 0.001 * part for part in range(20)] for name in OBJECTIVES}
    found = [dataclasses.replace(one, left_out=left_out) for one in (CONTROLS, record(0, (0.19, 0.81)))]
    assert "(Paired over 5 networks and test images.)" in verdict(found, OBJECTIVES)
    partly = [dataclasses.replace(one, left_out={"test/recall_gap": left_out["test/recall_gap"]}) for one in found]
    assert "(Paired over 5 networks.)" in verdict(partly, OBJECTIVES), "not for every objective"
