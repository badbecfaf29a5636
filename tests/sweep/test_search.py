"""Optuna is told the truth about every trial, also by a process that was killed."""

import math
import pickle

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from hardtune.evaluation.metric import METRICS
from hardtune.report.metric_names import UNSEEN, always_measured, direction
from hardtune.sweep.search import FAILED, FINISHED, SHORTFALL, StudySearch, _sampler_seed
from hardtune.sweep.space import corners, count, numbered, placed
from hardtune.treatment import Treatment

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}
SPACE = {"alpha": tune.uniform(0, 2), "estimator": tune.choice(["aum", "el2n"]), "policy": "shift"}
GOOD = {FINISHED: True, "final/recall_gap": 0.1, "final/accuracy": 0.9}


def search(tmp_path, space=SPACE, objectives=OBJECTIVES, **options):
    return StudySearch(
        space,
        objectives,
        study_name="test",
        storage=optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db"),
        seed=0,
        **options,
    )


def state(searcher, number):
    return searcher.study.trials[number].state


def test_a_finished_trial_is_complete_with_its_figures(tmp_path):
    searcher = search(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", GOOD)
    assert state(searcher, 0) == TrialState.COMPLETE
    assert searcher.study.trials[0].values == [0.1, 0.9]


@pytest.mark.parametrize("define_by_run", [False, True])
def test_what_comes_first_is_tried_first_also_after_a_kill_and_then_the_search_goes_on(tmp_path, define_by_run):
    space = SPACE
    if define_by_run:

        def space(trial):
            trial.suggest_float("alpha", 0, 2)
            trial.suggest_categorical("estimator", ["aum", "el2n"])
            return {"policy": "shift"}

    mine = [Treatment(alpha=alpha, estimator="el2n", policy="shift") for alpha in (1.5, 0.5)]
    first = [placed(space, treatment) for treatment in mine]
    assert numbered(search(tmp_path, space, first=first).suggest("a")) == (0, mine[0])
    resumed = search(tmp_path, space, first=first, adopt=True)
    found = [numbered(resumed.suggest(name)) for name in "abcd"]
    assert found[:2] == [*enumerate(mine)]
    assert len({treatment for _, treatment in found}) == 4
    resumed.on_trial_complete("a", GOOD)
    assert resumed.study.trials[0].params == {"alpha": 1.5, "estimator": "el2n"}
    assert state(resumed, 0) == TrialState.COMPLETE


def test_a_seed_may_be_as_large_as_a_recipes(tmp_path):
    proposed = []
    for name, seed in (("one", 2**70), ("other", 2**70 + 1), ("again", 2**70)):
        storage = optuna.storages.InMemoryStorage()
        proposed.append(StudySearch(SPACE, OBJECTIVES, study_name=name, storage=storage, seed=seed).suggest("a"))
    assert proposed[0] == proposed[2] != proposed[1]


def test_a_study_keeps_the_order_of_its_objectives_when_the_script_has_another(tmp_path):
    search(tmp_path)
    resumed = search(tmp_path, objectives=dict(reversed(OBJECTIVES.items())))
    resumed.suggest("a")
    resumed.on_trial_complete("a", GOOD)
    assert resumed.study.directions == [StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE]
    assert resumed.study.trials[0].values == [0.1, 0.9]


def test_what_a_function_returns_wins_over_what_it_suggested_before_the_search_and_in_it(tmp_path):
    def space(trial):
        trial.suggest_float("alpha", 1.0, 2.0)
        trial.suggest_categorical("policy", ["paper", "margin"])
        return {"policy": "shift"}

    assert {treatment.policy for treatment in corners(space)} == {"shift"}
    assert search(tmp_path, space=space).suggest("a")["policy"] == "shift"


def test_a_stopped_trial_is_pruned_where_rays_own_search_calls_it_complete(tmp_path):
    stopped = {FINISHED: False, "final/recall_gap": 0.0, "final/accuracy": 1.0}
    searcher = search(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", stopped)
    assert state(searcher, 0) == TrialState.PRUNED

    stock = OptunaSearch({"alpha": tune.uniform(0, 2)}, metric=list(OBJECTIVES), mode=["min", "max"])
    stock.suggest("a")
    stock.on_trial_complete("a", stopped)
    assert stock._ot_study.trials[0].state == TrialState.COMPLETE


@pytest.mark.parametrize("poison", [math.nan, math.inf, None])
def test_a_figure_that_is_not_finite_fails_the_trial_where_rays_own_leaves_it_running(tmp_path, poison):
    result = {FINISHED: True, "final/recall_gap": poison, "final/accuracy": 0.9}
    result = {name: value for name, value in result.items() if value is not None}
    searcher = search(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result)
    assert state(searcher, 0) == TrialState.FAIL
    searcher.suggest("b")
    searcher.on_trial_complete("b", GOOD)
    assert [trial.number for trial in searcher.study.best_trials] == [1]


def test_a_failed_trial_is_fail(tmp_path):
    searcher = search(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {FAILED: "it diverged", FINISHED: False})
    assert state(searcher, 0) == TrialState.FAIL


def test_a_trial_whose_worker_died_is_handed_out_again_until_it_is_no_accident(tmp_path):
    searcher = search(tmp_path)
    point = searcher.suggest("a")
    for tune_trial, again in (("a", "b"), ("b", "c")):
        searcher.on_trial_complete(tune_trial, None, error=True)
        assert searcher.waits_again(0)
        assert searcher.count_open() == 0
        assert searcher.suggest(again) == point
        assert not searcher.waits_again(0)
        assert searcher.count_open() == 1
    searcher.on_trial_complete("c", None, error=True)
    assert not searcher.waits_again(0)
    assert (searcher.count_done(), searcher.count_open()) == (1, 0)
    assert searcher.suggest("d")["number"] == 1


def test_a_resumed_sweep_tries_again_what_ended_in_errors_and_not_what_failed_for_a_reason_of_its_own(tmp_path):
    broken = search(tmp_path)
    failed, point = broken.suggest("a"), broken.suggest("b")
    broken.on_trial_complete("a", {FAILED: True, FINISHED: False})
    for tune_trial, again in (("b", "c"), ("c", "d"), ("d", None)):
        broken.on_trial_complete(tune_trial, None, error=True)
        assert again is None or broken.suggest(again) == point
    assert broken.count_done() == 2

    mended = search(tmp_path, adopt=True)
    assert mended.count_done() == 1
    assert mended.ended().keys() == {failed["number"]}
    assert mended.suggest("x") == point
    mended.on_trial_complete("x", GOOD)
    assert state(mended, point["number"]) == TrialState.COMPLETE


def test_a_trial_that_gets_on_between_accidents_outlives_any_number_of_them(tmp_path):
    searcher = search(tmp_path)
    for name in "abcdefgh":
        assert searcher.suggest(name)["number"] == 0
        searcher.on_trial_result(name, {FINISHED: False, "members": 1, "trained": name in "bdfh"})
        searcher.on_trial_complete(name, None, error=True)
    searcher.suggest("z")
    searcher.on_trial_complete("z", GOOD)
    assert state(searcher, 0) == TrialState.COMPLETE


@pytest.mark.parametrize("define_by_run", [False, True])
def test_what_trials_that_ended_had_tried_is_known_to_a_later_process(tmp_path, define_by_run):
    def function(trial):
        trial.suggest_float("alpha", 0, 2)
        return {"policy": "shift", "estimator": "aum"}

    space = function if define_by_run else SPACE
    killed = search(tmp_path, space)
    points = [killed.suggest(name) for name in "abc"]
    killed.on_trial_complete("a", {FAILED: True})
    killed.on_trial_complete("b", {FINISHED: False})
    killed.on_trial_complete("c", GOOD)
    assert [point.pop("number") for point in points] == [0, 1, 2]
    ended = {0: (points[0], "FAIL"), 1: (points[1], "PRUNED"), 2: (points[2], "COMPLETE")}
    assert search(tmp_path, space, adopt=True).ended() == ended


FEW = {"estimator": tune.choice(["aum", "el2n"]), "alpha": tune.choice([0.0, 1.0, 2.0]), "policy": "shift"}
"""Six points of five treatments: at alpha 0 there is nothing to estimate, and it is the control."""


def few(trial):
    """The same as a function, with a condition."""
    alpha = trial.suggest_categorical("alpha", [0.0, 1.0, 2.0])
    if alpha:
        trial.suggest_categorical("estimator", ["aum", "el2n"])
    return {"policy": "shift"}


def carry_out(searcher, name):
    point = searcher.suggest(name)
    number = point.pop("number")
    figures = {"final/recall_gap": 0.1 - point["alpha"] / 100, "final/accuracy": 0.9 - point["alpha"] / 200}
    searcher.on_trial_complete(name, {FINISHED: True, **figures})
    return number, Treatment(**point).canonical()


@pytest.mark.parametrize("space", [FEW, few], ids=["choices", "function"])
def test_no_treatment_is_tried_twice_nor_the_control_until_there_is_no_other(tmp_path, space):
    searcher = search(tmp_path, space)
    first = [carry_out(searcher, name) for name in "ab"]
    resumed = search(tmp_path, space, adopt=True)
    tried = [*first, *(carry_out(resumed, name) for name in "cdef")]
    assert [number for number, _ in tried] == list(range(6)), "what was not proposed takes no number"
    treatments = [treatment for _, treatment in tried[:4]]
    assert len({Treatment(), *treatments}) == 5 == 1 + count(FEW)
    assert {Treatment(), *treatments} >= {treatment for _, treatment in tried[4:]}
    assert {state(resumed, number) for number in range(6)} == {TrialState.COMPLETE}


def test_what_is_running_is_not_proposed_a_second_time(tmp_path):
    searcher = search(tmp_path, FEW)
    points = [searcher.suggest(name) for name in "abcd"]
    assert len({(point["estimator"], point["alpha"]) for point in points}) == 4


def test_as_many_treatments_are_tried_as_there_are_trials_where_tpe_alone_comes_back_to_every_third():
    space = {
        "estimator": tune.choice(["aum", "el2n", "forgetting"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.choice([0.0, 1.0, 3.0, 5.0]),
        "entropy_weight": tune.choice([0.0, 0.1, 0.2, 0.3]),
    }
    searcher = StudySearch(space, OBJECTIVES, study_name="grid", storage=optuna.storages.InMemoryStorage(), seed=0)
    tried = [carry_out(searcher, str(number)) for number in range(48)]
    assert [number for number, _ in tried] == list(range(48))
    assert len({Treatment(), *(treatment for _, treatment in tried)}) == 49
    assert searcher.proposed == 48
    assert 16 <= searcher.redrawn < 48


def test_ranges_are_searched_as_optuna_itself_searches_them(tmp_path):
    """A treatment out of a range is never drawn twice, so nothing is drawn but what TPE draws, seeded for the trial."""
    searcher = search(tmp_path)
    study = optuna.create_study(directions=["minimize", "maximize"])
    for number in range(20):
        study.sampler = optuna.samplers.TPESampler(seed=_sampler_seed(0, number))
        trial = study.ask()
        mine = searcher.suggest(str(number))
        assert mine["alpha"] == trial.suggest_float("alpha", 0, 2)
        assert mine["estimator"] == trial.suggest_categorical("estimator", ["aum", "el2n"])
        study.tell(trial, (mine["alpha"], mine["alpha"] ** 2))
        searcher.on_trial_complete(
            str(number),
            {FINISHED: True, "final/recall_gap": mine["alpha"], "final/accuracy": mine["alpha"] ** 2},
        )


def test_fixed_values_and_the_number_reach_the_trial(tmp_path):
    point = search(tmp_path).suggest("a")
    assert point["policy"] == "shift"
    assert point["number"] == 0
    assert set(point) == {"alpha", "estimator", "policy", "number"}


@pytest.mark.parametrize("define_by_run", [False, True])
def test_what_a_killed_process_left_running_is_handed_out_again_first(tmp_path, define_by_run):
    def conditional(trial):
        if trial.suggest_categorical("estimator", ["aum", "el2n"]) == "aum":
            trial.suggest_float("alpha", 0, 2)
        return {"policy": "shift"}

    space = conditional if define_by_run else SPACE
    killed = search(tmp_path, space)
    left = [killed.suggest(name) for name in "abc"]
    killed.on_trial_complete("b", GOOD)

    resumed = search(tmp_path, space, adopt=True)
    again = [resumed.suggest(name) for name in "xyz"]
    assert again[:2] == [left[0], left[2]]
    assert again[2]["number"] == 3
    for name in "xyz":
        resumed.on_trial_complete(name, GOOD)
    assert {trial.state for trial in resumed.study.trials} == {TrialState.COMPLETE}
    assert resumed.count_done() == 4


def test_a_resumed_sweep_proposes_what_it_did_not_yet_propose(tmp_path):
    """Until ten trials are complete the sampler draws at random, from its seed."""
    proposed = []
    for part in range(3):
        searcher = search(tmp_path, adopt=part > 0)
        for name in "ab":
            proposed.append(searcher.suggest(name)["alpha"])
            searcher.on_trial_complete(name, GOOD)
    assert len(set(proposed)) == len(proposed)


@pytest.mark.parametrize(
    "space",
    [SPACE, {"estimator": tune.choice(["aum", "el2n", "rmd"]), "alpha": tune.choice([1.0, 1.5, 2.0, 2.5, 3.0])}],
)
def test_a_sweep_proposes_the_same_however_often_it_is_interrupted(tmp_path, space):
    def proposed(folder, parts):
        folder.mkdir()
        points = []
        for part in parts:
            searcher = search(folder, space, adopt=True)
            for number in range(part):
                point = searcher.suggest(str(number))
                points.append(point)
                figures = {"final/recall_gap": point["alpha"] - 1, "final/accuracy": point["alpha"] / 9}
                searcher.on_trial_complete(str(number), {FINISHED: True, **figures})
        return points

    whole = proposed(tmp_path / "one", [15])  # of which TPE draws the last five by what it was told
    assert proposed(tmp_path / "other", [1, 2, 9, 3]) == whole


def test_a_space_may_be_a_local_function_that_cannot_be_pickled(tmp_path):
    """Tune saves its search once a minute."""
    search(tmp_path, lambda trial: {"alpha": trial.suggest_float("alpha", 0, 2)}).save_to_dir(str(tmp_path))


def test_what_tune_pickles_of_the_search_holds_no_database(tmp_path):
    """Its URL may have a password."""
    assert str(tmp_path).encode() not in pickle.dumps(search(tmp_path))


def test_a_kill_between_two_parameters_of_a_trial_is_mended(tmp_path):
    killed = search(tmp_path)
    half = killed.study.ask()
    half.suggest_float("alpha", 0, 2)
    resumed = search(tmp_path, adopt=True)
    point = resumed.suggest("a")
    assert point["alpha"] == half.params["alpha"]
    assert point["estimator"] in ("aum", "el2n")


def test_telling_twice_changes_nothing(tmp_path):
    searcher = search(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", GOOD)
    searcher.on_trial_complete("a", GOOD)
    searcher.on_trial_complete("a", None, error=True)
    assert state(searcher, 0) == TrialState.COMPLETE
    assert not searcher.waits_again(0)
    assert searcher.suggest("b")["number"] == 1


def test_trials_that_fall_short_of_the_control_are_infeasible_to_the_sampler(tmp_path):
    searcher = search(tmp_path, objectives={"ensemble/ece": "min"})
    for number, (ece, short) in enumerate([(0.01, 0.02), (0.05, -0.01)]):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), {FINISHED: True, "ensemble/ece": ece, SHORTFALL: short})
    assert searcher.study.best_trial.number == 1


def test_what_must_be_no_worse_than_the_controls_is_judged_by_its_own_metric():
    for name in always_measured():
        group, _, figure = name.partition("/")
        if not name.startswith(UNSEEN) and figure in METRICS:
            assert direction(name, {}) == ("min" if group == "final_std" else METRICS[figure].better), name
    assert direction("ensemble/recall_hard_easy", {}) == "min"
    assert direction("final_std/accuracy", {"final_std/accuracy": "max"}) == "max"
