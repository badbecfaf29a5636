"""What is said of a sweep over time: its front's volume and size, and the networks that it took."""

import numpy as np
import pytest

from hardtune import Treatment
from hardtune.report.hypervolume import hypervolume, with_negative_costs
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max", "final/ece": "min"}
MEMBERS = 4


def record(number, gap, accuracy, ece, state="finished", members=MEMBERS, **fields):
    treatment = Treatment() if number == CONTROL else fields.pop("treatment", Treatment(alpha=1.0 + number))
    metrics = dict(zip(OBJECTIVES, (gap, accuracy, ece), strict=True)) if state == "finished" else {}
    figures = {name: [0.5] * members for name in OBJECTIVES}
    return Record(number, treatment, state, metrics, members=figures, **fields)


control = record(CONTROL, 0.1, 0.9, 0.02)


def test_the_volume_is_the_share_of_the_box_that_some_trial_dominates():
    """Counted by points thrown into the box."""
    front = [record(0, 0.05, 0.88, 0.03), record(1, 0.12, 0.95, 0.01), record(2, 0.19, 0.97, 0.039)]
    costs = np.array([[0.5, 1.2, 1.5], [1.2, 0.5, 0.5], [1.9, 0.3, 1.95]])
    points = np.random.default_rng(0).uniform(0, 2, (200_000, 3))
    share = np.mean([(points >= cost).all(axis=1) for cost in costs], axis=0).astype(bool).mean()
    assert hypervolume(front, control, OBJECTIVES) == pytest.approx(share, abs=0.005)


def test_the_control_alone_has_an_eighth_and_what_costs_twice_as_much_adds_nothing():
    assert hypervolume([control], control, OBJECTIVES) == pytest.approx(1 / 8)
    assert hypervolume([control, record(0, 0.2, 0.99, 0.001)], control, OBJECTIVES) == pytest.approx(1 / 8)
    assert hypervolume([], control, OBJECTIVES) == 0


def test_a_control_without_cost_leaves_the_volume_defined():
    perfect = record(CONTROL, 0.1, 1.0, 0.02)
    assert 0 <= hypervolume([perfect, record(0, 0.05, 0.99, 0.01)], perfect, OBJECTIVES) <= 1


def test_a_control_that_costs_less_than_nothing_leaves_no_volume_and_the_other_figures():
    objectives = {"final/ece": "min", "final/margin": "max", "final/nll": "min"}

    def figures(margin, nll):
        metrics = {"final/ece": 0.02, "final/margin": margin, "final/nll": nll}
        return Standing([Record(CONTROL, Treatment(), "finished", metrics)], objectives, MEMBERS).figures()

    assert "front/hypervolume" in figures(1.0, 0.0), "costs of 0 are costs"
    for margin, nll in ((3.0, 0.1), (0.5, -0.1)):
        assert figures(margin, nll).keys() == {"front/size", "members_trained", "members_saved"}


def test_the_volume_never_falls_and_the_front_forgets_what_is_dominated():
    rng = np.random.default_rng(1)
    standing = Standing([control], OBJECTIVES, MEMBERS)
    volumes = []
    for number in range(30):
        gap, accuracy, ece = 0.1 * rng.uniform(0.5, 1.5), 1 - 0.1 * rng.uniform(0.5, 1.5), 0.02 * rng.uniform(0.5, 1.5)
        standing.add(record(number, gap, accuracy, ece))
        volumes.append(standing.figures()["front/hypervolume"])
    assert volumes == sorted(volumes)
    standing.add(record(99, 0.0, 1.0, 0.0))
    assert standing.figures()["front/size"] == 1
    assert standing.figures()["front/hypervolume"] == pytest.approx(1)


def test_members_are_counted_once_for_equal_treatments_and_the_controls_not_at_all():
    twin = Treatment(alpha=50.0)
    standing = Standing(
        [
            control,
            record(0, 0.1, 0.9, 0.02, treatment=Treatment(estimator="el2n")),  # with alpha 0 it is the control
            record(1, 0.1, 0.9, 0.02),
            record(2, 0, 0, 0, "stopped", members=1, treatment=twin),
            record(3, 0, 0, 0, "stopped", members=1, treatment=twin),
            record(4, 0, 0, 0, "failed", members=0),
        ],
        OBJECTIVES,
        MEMBERS,
    )
    assert (standing.trained, standing.saved) == (MEMBERS + 1, MEMBERS - 1)
    standing.add(record(5, 0.1, 0.9, 0.02, treatment=twin))
    assert (standing.trained, standing.saved) == (2 * MEMBERS, 0), "what was spared has been trained after all"


def test_of_a_treatment_that_was_tried_twice_the_most_members_count_whichever_ended_first():
    twin = Treatment(alpha=50.0)
    standing = Standing([control, record(0, 0.1, 0.9, 0.02, treatment=twin)], OBJECTIVES, MEMBERS)
    standing.add(record(1, 0, 0, 0, "stopped", members=1, treatment=twin))
    assert (standing.trained, standing.saved) == (MEMBERS, 0)


def test_stopped_failed_and_infeasible_trials_are_no_part_of_the_front():
    standing = Standing([control], OBJECTIVES, MEMBERS)
    standing.add(record(0, 0, 0, 0, "stopped", members=2))
    standing.add(record(1, 0, 0, 0, "failed", members=0))
    standing.add(record(2, 0.0, 1.0, 0.0, shortfall=0.1))
    assert standing.figures()["front/size"] == 1
    assert standing.figures()["front/hypervolume"] == pytest.approx(1 / 8)


def test_the_least_bit_of_negative_cost_is_found():
    for gap, accuracy, wrong in ((0.1, 1.001, ["final/accuracy"]), (-0.001, 0.9, ["final/recall_gap"]), (0, 1, [])):
        assert with_negative_costs(record(CONTROL, gap, accuracy, 0.02), OBJECTIVES) == wrong
