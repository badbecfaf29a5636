"""A space is checked at its corners, before anything is spent."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray import tune

from hardtune import Recipe, Treatment
from hardtune.errors import InputError
from hardtune.sweep import Sweep
from hardtune.sweep.space import MAX_CORNERS, at_an_end, corners, count, numbered, placed, proposer, without_effect


def test_corners_are_every_choice_at_both_ends_of_every_range():
    found = corners({"estimator": tune.choice(["aum", "el2n"]), "alpha": tune.uniform(0, 2)})
    assert set(found) == {Treatment(), Treatment(alpha=2), Treatment(alpha=2, estimator="el2n")}


def test_fixed_values_are_in_every_corner():
    found = corners({"policy": "shift", "alpha": tune.uniform(1, 2)})
    assert {treatment.policy for treatment in found} == {"shift"}


def conditional(trial):
    if trial.suggest_categorical("oversample", ["random", "holdout"]) == "holdout":
        return {"policy": "shift", "alpha": 1.0, "prune": "class", "prune_rate": 0.5}
    trial.suggest_float("alpha", 0, 2)
    return {"policy": "shift"}


@pytest.mark.parametrize(
    ("space", "treatment", "suggested"),
    [
        (
            {"policy": "shift", "alpha": tune.uniform(0, 2), "estimator": tune.choice(["aum", "el2n"])},
            Treatment(policy="shift", alpha=1.5, estimator="el2n"),
            {"alpha": 1.5, "estimator": "el2n"},
        ),
        ({"alpha": tune.randint(1, 4)}, Treatment(alpha=3), {"alpha": 3}),
        (conditional, Treatment(policy="shift", alpha=0.5), {"oversample": "random", "alpha": 0.5}),
        (
            conditional,
            Treatment(policy="shift", alpha=1, oversample="holdout", prune="class", prune_rate=0.5),
            {"oversample": "holdout"},
        ),
    ],
)
def test_a_treatment_of_a_space_has_a_place_there(space, treatment, suggested):
    assert placed(space, treatment) == suggested


@pytest.mark.parametrize(
    ("space", "treatment", "says"),
    [
        ({"alpha": tune.uniform(0, 2)}, Treatment(alpha=2.5), "the value 2.5 of the parameter 'alpha' is out of"),
        ({"alpha": tune.choice([1.0, 2.0])}, Treatment(alpha=1.5), "'1.5' not in (1.0, 2.0)"),
        ({"alpha": tune.randint(1, 4)}, Treatment(alpha=4), "the value 4"),
        ({"alpha": tune.uniform(0, 2)}, Treatment(alpha=1, policy="shift"), "with these values it has 'aum α=1 easi"),
        (conditional, Treatment(policy="shift", alpha=2.5), "the value 2.5 of the parameter 'alpha' is out of"),
        (conditional, Treatment(policy="shift", alpha=0.5, oversample="holdout"), "with these values it has 'aum pru"),
    ],
)
def test_one_that_a_space_does_not_have_is_told(space, treatment, says):
    missing = re.escape(f"first has '{treatment}', which the space does not have: ")
    with pytest.raises(InputError, match=f"(?i){missing}.*{re.escape(says)}"):
        placed(space, treatment)


@pytest.mark.parametrize(
    ("first", "says"),
    [
        ([Treatment()], "first has Treatments in it that change something, got 'control'"),
        (["aum"], "first has Treatments in it that change something, got 'aum'"),
        (Treatment(alpha=1), "first must be a list, got Treatment"),
    ],
)
def test_what_cannot_come_first_is_told(first, says):
    with pytest.raises(InputError, match=says):
        Sweep("s", "digits", Recipe(), {"alpha": tune.uniform(0, 2)}, first=first)
    with pytest.raises(InputError, match="first is for searches"):
        Sweep("s", "digits", Recipe(), [Treatment(alpha=1)], first=[Treatment(alpha=1)])


def test_a_huge_space_is_sampled():
    space = {
        "temperature": tune.choice([0.1 + i for i in range(30)]),
        "entropy_weight": tune.choice([0.1 + i for i in range(30)]),
        "prune_rate": tune.choice([0.01 * i for i in range(1, 31)]),
        "prune": "class",
        "alpha": tune.uniform(1, 2),
    }
    assert 1000 < len(corners(space)) <= MAX_CORNERS


def test_a_define_by_run_function_is_asked():
    def space(trial):
        if trial.suggest_categorical("entropy_target", ["constant", "shuffled"]) == "shuffled":
            trial.suggest_categorical("entropy_scale", ["raw", "rank"])
        return {"entropy_weight": 0.1}

    found = corners(space)
    assert {t.entropy_scale for t in found if t.entropy_target == "shuffled"} == {"raw", "rank"}
    assert {t.entropy_weight for t in found} == {0.1}


def test_a_define_by_run_function_need_not_return_anything():
    def space(trial):
        trial.suggest_float("entropy_weight", 0.1, 0.2)

    found = corners(space)
    assert len(found) == 256
    assert all(0.1 <= treatment.entropy_weight <= 0.2 for treatment in found)
    assert corners(space) == found  # what is checked before a sweep is the same every time


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"alhpa": tune.uniform(0, 1)}, "unknown field of a treatment 'alhpa': choose from alpha"),
        ({"alpha": tune.uniform(-1, 1)}, "alpha must be a finite number of at least 0, got -1"),
        (
            {"alpha": tune.grid_search([0, 1])},
            "alpha is a grid_search, .*: use tune.choice, or a list of Treatments, to try each",
        ),
        ({"alpha": tune.uniform(2.0, 0.0)}, "alpha is a range from 2 up to 0, which holds nothing"),
        ({"entropy_weight": tune.loguniform(0.4, 0.1)}, "entropy_weight is a range from 0.4 up to 0.1"),
        ({"alpha": tune.randint(1, 1)}, "alpha is a range from 1 up to 1"),
        ({"alpha": tune.randn()}, "alpha is a range without ends"),
        ({"alpha": tune.sample_from(lambda spec: 1)}, "alpha is a Function"),
        ({"alpha": 1.0}, "nothing to search"),
        (lambda trial: trial.suggest_flaot("alpha", 0, 1), "the space function fails: AttributeError: .*suggest_flaot"),
        ({"alpha": tune.choice([])}, "alpha is a choice among nothing"),
        ({"alpha": tune.qlograndint(1, 9, 2)}, "Optuna cannot search this space: ValueError: "),
    ],
)
def test_what_cannot_be_searched_is_said(space, says):
    with pytest.raises(InputError, match=says):
        corners(space)


@pytest.mark.parametrize(
    ("space", "treatments"),
    [
        ({"policy": "shift", "alpha": tune.choice([1, 2]), "oversample": tune.choice(["random", "smote"])}, 4),
        ({"alpha": tune.choice([0.0, 1.0, 2.0]), "estimator": tune.choice(["aum", "el2n"])}, 4),
        ({"entropy_weight": 0.1, "temperature": tune.quniform(0.5, 1.0, 0.25)}, 3),
        ({"alpha": tune.randint(0, 3)}, 2),
        ({"alpha": tune.qrandint(0, 4, 2)}, 2),
        ({"alpha": tune.choice([0.0])}, 0),
        ({"alpha": tune.choice([0.0, 1.0]), "entropy_weight": tune.uniform(0, 1)}, None),
        ({"alpha": tune.quniform(0, 1, 1e-9)}, None),
        ({name: tune.quniform(0, 1, 0.01) for name in ("alpha", "entropy_weight")}, None),
        ((Treatment(alpha=1.0),), None),
        (lambda trial: None, None),
    ],
)
def test_treatments_are_counted_where_there_are_few(space, treatments):
    assert count(space) == treatments


def test_a_corner_of_whole_numbers_is_one_that_may_be_proposed():
    assert set(corners({"alpha": tune.randint(1, 3)})) == {Treatment(alpha=1), Treatment(alpha=2)}


def test_steps_are_counted_at_their_values():
    assert count({"prune": "class", "prune_rate": tune.quniform(0, 0.75, 0.25)}) == 3


def test_optuna_is_given_a_list_as_a_function_of_the_trial_and_all_else_as_it_is():
    treatments = [Treatment(alpha=1.0), Treatment(loss="focal")]
    ask = proposer(treatments)
    assert [Treatment(**ask(SimpleNamespace(number=number))) for number in range(2)] == treatments
    space = {"alpha": tune.uniform(0, 1)}
    assert proposer(space) == space
    assert proposer(ask) is ask


def test_a_trials_number_is_no_field_of_its_treatment_and_its_config_stays_as_tune_made_it():
    config = {"alpha": 1.0, "number": 3}
    assert numbered(config) == (3, Treatment(alpha=1))
    assert config == {"alpha": 1.0, "number": 3}, "callbacks read it again"


def test_a_range_of_one_value_holds_it():
    assert [treatment.alpha for treatment in corners({"alpha": tune.uniform(0.5, 0.5)})] == [0.5]
    assert [treatment.alpha for treatment in corners({"alpha": tune.randint(3, 4)})] == [3]


def test_a_field_that_is_searched_in_vain_is_told():
    assert without_effect({"entropy_weight": tune.uniform(0.1, 1), "estimator": tune.choice(["aum", "el2n"])}) == [
        "estimator"
    ]
    assert without_effect({"alpha": tune.uniform(0, 1), "estimator": tune.choice(["aum", "el2n"])}) == []
    assert without_effect({"alpha": tune.uniform(0, 1), "policy": tune.choice(["shift"])}) == []
    assert without_effect([Treatment(alpha=1.0)]) == []
    assert without_effect(lambda trial: {"alpha": 1.0}) == []


@pytest.mark.parametrize(
    ("searched", "best", "told"),
    [
        ({"entropy_weight": tune.uniform(0, 0.5)}, {"entropy_weight": 0.498}, "0 to 0.5"),
        ({"entropy_weight": tune.uniform(0, 0.5)}, {"entropy_weight": 0.47}, ""),
        ({"entropy_weight": tune.uniform(0, 0.5)}, {"entropy_weight": 0.001}, ""),  # there is none below 0
        ({"entropy_weight": tune.uniform(0.1, 0.5)}, {"entropy_weight": 0.11}, "0.1 to 0.5"),
        ({"entropy_weight": tune.loguniform(0.001, 1)}, {"entropy_weight": 0.0013}, "0.001 to 1"),
        (
            {"entropy_weight": tune.loguniform(0.001, 1)},
            {"entropy_weight": 0.04},
            "",
        ),  # far off, by the logarithm
        ({"entropy_weight": tune.qloguniform(0.01, 1, 0.01)}, {"entropy_weight": 0.03}, ""),
        ({"entropy_weight": tune.loguniform(0.001, 1)}, {}, ""),  # the control
        ({"entropy_weight": tune.loguniform(0.3, 0.3)}, {"entropy_weight": 0.3}, ""),
        ({"temperature": tune.quniform(0.5, 1, 0.25)}, {"temperature": 1.0, "entropy_weight": 0.3}, "0.5 to 1"),
        ({"temperature": tune.uniform(0.5, 1)}, {"temperature": 1.0, "alpha": 1.0}, ""),  # it has no effect
        ({"alpha": tune.randint(1, 4)}, {"alpha": 3}, "1 to 3"),
        ({"balance": tune.uniform(0, 1)}, {"balance": 0.99}, ""),
        ({"balance": tune.uniform(0, 0.5)}, {"balance": 0.49}, "0 to 0.5"),
        ({"prune_rate": tune.uniform(0, 0.6)}, {"prune": "class", "prune_rate": 0.01}, ""),
        ({"alpha": tune.choice([0.5, 1.0])}, {"alpha": 1.0}, ""),
        (lambda trial: {"alpha": 1.0}, {"alpha": 1.0}, ""),
    ],
)
def test_a_best_value_at_the_end_of_its_range_is_told_where_it_could_lie_beyond(searched, best, told):
    said = at_an_end(searched, Treatment(**best))
    assert [f"is near an end of its range ({told})" in sentence for sentence in said] == [True] * bool(told)


def test_a_wrong_name_is_told_even_where_it_would_not_be_used():
    with pytest.raises(InputError, match="unknown estimator 'luck': choose from"):
        corners({"entropy_weight": tune.uniform(0.1, 1), "estimator": "luck"})


def test_a_smoke_run_tries_the_policies_that_a_space_has_but_for_the_papers():
    def tried(space):
        small = Sweep("small", "digits", Recipe(), space).smoke()
        return {treatment.policy for treatment in corners(small.space) if treatment.alpha > 0}

    alpha = tune.uniform(0.5, 1.0)
    assert tried({"alpha": alpha}) == tried({"alpha": alpha, "policy": "paper"}) == {"shift"}
    assert tried({"alpha": alpha, "policy": "reversed"}) == {"reversed"}
    assert tried({"alpha": 1.0, "policy": tune.choice(["paper", "reversed", "shift"])}) == {"reversed", "shift"}

    first = Sweep("small", "digits", Recipe(), {"alpha": alpha}, first=[Treatment(alpha=0.7)]).smoke()
    assert placed(first.space, first.first[0]) == {"alpha": 0.7}

    def suggested(trial):
        trial.suggest_categorical("policy", ["paper", "reversed"])
        return {"alpha": 1.0}

    assert tried(suggested) == {"shift", "reversed"}
    assert tried(lambda trial: {"alpha": trial.suggest_float("alpha", 0.5, 1.0), "policy": "reversed"}) == {"reversed"}
    assert tried(lambda trial: {"alpha": trial.suggest_float("alpha", 0.5, 1.0)}) == {"shift"}


def test_paths_may_be_paths():
    named = Sweep("pets", Path("pets"), Recipe(), {"alpha": tune.uniform(0, 1)}, pool=Path("pool"), ood=Path("other"))
    assert (named.data, named.pool, named.ood) == ("pets", "pool", "other")


def test_numbers_of_numpy_are_pythons():
    numpys = {"imbalance": np.int64(4), "label_noise": np.float32(0.5), "members_at_once": np.int64(2)}
    sweep = Sweep("any", "digits", Recipe(), [Treatment(alpha=1.0)], **numpys)
    assert json.dumps([sweep.imbalance, sweep.label_noise, sweep.members_at_once]) == "[4.0, 0.5, 2]"
