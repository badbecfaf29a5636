"""What the scores show to be impossible is said before the first trial, and stops only what can have no result."""

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
from ray import tune
from rich.console import Console

from hardtune import Recipe, Treatment, load
from hardtune.checks import preview_plan
from hardtune.errors import InputError
from hardtune.evaluation import evaluate_members
from hardtune.member import Prepared
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import Kept
from hardtune.sweep import Sweep, notes, trials
from hardtune.sweep.definition import THREE_OBJECTIVES, Place
from hardtune.sweep.live import View
from hardtune.sweep.notes import Feasible, say_if_hardness_may_be_chance, say_what_is_infeasible, say_what_was_redrawn
from hardtune.sweep.search import FAILED, FINISHED, MAX_REFUSED, StudySearch
from hardtune.sweep.space import corners

SPLIT = load("digits").hold_out(0.3, 0)
PREPARED = Prepared(SPLIT, {"aum": SPLIT.train.labels.astype(np.float32) - 4.5})
"""Of half of the classes the mean margin is below 0, which the paper's ratio cannot express."""


def said(space, **place):
    console = Console(file=io.StringIO(), width=400)
    sweep = Sweep("s", "digits", Recipe(), space)
    view = View("s", THREE_OBJECTIVES, console)
    say_what_is_infeasible(sweep, PREPARED, corners(space), Place(**place), view)
    return console.file.getvalue()


def test_a_search_goes_on_where_some_of_its_corners_cannot_be_carried_out():
    out = said({"alpha": tune.choice([0.5, 1.0]), "policy": tune.choice(["shift", "paper"])})
    assert out.startswith("note: 2 of 4 treatments that the space was tried at are not feasible, so none like")
    assert "cannot be carried out: class '5' has a mean score" in out
    assert "python -m hardtune plan" in out


def test_a_plan_is_tried_once_for_all_treatments_that_differ_in_loss_or_entropy_term_only(monkeypatch):
    tried = []
    monkeypatch.setattr(notes, "preview_plan", lambda *of: tried.append(of) or preview_plan(*of))
    term = {"loss": tune.choice(["cross_entropy", "focal"]), "entropy_weight": tune.choice([0.1, 0.2])}
    out = said({"alpha": tune.choice([0.5, 1.0]), "policy": tune.choice(["shift", "paper"]), **term})
    assert len(tried) == 4
    assert out.startswith("note: 8 of 16 treatments that the space was tried at are not feasible, so none like them")
    assert "is proposed: aum α=0.5 easiest/random cannot be carried out: class '5'" in out, "whatever its loss"


def test_no_trial_is_spent_on_what_cannot_be_carried_out_although_tpe_alone_comes_to_try_little_else():
    def of_the_paper(**options):
        search = StudySearch(
            {"alpha": tune.uniform(0.5, 2), "policy": tune.choice(["shift", "margin", "paper"])},
            {"final/ece": "min"},
            study_name="any",
            storage=optuna.storages.InMemoryStorage(),
            seed=0,
            **options,
        )
        points = []
        for name in map(str, range(40)):
            points.append(search.suggest(name))
            failed = points[-1]["policy"] == "paper"
            search.on_trial_complete(name, {FAILED: failed, FINISHED: not failed, "final/ece": 0.1})
        return sum(point["policy"] == "paper" for point in points)

    assert of_the_paper(feasible=Feasible(PREPARED)) == 0
    assert of_the_paper() > 13, "a third of the space"


def test_where_nothing_feasible_is_left_it_is_repeated_rather_than_anything_else_tried():
    space = {"alpha": tune.choice([0.5, 1.0]), "policy": tune.choice(["shift", "paper"])}
    search = StudySearch(
        space,
        {"final/ece": "min"},
        study_name="any",
        storage=optuna.storages.InMemoryStorage(),
        seed=0,
        feasible=Feasible(PREPARED),
    )
    points = [search.suggest(str(number)) for number in range(6)]
    assert {point["policy"] for point in points} == {"shift"}
    assert {point["alpha"] for point in points} == {0.5, 1.0}


def test_a_proposal_previews_no_more_than_some_that_cannot_be_carried_out():
    asked = []
    search = StudySearch(
        {"alpha": tune.uniform(0.5, 2), "policy": tune.choice(["shift", "paper"])},
        {"final/ece": "min"},
        study_name="any",
        storage=optuna.storages.InMemoryStorage(),
        seed=0,
        feasible=lambda treatment: asked.append(treatment),
    )
    search.suggest("a")
    assert len(set(asked)) == MAX_REFUSED


def test_run_trials_searches_what_is_feasible_by_its_scores(monkeypatch):
    class Asked(Exception):
        pass

    def search(*_, feasible, **__):
        assert feasible(Treatment(alpha=1.0, policy="shift"))
        assert not feasible(Treatment(alpha=1.0))
        raise Asked

    monkeypatch.setattr(trials, "StudySearch", search)
    sweep = Sweep("s", "digits", Recipe(), {"alpha": tune.choice([0.5, 1.0])})
    ledger = SimpleNamespace(id="s-1")
    with pytest.raises(Asked):
        trials.run_trials(sweep, Place(), PREPARED, *[ledger] * 6)


def test_what_a_policy_of_ones_own_does_wrong_is_left_to_the_trial_to_tell(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(notes, "preview_plan", broken)
    assert Feasible(PREPARED)(Treatment(alpha=1.0))


@pytest.mark.parametrize(("redrawn", "said"), [(24, ""), (25, "note: 25 of 48 proposals repeated what was tried")])
def test_it_is_said_where_most_proposals_are_not_the_searchs_own(redrawn, said):
    console = Console(file=io.StringIO(), width=400)
    say_what_was_redrawn(SimpleNamespace(redrawn=redrawn, proposed=48), View("s", THREE_OBJECTIVES, console))
    assert console.file.getvalue().startswith(said)
    assert bool(console.file.getvalue()) == bool(said)


def test_a_confirmation_goes_on_with_what_this_seeds_scores_allow():
    front = [Treatment(alpha=1.0, policy="shift"), Treatment(alpha=1.0)]
    out = said(front, data_of=Kept(Path("search")))
    assert out.startswith("note: 1 of 2 treatments are not feasible by this seed's scores, and trials like them will")
    with pytest.raises(InputError, match="cannot be carried out"):
        said(front[1:], data_of=Kept(Path("search")))


def test_nothing_is_said_where_all_of_it_can_and_of_a_part_of_the_data():
    assert said({"alpha": tune.choice([0.5, 1.0]), "policy": "shift"}) == ""
    assert said({"alpha": tune.choice([0.5, 1.0]), "policy": "paper"}, subset=True) == ""


@pytest.mark.parametrize(
    "space",
    [
        {"alpha": tune.choice([0.5, 1.0]), "policy": "paper"},
        {"alpha": tune.choice([0.0, 1.0]), "policy": "paper"},  # but the control
        [Treatment(alpha=1.0, policy="shift"), Treatment(alpha=1.0)],
    ],
    ids=["all of it", "all but the control", "a list"],
)
def test_what_can_have_no_result_is_an_error(space):
    with pytest.raises(InputError, match="cannot be carried out: class '5' has a mean score"):
        said(space)


def test_that_classes_are_equally_hard_is_said_of_all_the_data_and_not_of_a_part():
    console = Console(file=io.StringIO(), width=400)
    view = View("s", THREE_OBJECTIVES, console)
    noise = Prepared(SPLIT, {"aum": np.random.default_rng(0).normal(size=len(SPLIT.train)).astype(np.float32)})
    shift = [Treatment(alpha=1.0, policy="shift")]
    for prepared, subset in ((PREPARED, False), (noise, True), (noise, False)):
        assert console.file.getvalue() == ""
        say_if_hardness_may_be_chance(prepared, shift, Place(subset=subset), view)
    assert console.file.getvalue().startswith("note: by 'aum', classes differ in hardness by no more than chance gives")


@pytest.mark.parametrize(
    ("objectives", "kinds"),
    [
        (THREE_OBJECTIVES, ["recall gap", "ECE"]),
        ({"final/worst_recall": "max"}, ["the control's worst class is"]),
        ({"final/ece": "min"}, ["ECE"]),
        ({"ensemble/ece": "min"}, []),  # whose own nobody computed
        ({"final/ece_adaptive": "min", "final/ece_classwise": "min"}, []),
    ],
)
def test_what_may_be_chance_is_said_of_what_a_search_goes_by_and_not_of_a_part_or_a_list(
    tmp_path, monkeypatch, objectives, kinds
):
    labels, rng = SPLIT.held_out.labels, np.random.default_rng(0)
    predicted = (labels + (rng.random((2, len(labels))) > 0.943)) % 10
    logits = 5.0 * (predicted[..., None] == np.arange(10))  # which says 0.943, too
    control = SimpleNamespace(held_out=evaluate_members(logits, labels), held_out_logits=logits)
    monkeypatch.setattr(trials, "run_trial", lambda *_, **__: control)
    monkeypatch.setattr(trials, "record_of", lambda *_, **__: Record(CONTROL, Treatment(), "finished"))
    console = Console(file=io.StringIO(), width=400)
    view = View("s", objectives, console)
    share, ledger = SimpleNamespace(device="cpu"), SimpleNamespace(trials=tmp_path)
    search = Sweep("s", "digits", Recipe(), {"alpha": tune.choice([0.5, 1.0])}, objectives=objectives)
    a_list = Sweep("s", "digits", Recipe(), [Treatment(alpha=1.0)], objectives=objectives)
    for sweep, subset in ((a_list, False), (search, True), (search, False)):
        assert console.file.getvalue() == ""
        trials._control(sweep, Place(subset=subset), PREPARED, None, share, ledger, view)
    told = [line for line in console.file.getvalue().splitlines() if line.startswith("note: ")]
    assert [kind in line for kind, line in zip(kinds, told, strict=True)] == [True] * len(kinds)
