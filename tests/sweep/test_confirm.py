"""The front of a search is tried again with another seed, against the control."""

import dataclasses

import pytest
from ray import tune

from hardtune import Recipe, Treatment, load
from hardtune.errors import InputError
from hardtune.hardness.encoders import ENCODERS
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.resampling.policies import POLICIES
from hardtune.sweep import Sweep
from hardtune.sweep.confirm import confirming
from hardtune.sweep.ledger import check_same_data, open_ledger
from hardtune.training.losses import LOSSES
from hardtune.training.models import MODELS

SEARCH = Sweep(
    "pets",
    "digits",
    Recipe(seed=3, members=3),
    {"alpha": tune.uniform(0, 2), "policy": "shift"},
    objectives={"final/ece": "min", "ensemble/accuracy": "max", "final/nll": "min"},
    first=[Treatment(alpha=1.0, policy="shift")],
    racing=0.0,
    trials=9,
)
FAIR, CALIBRATED, WORSE = (Treatment(alpha=alpha, policy="shift") for alpha in (0.5, 1.0, 2.0))


def kept(storage, *trials, sweep=SEARCH):
    """A storage in which the sweep has found these: a treatment, its ECE and its accuracy each."""
    ledger = open_ledger(sweep, load("digits").hold_out(0.1, 0), storage, resume=False)
    for number, (treatment, ece, accuracy) in enumerate(((Treatment(), 0.2, 0.7), *trials), start=CONTROL):
        figures = {"final/ece": ece, "ensemble/accuracy": accuracy, "final/nll": ece}
        records.write(ledger.trials, Record(number, treatment, "finished", figures, members={}))
    return ledger


def test_the_front_of_the_latest_search_is_tried_with_the_next_seed_and_the_searchs_recipe(tmp_path):
    kept(tmp_path, (WORSE, 0.1, 0.9))
    latest = kept(tmp_path, (FAIR, 0.1, 0.8), (CALIBRATED, 0.15, 0.9), (WORSE, 0.3, 0.6))
    confirmation = confirming(SEARCH, tmp_path, {"members": 5})
    sweep = confirmation.sweep
    assert list(sweep.treatments) == [FAIR, CALIBRATED]
    assert sweep.recipe == Recipe(seed=4, members=5)
    assert (sweep.name, sweep.racing, sweep.trials) == ("pets-confirmed", 0.0, 2)
    (comparison,) = sweep.comparisons
    assert comparison.treatments == (FAIR, CALIBRATED)
    assert comparison.metrics[:2] == ("test/ece", "test/nll"), "what members have of the objectives, where nobody chose"
    assert confirmation.search.id == latest.id
    numbered = "there 0, 1 of 3 trials, here 0, 1"
    assert f"the 2 treatments on the front of {latest.id} ({numbered}) with seed 4: other held" in confirmation.says
    assert confirming(SEARCH, tmp_path, {"seed": 9}).sweep.recipe.seed == 9
    on_test = confirming(SEARCH, tmp_path, {"validation": "test"})
    assert on_test.says.endswith("other scores and networks, trained on all training samples")
    own_split = confirming(SEARCH, tmp_path, {"validation": "val"})
    assert own_split.says.endswith("other scores and networks")
    with pytest.raises(InputError, match="takes another seed than the search's, so another than 3"):
        confirming(SEARCH, tmp_path, {"seed": 3})


def test_a_search_without_trials_is_passed_over_and_any_other_may_be_named(tmp_path):
    first = kept(tmp_path, (FAIR, 0.1, 0.8))
    second = kept(tmp_path, (CALIBRATED, 0.1, 0.8))
    kept(tmp_path)  # it was stopped as its control was trained
    assert confirming(SEARCH, tmp_path, {}).search.id == second.id
    assert confirming(SEARCH, tmp_path, {}, first.id).search.id == first.id
    with pytest.raises(InputError, match=f"no search 'pets-1' to confirm in .*: choose from {first.id}, {second.id}"):
        confirming(SEARCH, tmp_path, {}, "pets-1")


def test_other_data_than_the_searchs_are_refused(tmp_path):
    kept(tmp_path, (FAIR, 0.1, 0.8))
    search = confirming(SEARCH, tmp_path, {}).search
    data = load("digits")
    check_same_data(search, data.hold_out(0.2, 7))
    with pytest.raises(InputError, match=f"{search.id} was of other data: give the --data"):
        check_same_data(search, data.subset(classes=10, train=50, test=5, seed=0).hold_out(0.1, 0))
    with pytest.raises(InputError, match=f"{search.id} was of other pool"):
        check_same_data(search, dataclasses.replace(data.hold_out(0.1, 0), pool=data.test))


def test_code_of_ones_own_that_the_front_names_must_be_what_the_search_had(tmp_path, monkeypatch):
    def defined(registry, entry):
        monkeypatch.setitem(registry._entries, "mine", entry)
        monkeypatch.delitem(registry._digests, "mine", raising=False)

    def refused(kind, **changes):
        with pytest.raises(InputError, match=f"your {kind} mine is not what it was when {search.id} ran, so another"):
            confirming(own, tmp_path, changes)

    for registry in (LOSSES, MODELS, ENCODERS, POLICIES):
        defined(registry, len)
    own = dataclasses.replace(SEARCH, recipe=Recipe(model="mine", encoder="mine:a"))
    search = kept(tmp_path, (Treatment(loss="mine"), 0.1, 0.8), sweep=own)
    assert confirming(own, tmp_path, {}).search.id == search.id
    defined(POLICIES, max)  # of which the front's networks know nothing
    defined(ENCODERS, max)
    assert confirming(own, tmp_path, {}).search.id == search.id
    defined(MODELS, max)
    refused("model")
    assert confirming(own, tmp_path, {"model": "small_cnn"}).search.id == search.id
    defined(MODELS, len)
    defined(LOSSES, max)
    refused("loss")

    defined(ENCODERS, len)
    search = kept(tmp_path, (Treatment(entropy_weight=0.1), 0.1, 0.8), sweep=own)  # by scores of features
    defined(ENCODERS, max)
    refused("encoder")
    assert confirming(own, tmp_path, {"encoder": "pixels"}).search.id == search.id


def test_that_hardtune_trains_otherwise_since_the_search_is_said_and_no_obstacle(tmp_path, monkeypatch):
    kept(tmp_path, (FAIR, 0.1, 0.8))
    monkeypatch.setattr("hardtune.member.VERSION", 99)
    says = confirming(SEARCH, tmp_path, {}).says
    assert "(note: hardtune, too, trains otherwise than when it ran, by version 99, not " in says


def test_a_confirmation_is_not_what_is_confirmed_next(tmp_path):
    kept(tmp_path, (FAIR, 0.1, 0.8))
    sweep = confirming(SEARCH, tmp_path, {}).sweep
    kept(tmp_path, (FAIR, 0.4, 0.1), sweep=sweep)
    assert confirming(SEARCH, tmp_path, {}).sweep == sweep


@pytest.mark.parametrize(
    ("trials", "sweep", "sentence"),
    [
        (None, SEARCH, "no search named pets has found anything in .*: run it first"),
        ([(WORSE, 0.3, 0.6)], SEARCH, "nothing on the front of pets-.* but its control"),
        ([(FAIR, 0.1, 0.9)], Sweep("pets", "digits", Recipe(), [FAIR]), "this sweep tries a list of treatments"),
    ],
)
def test_what_cannot_be_confirmed_is_refused(tmp_path, trials, sweep, sentence):
    if trials is not None:
        kept(tmp_path, *trials)
    with pytest.raises(InputError, match=sentence):
        confirming(sweep, tmp_path, {})
