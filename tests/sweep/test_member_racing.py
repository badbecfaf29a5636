"""Trials are stopped after a member once their others are not worth their price, and every book says so."""

import json
from collections import Counter

import numpy as np
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from hardtune import Recipe, Treatment
from hardtune.errors import InputError
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.sweep import Sweep, parser
from hardtune.sweep.cli import configured
from hardtune.sweep.racing import Racing
from hardtune.sweep.search import FINISHED, SHORTFALL

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}
MEMBERS = 4
GOOD, BAD = (0.1, 0.9), (0.5, 0.5)


def figures(level, members=MEMBERS, seed=0):
    """Of a trial's members: what the seeds add is the same for every trial, the rest is its own."""
    shared = np.random.default_rng(99).normal(0, 0.02, (MEMBERS, 2))
    own = np.random.default_rng(seed).normal(0, 0.01, (MEMBERS, 2))
    return (np.array(level) + shared + own)[:members]


def record(number, level, state="finished", members=MEMBERS, treatment=None, **fields):
    columns = figures(level, members, seed=number + 1)
    treatment = treatment or (Treatment() if number == CONTROL else Treatment(alpha=1.0 + number))
    lists = {name: list(column) for name, column in zip(OBJECTIVES, columns.T, strict=True)}
    means = {name: float(np.mean(values)) for name, values in lists.items()} if state == "finished" else {}
    return Record(number, treatment, state, means, members=lists, **fields)


@pytest.fixture
def race(tmp_path):
    """Makes a scheduler that knows these records."""

    def make(*former):
        for one in former:
            records.write(tmp_path, one)
        return Racing(0.01, MEMBERS, OBJECTIVES, tmp_path)

    return make


def trial(number, **treatment):
    return Trial("trainable", config={"number": number, **(treatment or {"alpha": 1.0 + number})}, stub=True)


def report(scheduler, number, level, member, *, trained=True, **treatment):
    values = figures(level, seed=number + 1)[member - 1]
    result = {"members/recall_gap": values[0], "members/accuracy": values[1]}
    progress = {FINISHED: False, "members": member, "trained": trained}
    return scheduler.on_trial_result(None, trial(number, **treatment), {**progress, **result})


def finish(scheduler, number, level, shortfall=0.0):
    for member in range(1, MEMBERS + 1):
        report(scheduler, number, level, member)
    means = dict(zip(OBJECTIVES, figures(level, seed=number + 1).mean(axis=0), strict=True))
    return scheduler.on_trial_result(None, trial(number), {FINISHED: True, SHORTFALL: shortfall, **means})


KNOWN = (record(CONTROL, GOOD), record(0, GOOD), record(1, GOOD))


def test_a_dominated_trial_is_stopped_and_its_record_says_when_and_why(race, tmp_path):
    assert report(race(*KNOWN), 7, BAD, 1) == TrialScheduler.STOP
    stopped = records.read(tmp_path, 7)
    assert (stopped.state, stopped.treatment) == ("stopped", Treatment(alpha=8.0))
    assert stopped.reason == (
        "stopped after 1 of 4 members: the others are expected to raise the front's hypervolume by 0.00%, "
        "and 0.75% is their price"
    )
    assert stopped.members["final/accuracy"] == [figures(BAD, seed=8)[0, 1]]


def test_members_that_are_in_the_store_stop_nobody_since_the_next_may_be_there_too(race, tmp_path):
    scheduler = race(*KNOWN)
    for member in (1, 2):
        assert report(scheduler, 7, BAD, member, trained=False) == TrialScheduler.CONTINUE
    assert report(scheduler, 7, BAD, 3) == TrialScheduler.STOP
    assert records.read(tmp_path, 7).reason.startswith("stopped after 3 of 4 members")


def test_nobody_is_stopped_who_is_ahead_in_one_objective_or_has_all_its_members(race):
    scheduler = race(*KNOWN)
    for member in range(1, MEMBERS + 1):
        assert report(scheduler, 7, (0.15, 0.99), member) == TrialScheduler.CONTINUE
    assert finish(race(*KNOWN[:1]), 8, BAD) == TrialScheduler.CONTINUE


def test_trials_that_finish_are_rivals_from_then_on_unless_the_sweep_forbids_them(race):
    for shortfall, decision in ((0.1, TrialScheduler.CONTINUE), (0.0, TrialScheduler.STOP)):
        scheduler = race(record(CONTROL, BAD), record(0, BAD))
        assert report(scheduler, 7, BAD, 1) == TrialScheduler.CONTINUE
        finish(scheduler, 1, GOOD, shortfall)
        finish(scheduler, 2, BAD)
        assert report(scheduler, 7, BAD, 2) == decision


def test_a_resumed_sweep_stops_again_what_was_stopped_and_learns_from_it(race, tmp_path):
    before = record(7, GOOD, "stopped", members=2, reason="its own")
    assert report(race(*KNOWN, before), 7, GOOD, 1) == TrialScheduler.STOP
    assert records.read(tmp_path, 7).reason == "its own"


def test_the_members_of_an_equal_treatment_count_and_one_that_has_them_all_costs_nothing_and_goes_on(race, tmp_path):
    twin = Treatment(alpha=9.0)
    stopped = [record(number, BAD, "stopped", members, Treatment(alpha=5.5)) for number, members in ((4, 2), (5, 1))]
    scheduler = race(*KNOWN, record(3, BAD, treatment=twin), *stopped)
    assert report(scheduler, 7, BAD, 1, alpha=9.0) == TrialScheduler.CONTINUE
    assert report(scheduler, 8, BAD, 1, trained=False, alpha=5.5) == TrialScheduler.STOP
    assert records.read(tmp_path, 8).reason.startswith("stopped after 2 of 4 members")
    assert report(scheduler, 9, BAD, 1, alpha=0.0, estimator="el2n") == TrialScheduler.CONTINUE, "it is the control"


def test_a_trial_that_starts_again_says_its_members_twice_and_they_count_once(race, tmp_path):
    scheduler = race(record(CONTROL, BAD), record(0, BAD))
    for member in (1, 2, 1, 2):
        assert report(scheduler, 7, BAD, member) == TrialScheduler.CONTINUE
    finish(scheduler, 1, GOOD)
    assert report(scheduler, 7, BAD, 3) == TrialScheduler.STOP
    assert len(records.read(tmp_path, 7).members["final/accuracy"]) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"racing": 0.5}, r"racing is the share of the front's hypervolume .* to 0.1 \(say 0.01\), got 0.5"),
        ({"racing": -0.01}, "got -0.01"),
        ({"racing": True}, "got True"),
        ({"racing": float("nan")}, "got nan"),
        ({"racing": "high"}, "got 'high'"),
        ({"objectives": {"final/ece": "min", "ensemble/nll": "min"}}, "and ensemble/nll is not"),
        ({"space": [Treatment(alpha=1.0)]}, "racing is for searches"),
        ({"recipe": Recipe(members=1)}, "racing needs recipe.members to be at least 2, got 1"),
    ],
)
def test_a_race_that_cannot_be_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        Sweep(**{"name": "s", "data": "digits", "recipe": Recipe(), "space": {"alpha": tune.uniform(0, 1)}}
              | {"racing": 0.01} | changes)  # fmt: skip


@pytest.mark.parametrize(("level", "name"), [((0.1, 1.3), "accuracy is 1.3"), ((-0.2, 0.9), "recall_gap is -0.2")])
def test_a_control_that_costs_less_than_nothing_is_no_unit_to_race_by(race, level, name):
    """Every trial would be stopped, or none: all depends on what is divided by."""
    with pytest.raises(InputError, match=f"the control's final/{name}.*: race for figures of at least 0"):
        race(record(CONTROL, level))


def test_a_control_without_cost_can_be_raced(race):
    perfect = Record(CONTROL, Treatment(), "finished", {"final/recall_gap": 0.0, "final/accuracy": 1.0})
    assert report(race(perfect, record(0, GOOD), record(1, GOOD)), 7, BAD, 1) == TrialScheduler.STOP


def test_a_smoke_run_races_only_if_asked():
    sweep = Sweep("s", "digits", Recipe(), {"alpha": tune.uniform(0, 1)}, racing=0.02)
    assert sweep.smoke().racing == 0
    assert configured(sweep, parser("").parse_args(["--smoke", "--racing", "0.01"])).racing == 0.01
    assert configured(sweep, parser("").parse_args(["--racing", "0"])).racing == 0
    assert configured(sweep, parser("").parse_args([])).racing == 0.02


RACED = '''
"""From the third trial on, nearly everything is pruned: such trials add nothing, and one member shows it."""
import warnings

from hardtune import Recipe
from hardtune.errors import HardtuneWarning
from hardtune.sweep import Sweep, main
from hardtune.training.models import MODELS

@MODELS.register("wary")
def wary(channels, num_classes, image_size):
    warnings.warn("training goes on without any doubt", HardtuneWarning)
    return MODELS["small_cnn"](channels, num_classes, image_size)

def space(trial):
    trial.suggest_float("entropy_weight", 0.01, 0.1)
    return {"entropy_target": "constant"} | ({"prune": "class", "prune_rate": 0.97} if trial.number > 1 else {})

sweep = Sweep(
    "raced", "digits",
    Recipe(model="wary", epochs=3, batch_size=64, schedule="linear", flip=False, crop_padding=1, members=3,
           scoring_members=3, encoder="pixels", validation=0.3),
    space, trials=5, racing=0.02,
)
if __name__ == "__main__":
    main(sweep, doc=__doc__)
'''


@pytest.mark.slow
def test_a_stopped_trial_trains_no_further_and_is_not_on_the_front_nor_handed_out_again(script, tmp_path):
    (tmp_path / "raced.py").write_text(RACED)
    out = script.run(str(tmp_path / "raced.py"), "--cpus-per-trial", "1", "--concurrent", "1")
    assert "3 of 5 trials were stopped, which saved 6 of 15 networks" in out
    trained = 3 + 2 * 3 + 3 * 1  # the control, two whole trials, one member of each of the others
    assert len(list(script.storage.glob("store/member/*"))) == trained, "nobody went on in a worker that was reused"

    out = script.run(str(tmp_path / "raced.py"), "--concurrent", "1", "--resume", "--trials", "6")
    assert "4 of 6 trials were stopped, which saved 8 of 18 networks" in out
    assert len(list(script.storage.glob("store/member/*"))) == trained + 1

    found = {one.number: one for one in records.read_all(script.sweeps()[0] / "trials")}
    assert [found[n].state for n in range(6)] == ["finished"] * 2 + ["stopped"] * 4
    assert {len(found[n].members["final/ece"]) for n in range(2, 6)} == {1}
    assert {one.warning for one in found.values() if not one.is_control} == {"training goes on without any doubt"}
    front = [row["trial"] for row in json.loads((script.sweeps()[0] / "pareto.json").read_text()) if row["pareto"]]
    assert not {2, 3, 4, 5} & set(front)
    assert Counter(one.state for one in script.study().trials) == {TrialState.COMPLETE: 2, TrialState.PRUNED: 4}

    client, runs = script.runs("raced")
    assert isinstance(client, MlflowClient)
    by_trial = {run.data.tags["hardtune.trial"]: run for run in runs}
    assert len(by_trial) == len(runs) == 8
    assert {by_trial[str(n)].info.status for n in range(2, 6)} == {"KILLED"}
    assert by_trial["2"].data.tags["reason"] == found[2].reason
    assert by_trial["2"].data.tags["warning"] == found[2].warning
    parent = by_trial["sweep"]
    assert parent.data.params["racing"] == "0.02"
    for name, last in (("members_saved", 8), ("members_trained", 10), ("front/size", len(front))):
        history = client.get_metric_history(parent.info.run_id, name)
        assert [metric.step for metric in history] == [1, 2, 3, 4, 5, 6], "once each, also after the resume"
        assert history[-1].value == last
    volumes = [metric.value for metric in client.get_metric_history(parent.info.run_id, "front/hypervolume")]
    assert volumes == sorted(volumes)
    assert volumes[0] > 0


def test_with_the_control_alone_nothing_is_known_of_noise_and_nobody_is_stopped(race):
    scheduler = race(record(CONTROL, GOOD))
    for member in range(1, MEMBERS + 1):
        assert report(scheduler, 7, BAD, member) == TrialScheduler.CONTINUE


def test_figures_that_are_no_numbers_stop_nobody_and_are_no_rivals(race):
    scheduler = race(*KNOWN)
    assert report(scheduler, 7, (np.nan, 0.5), 1) == TrialScheduler.CONTINUE
    ended = {FINISHED: True, SHORTFALL: 0.0, "final/recall_gap": 0.0, "final/accuracy": np.nan}
    assert scheduler.on_trial_result(None, trial(8), ended) == TrialScheduler.CONTINUE
    assert report(scheduler, 9, BAD, 1) == TrialScheduler.STOP


def test_a_twin_of_a_stopped_trial_stops_however_its_treatment_is_written(race, tmp_path):
    odd = {"alpha": 5.5, "temperature": 0.2}  # without entropy the temperature does not matter
    scheduler = race(*KNOWN, record(4, BAD, "stopped", 2, Treatment(**odd)))
    assert report(scheduler, 8, BAD, 1, trained=False, alpha=5.5) == TrialScheduler.STOP
    assert records.read(tmp_path, 8).reason.startswith("stopped after 2 of 4 members"), "its members count"
    assert report(scheduler, 9, BAD, 1, alpha=6.5, temperature=0.2) == TrialScheduler.STOP
    assert report(scheduler, 10, BAD, 1, trained=False, alpha=6.5) == TrialScheduler.STOP
