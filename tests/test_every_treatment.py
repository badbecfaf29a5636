"""Nothing that is registered is out of a sweep's reach: each can be scored for, planned and trained."""

import dataclasses

import numpy as np
import pytest

from hardtune import Recipe, Store, Treatment, load
from hardtune.checks import check_names, check_sources
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.member import plan_for
from hardtune.needs import needs_of
from hardtune.resampling.oversamplers import OVERSAMPLERS
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.scoring import prepare
from hardtune.trial import run_trial

RECIPE = Recipe(
    model="small_cnn",
    epochs=2,
    batch_size=64,
    flip=False,
    crop_padding=1,
    members=1,
    scoring_members=2,
    validation=0.25,
    encoder="pixels",
)


def working_with(**changes):
    """A treatment that has what the change asks for."""
    if changes.get("oversample") == "holdout":
        changes |= {"prune": "class", "prune_rate": 0.5, "alpha": 0.5}
    if "prune" in changes and changes["prune"] != "none":
        changes.setdefault("prune_rate", 0.3)
    if changes.get("prune") == "quotas":
        changes |= {"estimator": "loss"}
    if changes.get("policy") == "margin":
        changes |= {"estimator": "margin"}
    if changes.get("policy") == "paper":
        changes |= {"estimator": "loss"}
    return Treatment(**{"alpha": 1.0, "policy": "shift", **changes})


TREATMENTS = [
    *(working_with(estimator=name) for name in ESTIMATORS),
    *(working_with(policy=name) for name in POLICIES),
    *(working_with(undersample=name) for name in UNDERSAMPLERS),
    *(working_with(oversample=name) for name in OVERSAMPLERS),
    *(working_with(prune=name) for name in PRUNERS),
    *(working_with(prune=name, alpha=0.0) for name in PRUNERS),
    *(working_with(balance=1.0, undersample="random", alpha=alpha) for alpha in (0.0, 1.0)),
    *(Treatment(entropy_weight=0.2, entropy_estimator=name) for name in ESTIMATORS),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    digits = load("digits").subset(classes=10, train=40, test=5, seed=0)
    shifted = dataclasses.replace(digits.train, images=np.roll(digits.train.images, -1, axis=2))
    split = dataclasses.replace(digits.hold_out(RECIPE.validation, RECIPE.seed), pool=shifted)
    for treatment in TREATMENTS:
        check_names(treatment)
        check_sources(split, [treatment])
    return prepare(split, RECIPE, needs_of(TREATMENTS), Store(tmp_path_factory.mktemp("store")))


@pytest.mark.parametrize("treatment", dict.fromkeys(TREATMENTS), ids=str)
def test_it_can_be_trained_and_its_class_counts_are_those_of_its_plan(treatment, prepared):
    result = run_trial(treatment, prepared, RECIPE)
    plan = plan_for(prepared, RECIPE, treatment, 0)
    for field in ("count", "weight", "offset"):
        assert [getattr(row, field) for row in result.classes] == [getattr(row, field) for row in plan.classes]
    assert 0 <= result.metrics()["final/accuracy"] <= 1


def test_scores_of_every_estimator_are_there_and_differ(prepared):
    scores = [prepared.scores[name] for name in ESTIMATORS]
    assert all(len(one) == len(prepared.split.train) and np.isfinite(one).all() for one in scores)
    assert len({one.tobytes() for one in scores}) == len(ESTIMATORS)
