"""A mistake in a policy, sampler, pruner, entropy scale or target of one's own is named before a network is trained."""

import random
import warnings

import numpy as np
import pytest

from hardtune import Treatment, load
from hardtune.errors import HardtuneWarning, InputError
from hardtune.rehearsal import rehearse
from hardtune.resampling.oversamplers import OVERSAMPLERS, Added, oversampler
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.weights import SCALES, TARGETS

SPLIT = load("digits").hold_out(0.3, 0)
FIELDS = {
    "policy": POLICIES,
    "undersample": UNDERSAMPLERS,
    "oversample": OVERSAMPLERS,
    "prune": PRUNERS,
    "entropy_scale": SCALES,
    "entropy_target": TARGETS,
}
USED = {"alpha": 0.5, "policy": "shift", "prune_rate": 0.1, "entropy_weight": 0.1}


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    for registry in FIELDS.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def mine(field, function, **fields):
    """A treatment with a function of one's own in ``field``."""
    (oversampler if field == "oversample" else FIELDS[field].register)("mine")(function)
    return Treatment(**{**USED, **fields, field: "mine"})


WRONG = {
    "policy": (
        lambda hardness, low_is_hard, classes: np.ones(9),
        r"must give a ratio for each class, \(10,\), got \(9,\)",
    ),
    "undersample": (lambda scores, drop, rng: np.arange(drop), r"must keep \d+ of \d+ samples, and kept"),
    "oversample": (lambda request, rng: request.members[: request.add], "must give an Added, got ndarray"),
    "prune": (lambda scores, labels, rate, rng: np.zeros(9, int), r"must give different positions of 0\.\."),
    "entropy_scale": (lambda scores: scores.mean(), r"must give \(\d+,\) numbers, got \(\)"),
    "entropy_target": (lambda weights, rng: weights[1:], r"must give \(\d+,\) weights, got"),
}


RIGHT = {
    "undersample": lambda scores, drop, rng: rng.permutation(len(scores))[drop:],
    "oversample": lambda request, rng: Added(indices=rng.choice(request.members, request.add)),
    "entropy_target": lambda weights, rng: rng.permutation(weights),
}


@pytest.mark.parametrize("field", FIELDS)
def test_what_gives_something_of_another_kind_or_size_is_named(field):
    function, sentence = WRONG[field]
    with pytest.raises(InputError, match=f"^tried on made-up scores, .* 'mine' {sentence}"):
        rehearse(SPLIT, [Treatment(), mine(field, function)])


@pytest.mark.parametrize("field", FIELDS)
def test_a_mistake_in_the_code_is_named_with_its_line(field):
    def broken(*arguments):
        return arguments[0].no_such_thing

    says = r"^tried on made-up scores, .* 'mine' fails.*AttributeError.*test_rehearsal.py:"
    with pytest.raises(InputError, match=says):
        rehearse(SPLIT, [mine(field, broken)])


@pytest.mark.parametrize("field", FIELDS)
def test_what_may_be_right_about_made_up_scores_is_left_to_real_ones(field):
    def picky(*arguments):
        raise ValueError("such scores there are none")

    rehearse(SPLIT, [mine(field, picky)])


@pytest.mark.parametrize(
    ("gain", "says"),
    [
        (lambda request, rng: Added(indices=request.members[: request.add + 1]), "and gave"),
        (lambda request, rng: Added(indices=np.arange(request.add)), "of other classes"),
        (lambda request, rng: Added(indices=request.features.argmax(1)), "AttributeError: 'NoneType'"),
    ],
    ids=["too many", "of any class", "features that it does not ask for"],
)
def test_an_oversampler_that_gives_what_it_was_not_asked_for_is_named(gain, says):
    with pytest.raises(InputError, match=f"^tried on made-up scores, oversampling 'mine' .*{says}"):
        rehearse(SPLIT, [mine("oversample", gain)])


@pytest.mark.parametrize("draw", [np.random.random, random.random], ids=["numpy", "random"])
@pytest.mark.parametrize("field", RIGHT)
def test_who_draws_from_a_global_generator_is_warned_of(field, draw):
    def careless(*arguments):
        draw()
        return RIGHT[field](*arguments)

    with pytest.warns(
        HardtuneWarning, match=f"^{field} 'mine' draws from or seeds a global generator of random numbers"
    ):
        rehearse(SPLIT, [mine(field, careless)])


@pytest.mark.parametrize("field", RIGHT)
def test_who_draws_from_the_generator_that_it_is_given_is_not(field):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rehearse(SPLIT, [mine(field, RIGHT[field])])


def test_features_are_made_up_as_well_so_their_number_says_nothing():
    oversampler("wide", needs="features")(lambda request, rng: Added(indices=request.features[:, 500].astype(int)))
    rehearse(SPLIT, [Treatment(alpha=1.0, policy="shift", oversample="wide")])


def test_no_more_samples_are_asked_for_than_by_the_treatment():
    asked = []

    @oversampler("counting")
    def counting(request, rng):
        asked.append(request.add)
        return Added(indices=request.members[: request.add])

    rehearse(SPLIT, [Treatment(alpha=0.1, policy="shift", oversample="counting")])
    assert 0 < sum(asked) < 0.03 * len(SPLIT.train)


@pytest.mark.parametrize("field", FIELDS)
def test_what_has_no_effect_in_any_treatment_is_left_alone(field):
    treatment = mine(field, lambda *arguments: pytest.fail("called"), alpha=0.0, prune_rate=0.0, entropy_weight=0.0)
    rehearse(SPLIT, [treatment])


@pytest.mark.parametrize("estimator", ["aum", "forgetting", "rmd"])
def test_made_up_scores_are_in_the_estimators_range_and_differ_between_classes(estimator):
    seen = []

    def policy(hardness, low_is_hard, classes):
        seen.append(hardness)
        return 1 + hardness - hardness.min()

    rehearse(SPLIT, [mine("policy", policy, estimator=estimator)])
    low, high = {"aum": (-1, 0), "forgetting": (0, 1), "rmd": (-0.5, 0.5)}[estimator]
    assert low <= seen[0].min() < seen[0].max() - 0.3
    assert seen[0].max() <= high


def test_an_oversampler_that_could_not_deliver_on_made_up_scores_may_do_so_on_others():
    oversampler("picky", infeasible=lambda request: f"class {request.name!r} is not hard enough")(
        lambda request, rng: Added(indices=request.members[: request.add])
    )
    rehearse(SPLIT, [Treatment(alpha=1.0, policy="shift", oversample="picky")])
