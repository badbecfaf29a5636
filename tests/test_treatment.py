"""A treatment says what it means, and says when it means nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardtune import Treatment
from hardtune.data import Samples
from hardtune.errors import InputError
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool, Request
from hardtune.resampling.plan import preview
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.treatment import BLIND

treatments = st.builds(
    Treatment,
    alpha=st.sampled_from([0.0, 0.5, 2.0]),
    balance=st.sampled_from([0.0, 1.0]),
    estimator=st.sampled_from(["aum", "el2n"]),
    undersample=st.sampled_from(["easiest", "random", "none"]),
    oversample=st.sampled_from(["smote", "hard", "none"]),
    prune=st.sampled_from(["none", "class"]),
    prune_rate=st.sampled_from([0.0, 0.3]),
    entropy_weight=st.sampled_from([0.0, 0.3]),
    entropy_target=st.sampled_from(["difficulty", "constant"]),
    temperature=st.sampled_from([0.7, 1.0]),
)


@given(treatments)
def test_a_canonical_form_is_its_own(treatment):
    assert treatment.canonical().canonical() == treatment.canonical()


@given(treatments)
def test_only_what_can_matter_survives(treatment):
    canonical = treatment.canonical()
    if treatment.entropy_weight == 0:
        assert canonical.temperature == Treatment().temperature
    if treatment.alpha == 0:
        assert canonical.policy == Treatment().policy
    if treatment.alpha == 0 and treatment.balance == 0:
        assert canonical.oversample == Treatment().oversample
    if not canonical.needs_scores:
        assert canonical.estimator == Treatment().estimator
    if treatment.alpha == treatment.balance == treatment.prune_rate == treatment.entropy_weight == 0:
        assert canonical == Treatment()
        assert treatment.is_control


@pytest.mark.parametrize(
    "treatment",
    [
        Treatment(alpha=0.5, estimator="el2n", policy="shift", undersample="random", oversample="smote", loss="focal"),
        Treatment(alpha=0.5, undersample="none"),
        Treatment(balance=0.5, undersample="random"),
        Treatment(balance=0.5, estimator="el2n"),
        Treatment(balance=0.5, estimator="el2n", undersample="random", oversample="hard"),
        Treatment(alpha=0.5, oversample="none"),
        Treatment(prune="dataset", prune_rate=0.2, estimator="loss"),
        Treatment(entropy_weight=0.2, entropy_target="constant"),
        *(
            Treatment(
                entropy_weight=0.2, entropy_estimator="md", entropy_target=target, entropy_scale="rank", temperature=0.3
            )
            for target in ("difficulty", "shuffled", "mean")
        ),
    ],
    ids=str,
)
def test_all_that_can_matter_survives(treatment):
    assert treatment.canonical() == treatment
    assert not treatment.is_control


def test_classes_that_are_only_evened_out_have_no_policy():
    assert Treatment(balance=0.5, policy="shift").canonical() == Treatment(balance=0.5)


def test_a_constant_penalty_knows_no_difficulty():
    alike = Treatment(
        entropy_weight=0.2, entropy_target="constant", entropy_estimator="md", entropy_scale="rank", temperature=0.3
    )
    assert alike.canonical() == Treatment(entropy_weight=0.2, entropy_target="constant")


@given(treatments, st.sampled_from(["cross_entropy", "focal"]))
def test_loss_and_entropy_term_move_no_class_counts(treatment, loss):
    train = Samples(np.zeros((60, 1, 1, 1), np.uint8), np.repeat([0, 1, 2], [30, 20, 10]))
    scores = np.linspace(-2, -1, 60) if treatment.estimator == "aum" else np.linspace(1, 2, 60)

    def rows(it):
        return preview(it, train, "abc", scores=scores if it.needs_scores else None)

    resampling = dataclasses.replace(treatment, loss=loss).resampling()
    assert rows(resampling) == rows(treatment)
    assert resampling.loss == Treatment.loss
    assert "λ" not in str(resampling)


@pytest.mark.parametrize(
    ("treatment", "name"),
    [
        (Treatment(), "control"),
        (Treatment(loss="focal"), "focal"),
        (Treatment(prune="class", prune_rate=0.3, estimator="el2n"), "el2n prune class 30%"),
        (Treatment(prune="dataset", prune_rate=0.004), "aum prune dataset 0.4%"),
        (Treatment(prune="random", prune_rate=0.3, estimator="el2n"), "prune random 30%"),
        (Treatment(alpha=0.5, policy="shift", oversample="smote"), "aum α=0.5 shift easiest/smote"),
        (Treatment(balance=1, undersample="random"), "balance=1 random/random"),
        (Treatment(balance=0.25, estimator="el2n"), "el2n balance=0.25 easiest/random"),
        (Treatment(balance=1, alpha=0.5, policy="shift"), "aum balance=1 α=0.5 shift easiest/random"),
        (Treatment(alpha=2, loss="crl", entropy_weight=0.25), "aum α=2 easiest/random, crl, λ=0.25 rmd"),
        (Treatment(entropy_weight=0.2, entropy_target="shuffled"), "λ=0.2 shuffled"),
        (Treatment(entropy_weight=0.2, entropy_target="mean", entropy_estimator="aum"), "λ=0.2 mean aum"),
        (Treatment(entropy_weight=0.2, entropy_target="constant", entropy_estimator="aum"), "λ=0.2 constant"),
    ],
)
def test_its_name_says_what_matters(treatment, name):
    assert str(treatment) == name


def test_pruning_keeps_its_estimator_without_resampling():
    treatment = Treatment(prune="class", prune_rate=0.3, estimator="el2n")
    assert treatment.canonical() == treatment
    assert Treatment(prune="none", prune_rate=0.3, estimator="el2n").is_control
    by_lot = Treatment(prune="random", prune_rate=0.3)
    assert dataclasses.replace(by_lot, estimator="el2n").canonical() == by_lot
    assert not by_lot.needs_scores
    assert dataclasses.replace(by_lot, alpha=1.0).needs_scores
    assert Treatment(prune="reweight", prune_rate=0.3).needs_scores, "one's own, of an oversampling's name"


def test_resampling_that_may_neither_drop_nor_add_is_the_control():
    assert Treatment(alpha=2, balance=1, undersample="none", oversample="none").is_control


@pytest.mark.parametrize("registry", [UNDERSAMPLERS, OVERSAMPLERS], ids=["undersampling", "oversampling"])
def test_who_looks_at_no_score_is_known(registry):
    """Such treatments need no scoring ensemble to even classes out: what they draw does not depend on scores."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 2, 2, 1), np.uint8)
    train = Samples(pixels, np.repeat([0, 1], 30))
    pool = Pool(train, np.linspace(0, 1, 60), np.array([0.3, 0.7]))

    def drawn(name, scores):
        if registry is UNDERSAMPLERS:
            return UNDERSAMPLERS[name](scores, 10, np.random.default_rng(0)).tolist()
        request = Request("a", 0, 10, np.arange(20), np.arange(20, 30), train, scores, pixels.reshape(60, -1), pool)
        added = OVERSAMPLERS[name].draw(request, np.random.default_rng(0))
        return [np.asarray(part).tolist() for part in dataclasses.astuple(added)]

    rising = np.arange(60.0)
    blind = {name for name in registry if drawn(name, rising) == drawn(name, rising[::-1])}
    assert blind == BLIND & set(registry)


def test_one_of_ones_own_is_given_scores():
    assert Treatment(balance=1, undersample="mine").needs_scores
    assert Treatment(balance=1, undersample="random", oversample="mine").needs_scores
    assert not Treatment(balance=1, undersample="random").needs_scores


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"alpha": -1}, "alpha must be a finite number of at least 0"),
        ({"alpha": float("nan")}, "alpha"),
        ({"balance": 1.5}, "balance must be at most 1, got 1.5"),
        ({"alpha": "much"}, "alpha must be a number"),
        ({"alpha": True}, "alpha must be a number"),
        ({"entropy_weight": float("inf")}, "entropy_weight"),
        ({"prune_rate": 1.0}, "prune_rate must be below 1"),
        ({"temperature": 0}, "temperature must be above 0"),
        ({"estimator": 3}, "estimator must be a name"),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence(change, says):
    with pytest.raises(InputError, match=says):
        Treatment(**change)


def test_whole_numbers_and_fractions_are_the_same_treatment():
    assert Treatment(alpha=1) == Treatment(alpha=1.0)
    assert repr(dataclasses.asdict(Treatment(alpha=1))["alpha"]) == "1.0"  # as what is stored is named by it


def test_the_two_zeros_have_one_name():
    assert repr(Treatment(alpha=-0.0, entropy_weight=-0.0)) == repr(Treatment(alpha=0.0, entropy_weight=0.0))


def test_numbers_of_numpy_are_numbers():
    assert Treatment(alpha=np.float32(0.5), entropy_weight=np.int64(1)) == Treatment(alpha=0.5, entropy_weight=1)


@pytest.mark.parametrize(
    "treatment",
    [
        Treatment(prune="class"),
        Treatment(prune_rate=0.3),
        Treatment(alpha=2, undersample="none", oversample="none"),
        Treatment(temperature=0.2, entropy_target="shuffled"),
    ],
)
def test_what_changes_nothing_is_called_the_control(treatment):
    assert str(treatment) == "control"


def test_what_earlier_versions_stored_is_found_by_the_same_name():
    """They knew no balance: where it has no effect, a treatment is described as it was."""
    fields = [
        *("alpha", "estimator", "policy", "undersample", "oversample", "prune", "prune_rate", "loss", "entropy_weight"),
        *("entropy_estimator", "entropy_target", "entropy_scale", "temperature"),
    ]
    assert list(Treatment().described()) == fields
    assert Treatment(**Treatment(alpha=0.5).described()) == Treatment(alpha=0.5)
    assert Treatment(balance=0.5).described()["balance"] == 0.5
