"""From a treatment to a training set, and the same per class beforehand."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from hardtune.checks import check_names
from hardtune.data import Dataset, Samples
from hardtune.errors import TRANSIENT, InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.resampling.oversamplers import OVERSAMPLERS, Added, Oversampler, Pool
from hardtune.resampling.plan import make_plan, preview
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.treatment import Treatment

CLASSES = ("ant", "bee", "cat", "dog")
N = 400


def read_only(array):
    array.flags.writeable = False
    return array


RNG = np.random.default_rng(0)
LABELS = read_only(RNG.permutation(np.arange(N) % 4))
TRAIN = Samples(read_only(RNG.integers(0, 256, (N, 4, 4, 1), dtype=np.uint8)), LABELS)
SCORES = read_only((-np.array([8.0, 5.0, 4.0, 3.0])[LABELS] + RNG.normal(size=N)).astype(np.float32))  # AUM, negated
FEATURES = read_only(RNG.normal(size=(N, 6)).astype(np.float32))
POOL = Pool(
    Samples(RNG.integers(0, 256, (2000, 4, 4, 1), dtype=np.uint8), np.arange(2000) % 4),
    read_only(RNG.random(2000)),
    read_only(np.full(4, 0.5)),
)


def plan(seed=0, train=TRAIN, scores=SCORES, features=FEATURES, pool=POOL, low_is_hard=None, **treatment):
    given = {"scores": scores, "low_is_hard": low_is_hard, "features": features, "pool": pool}
    return make_plan(Treatment(**treatment), train, CLASSES, seed=seed, **given)


def rows(train=TRAIN, scores=SCORES, features=FEATURES, pool=POOL, **treatment):
    return preview(Treatment(**treatment), train, CLASSES, scores=scores, features=features, pool=pool)


def sizes_of(made):
    return np.bincount(LABELS[made.indices], minlength=4) + np.bincount(made.labels, minlength=4)


# The holdout needs pruned samples to draw on.
EVERY = [
    dict(
        alpha=1.0,
        undersample=under,
        oversample=over,
        **({"prune": "class", "prune_rate": 0.5} if over == "holdout" else {}),
    )
    for under in UNDERSAMPLERS
    for over in OVERSAMPLERS
]


def test_the_control_gives_every_sample_once_and_needs_no_scores():
    made = plan(scores=None, features=None, pool=None)
    np.testing.assert_array_equal(made.indices, np.arange(N))
    assert made.images.shape == (0, 4, 4, 1)
    assert len(made) == N
    assert [row.count for row in made.classes] == [100] * 4


@pytest.mark.parametrize("treatment", EVERY, ids=lambda t: f"{t['undersample']}-{t['oversample']}")
def test_a_plan_holds_what_its_preview_promised(treatment):
    made, promised = plan(**treatment), rows(**treatment)
    assert made.classes == promised
    assert list(sizes_of(made)) == [row.count for row in promised]
    for row in promised:
        how = treatment["undersample" if row.target < row.size - row.pruned else "oversample"]
        assert (row.weight != 1) == (how == "reweight")
        assert (row.offset != 0) == (how == "adjust")
        assert (row.posthoc != 0) == (how == "posthoc")
        assert how == "none" or row.count * row.factor == pytest.approx(row.target)
        assert row.share * row.size == pytest.approx(row.count * row.factor)
    np.testing.assert_array_equal(made.class_weights, np.array([row.weight for row in promised], np.float32))
    np.testing.assert_array_equal(made.class_offsets, np.array([row.offset for row in promised], np.float32))
    np.testing.assert_array_equal(made.class_posthoc, np.array([row.posthoc for row in promised], np.float32))
    if not {"none", "reweight", "adjust", "posthoc"} & {treatment["undersample"], treatment["oversample"]}:
        assert [row.count for row in promised] == [row.target for row in promised]
        assert len(made) == N - sum(row.pruned for row in promised)


@pytest.mark.parametrize("treatment", EVERY, ids=lambda t: f"{t['undersample']}-{t['oversample']}")
def test_everything_in_a_plan_is_well_formed(treatment):
    made = plan(**treatment)
    assert made.indices.dtype == made.labels.dtype == made.parents.dtype == np.int64
    assert made.images.dtype == np.uint8
    assert len(made.images) == len(made.labels) == len(made.parents)
    assert made.indices.min() >= 0
    assert made.indices.max() < N  # only training samples: nothing of the test split can be named
    np.testing.assert_array_equal(LABELS[made.parents], made.labels)


@pytest.mark.parametrize("treatment", EVERY, ids=lambda t: f"{t['undersample']}-{t['oversample']}")
def test_a_class_that_gains_keeps_all_its_originals(treatment):
    made = plan(**treatment)
    kept = set(made.indices)
    for label, row in enumerate(made.classes):
        if row.added:
            originals = np.flatnonzero(TRAIN.labels == label)
            assert sum(index in kept for index in originals) >= row.size - row.pruned


@pytest.mark.parametrize("treatment", EVERY, ids=lambda t: f"{t['undersample']}-{t['oversample']}")
def test_a_seed_decides_a_plan(treatment):
    one, same = plan(seed=5, **treatment), plan(seed=5, **treatment)
    for field in ("indices", "images", "labels", "parents"):
        np.testing.assert_array_equal(getattr(one, field), getattr(same, field))


def test_another_seed_draws_other_samples():
    one, other = plan(seed=1, alpha=1.0), plan(seed=2, alpha=1.0)
    assert len(one) == len(other)
    assert (one.indices != other.indices).any()


def test_each_class_draws_on_its_own_from_its_samples_in_their_order():
    made = plan(seed=5, alpha=1.0, undersample="random", oversample="none")
    kept = []
    for label, row in enumerate(made.classes):
        own = np.flatnonzero(TRAIN.labels == label)
        kept.append(own[UNDERSAMPLERS["random"](SCORES[own], row.dropped, np.random.default_rng([5, label]))])
    np.testing.assert_array_equal(made.indices, np.sort(np.concatenate(kept)))


def test_hard_classes_grow_and_easy_ones_lose_their_easiest():
    made = plan(alpha=1.0)
    sizes = sizes_of(made)
    assert sizes[0] < sizes[1] < sizes[2] < sizes[3]
    ants = np.flatnonzero(LABELS == 0)
    kept = np.intersect1d(ants, made.indices)
    assert SCORES[kept].min() >= SCORES[np.setdiff1d(ants, kept)].max()


def test_originals_come_first_in_order_and_additions_after():
    made = plan(alpha=1.0)
    originals = np.unique(made.indices)
    np.testing.assert_array_equal(made.indices[: len(originals)], originals)


def test_without_undersampling_the_set_grows_and_without_oversampling_it_shrinks():
    assert len(plan(alpha=1.0, undersample="none")) > N > len(plan(alpha=1.0, oversample="none"))


def test_with_neither_the_data_stay_as_they_are():
    made = plan(alpha=1.0, undersample="none", oversample="none")
    np.testing.assert_array_equal(made.indices, np.arange(N))


def test_reweighting_keeps_the_data_as_they_are_and_the_sum_of_weights_as_well():
    made = plan(alpha=1.0, undersample="reweight", oversample="reweight")
    np.testing.assert_array_equal(made.indices, np.arange(N))
    assert made.class_weights[LABELS].sum() == pytest.approx(N)
    assert made.class_weights[0] < 1 < made.class_weights[3]
    resampled = plan(alpha=1.0)
    np.testing.assert_allclose(made.class_weights * 100, sizes_of(resampled), rtol=1e-6)


def test_adjusting_keeps_the_data_as_they_are_and_multiplies_odds_by_what_reweighting_does():
    made, reweighted = (plan(alpha=1.0, undersample=how, oversample=how) for how in ("adjust", "reweight"))
    np.testing.assert_array_equal(made.indices, np.arange(N))
    np.testing.assert_allclose(np.exp(made.class_offsets), reweighted.class_weights, rtol=1e-6)
    assert (made.class_weights == 1).all()
    assert not reweighted.class_offsets.any()


@pytest.mark.parametrize("how", ["reweight", "adjust", "posthoc"])
def test_a_class_that_counts_the_least_it_may_is_at_its_floor(how):
    made = plan(alpha=50.0, undersample=how, oversample=how)
    assert made.classes[0].at_floor
    assert made.classes[0].factor == pytest.approx(0.1)
    assert not made.classes[3].at_floor


def test_a_pruned_class_is_at_its_floor_by_what_pruning_left_of_it():
    made = plan(alpha=50.0, prune="class", prune_rate=0.5)
    assert (made.classes[0].count, made.classes[0].at_floor) == (5, True)


def test_each_member_prunes_other_samples_where_a_draw_decides_and_again_the_same():
    first, again, other = (set(plan(prune="random", prune_rate=0.5, seed=seed).indices) for seed in (0, 0, 1))
    assert first == again
    assert 50 < len(first & other) < 150


def test_pruning_alone_keeps_the_hardest():
    made = plan(prune="dataset", prune_rate=0.3)
    assert len(made) == 280
    assert SCORES[made.indices].min() >= np.delete(SCORES, made.indices).max()


def test_pruned_samples_come_back_from_the_holdout_once_each():
    made = plan(prune="class", prune_rate=0.5, alpha=1.0, oversample="holdout")
    assert len(np.unique(made.indices)) == len(made.indices) == N // 2


def test_a_synthesised_image_is_of_its_parents_class_in_unbalanced_data():
    labels = np.repeat(np.arange(4), [200, 100, 60, 40])
    made = plan(
        train=Samples(TRAIN.images, labels), scores=(-8.0 + labels).astype(np.float32), alpha=2.0, oversample="smote"
    )
    np.testing.assert_array_equal(labels[made.parents], made.labels)


def test_a_class_too_small_for_smote_is_named_before_anything_is_made():
    labels = np.concatenate([np.arange(N - 5) % 3, np.full(5, 3)])
    small = Samples(TRAIN.images, labels)
    scores = (-np.array([8.0, 5.0, 4.0, 3.0])[labels]).astype(np.float32)
    promised = rows(train=small, scores=scores, alpha=1.0, oversample="smote")
    assert [row.infeasible is None for row in promised] == [True, True, True, False]
    with pytest.raises(InputError, match="'dog' has 5 samples"):
        plan(train=small, scores=scores, alpha=1.0, oversample="smote")


def test_a_holdout_without_pruning_is_named():
    with pytest.raises(InputError, match=r"'(cat|dog)' should gain .* set aside 0"):
        plan(alpha=1.0, oversample="holdout")


def test_a_mean_aum_below_zero_is_named_by_class():
    with pytest.raises(InputError, match=r"class 'dog' has a mean score of .*, which is -"):
        plan(scores=SCORES + np.float32(3.5), alpha=1.0)


@pytest.mark.parametrize(
    ("policy", "estimator", "says"),
    [
        ("margin", "aum", "policy 'margin' needs an estimator in probabilities, and 'aum' is in logits"),
        ("paper", "rmd_balanced", "policy 'paper' needs hardness above 0, .* 'rmd_balanced' are centred near 0"),
    ],
)
def test_a_policy_that_does_not_fit_the_estimator_is_refused_as_in_a_sweep(policy, estimator, says):
    scores = (SCORES / 20).astype(np.float32)  # which the policies themselves take
    treatment = Treatment(alpha=1.0, policy=policy, estimator=estimator)
    with pytest.raises(InputError, match=says) as planned:
        plan(scores=-scores if policy == "paper" else scores, alpha=1.0, policy=policy, estimator=estimator)
    with pytest.raises(InputError) as checked:
        check_names(treatment)
    assert str(planned.value) == str(checked.value)


def test_scores_of_ones_own_may_have_any_estimators_name_that_is_not_taken():
    assert len(plan(scores=-SCORES, alpha=1.0, policy="margin", estimator="annotators")) == N


@pytest.mark.parametrize(("estimator", "scores"), [("aum", SCORES), ("el2n", SCORES + np.float32(20))])
def test_the_estimator_says_whether_low_is_hard_and_nobody_may_say_otherwise(estimator, scores):
    low = estimator == "aum"
    says = f"low_is_hard={not low}, and estimator '{estimator}' is {'low' if low else 'high'} for hard samples"
    treatment = {"scores": scores, "alpha": 1.0, "estimator": estimator}
    made = plan(**treatment)
    assert made.classes == plan(low_is_hard=low, **treatment).classes
    assert made.classes[3].count > made.classes[0].count
    with pytest.raises(InputError, match=says):
        plan(low_is_hard=not low, **treatment)
    plan(low_is_hard=not low, estimator=estimator, scores=None, balance=1.0, undersample="random")  # follows sizes


def test_of_scores_of_ones_own_low_is_hard_may_be_said():
    own = {"scores": SCORES, "alpha": 1.0, "estimator": "annotators"}
    assert plan(low_is_hard=True, **own).classes == plan(alpha=1.0).classes
    with pytest.raises(InputError, match="'ant' has a mean score of -7"):
        plan(**own)


@pytest.mark.parametrize("treatment", [{"alpha": 1.0, "policy": "shift"}, {"prune": "class", "prune_rate": 0.2}])
def test_confidences_that_are_not_negated_are_refused_and_do_not_reverse_what_is_hard(treatment):
    confidence = (SCORES - SCORES.min()) / np.ptp(SCORES)
    with pytest.raises(InputError, match=r"scores of estimator 'confidence' are negated .*: negate them"):
        plan(scores=confidence, estimator="confidence", **treatment)
    assert len(plan(scores=-confidence, estimator="confidence", **treatment)) <= N


@pytest.mark.parametrize(
    "estimator", sorted(ESTIMATORS.keys() - {"aum", "margin", "confidence", "rmd", "rmd_balanced"})
)
def test_negated_scores_of_what_cannot_be_negative_are_refused_and_do_not_reverse_what_is_hard(estimator):
    treatment = {"estimator": estimator, "alpha": 1.0, "policy": "shift"}
    says = f"scores of estimator '{estimator}' are at least 0, .* training sample .* has -.*: negate them"
    scores = (SCORES - SCORES.min()).round()  # of forgetting, many are 0
    with pytest.raises(InputError, match=says):
        plan(scores=-scores, **treatment)
    assert len(plan(scores=scores, **treatment)) == len(plan(scores=scores - 5, **treatment)) == N


def test_plans_may_be_compared():
    """By identity, as they are of arrays; their classes by what happens to each."""
    one, other = plan(alpha=1.0), plan(alpha=1.0)
    assert one != other
    assert one.classes == other.classes
    assert len({one, other}) == 2


def test_pruning_that_empties_a_class_is_named():
    scores = np.where(LABELS == 2, -100, SCORES).astype(np.float32)
    with pytest.raises(InputError, match="'cat' has no training samples: pruning removes all"):
        plan(scores=scores, prune="dataset", prune_rate=0.5)


@pytest.mark.parametrize("field", ["undersample", "oversample", "prune", "policy"])
def test_an_unknown_name_lists_the_valid_ones(field):
    with pytest.raises(InputError, match="choose from"):
        rows(alpha=1.0, **{field: "nonsense"})


def test_evening_classes_out_takes_no_scores_unless_what_draws_looks_at_them():
    tail = np.concatenate([np.flatnonzero(c == LABELS)[:size] for c, size in enumerate((100, 80, 50, 10))])
    train, scores = Samples(TRAIN.images[tail], LABELS[tail]), SCORES[tail]

    def evened(scores, **treatment):
        return plan(train=train, scores=scores, features=None, balance=1.0, **treatment)

    unscored = evened(None, undersample="random")
    assert list(np.bincount(train.labels[unscored.indices])) == [60] * 4
    assert all(row.hardness is None for row in unscored.classes)
    np.testing.assert_array_equal(evened(scores, undersample="random").indices, unscored.indices)

    kept = np.isin(np.arange(len(tail)), evened(scores).indices)
    for label in (0, 1):  # these shrink, and lose their easiest
        assert scores[~kept & (train.labels == label)].max() <= scores[kept & (train.labels == label)].min()
    with pytest.raises(InputError, match="aum balance=1 easiest/random needs the scores of estimator 'aum'"):
        evened(None)


def test_evened_out_losses_are_weighted_by_inverse_frequency_and_logits_adjusted_as_by_menon():
    tail = np.concatenate([np.flatnonzero(c == LABELS)[:size] for c, size in enumerate((96, 80, 50, 10))])
    train = Samples(TRAIN.images[tail], LABELS[tail])
    sizes = np.bincount(train.labels)
    weighted, adjusted = (
        plan(train=train, scores=None, features=None, balance=1.0, undersample=how, oversample=how)
        for how in ("reweight", "adjust")
    )
    np.testing.assert_allclose(weighted.class_weights, sizes.mean() / sizes)
    # Menon et al. 2021 add the log of the classes' shares to the logits in training, and Ren et al. 2020 (Balanced
    # Softmax) that of their sizes: a constant changes nothing.
    added = np.log(sizes / sizes.sum()) + adjusted.class_offsets
    np.testing.assert_allclose(added, added.mean(), rtol=1e-6)


def test_resampling_without_scores_or_with_too_few_is_an_error():
    for treatment in ({"alpha": 1.0}, {"prune": "dataset", "prune_rate": 0.3}):
        with pytest.raises(InputError, match="needs the scores of estimator 'aum'"):
            plan(scores=None, **treatment)
    for wrong in (SCORES[1:], SCORES[:, None]):
        with pytest.raises(InputError, match=r"scores must be \(400,\), for each training sample, got \("):
            plan(scores=wrong, alpha=1.0)


@pytest.mark.parametrize("given", [SCORES.tolist(), torch.tensor(SCORES.tolist())], ids=["list", "tensor"])
def test_scores_may_be_a_list_or_a_tensor(given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch has one for what shares read-only memory
        made = plan(scores=given, alpha=1.0)
    np.testing.assert_array_equal(made.indices, plan(scores=SCORES, alpha=1.0).indices)


@pytest.mark.parametrize(
    ("given", "says"),
    [(torch.empty(N, device="meta"), "meta"), (["hard"] * N, "got <U4"), ([None] * N, "got object")],
    ids=["elsewhere", "words", "nothing"],
)
def test_what_are_no_numbers_is_not_taken_for_scores(given, says):
    with pytest.raises(InputError, match=rf"scores and features must be arrays of numbers: .*{says}"):
        plan(scores=given, alpha=1.0)


@pytest.mark.parametrize("seed", [-1, 0.5, None, True])
def test_a_seed_is_a_whole_number_of_at_least_0(seed):
    with pytest.raises(InputError, match=f"seed must be a whole number of at least 0, got {seed}"):
        plan(seed=seed, alpha=1.0)


@pytest.mark.parametrize(
    "treatment", [{"prune": "dataset", "prune_rate": 0.3}, {"prune": "class", "prune_rate": 0.3}, {"alpha": 1.0}]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(treatment, bad):
    scores = SCORES.copy()
    scores[[7, 30]] = bad
    with pytest.raises(InputError, match=r"2 of them are not \(training sample 7 for one\)"):
        plan(scores=scores, **treatment)


def test_a_preview_never_looks_at_an_image():
    class Unseen(np.ndarray):
        def __getitem__(self, key):
            raise AssertionError("an image was looked at")

    unseen = Samples(TRAIN.images.view(Unseen), LABELS)
    for oversample in OVERSAMPLERS:
        rows(train=unseen, alpha=1.0, oversample=oversample)


def test_a_preview_says_where_what_a_class_gains_comes_from():
    promised = rows(alpha=1.0, oversample="smote")
    assert [row.source for row in promised] == ["smote" if row.added else "" for row in promised]
    assert {row.source for row in promised} == {"smote", ""}


@pytest.mark.parametrize(
    "treatment", [{"alpha": 1.0}, {"prune": "class", "prune_rate": 0.5}, {"balance": 1.0, "undersample": "easiest"}]
)
def test_a_preview_says_how_hard_each_class_is_where_scores_decide(treatment):
    for label, row in enumerate(rows(**treatment)):
        assert row.hardness == pytest.approx(SCORES[TRAIN.labels == label].mean(), rel=1e-5)


@pytest.mark.parametrize(
    "treatment", [{"prune": "random", "prune_rate": 0.5}, {"balance": 1.0, "undersample": "random"}]
)
def test_a_preview_says_nothing_of_hardness_where_scores_do_not(treatment):
    assert [row.hardness for row in rows(**treatment)] == [None] * 4


def test_classes_are_evened_out_alike_whatever_the_sign_of_scores_that_choose_samples():
    tail = np.concatenate([np.flatnonzero(c == LABELS)[:size] for c, size in enumerate((100, 80, 50, 10))])
    below = SCORES[tail] - SCORES.max() - 1
    made = rows(TRAIN.take(tail), below, None, None, balance=1.0, undersample="easiest")
    assert [row.target for row in made] == [60] * 4
    assert all(row.hardness < 0 for row in made)


def of_bees(request):
    return np.flatnonzero(request.train.labels == 1)[: request.add]


WRONG = {
    "too few": (lambda r: Added(r.members[:1]), "must give 11 samples of class 'cat', and gave 1$"),
    "too many": (lambda r: Added(np.repeat(r.members[:1], r.add + 2)), "and gave 13$"),
    "others": (lambda r: Added(of_bees(r)), "and gave 0 and 11 of other classes$"),
    "others too": (
        lambda r: Added(np.concatenate([r.members[: r.add], of_bees(r)])),
        "and gave 11 and 11 of other classes$",
    ),
    "no samples": (lambda r: Added(r.members[: r.add] + N), "and gave 0 and 11 of other classes$"),
    "nothing": (lambda r: Added(), "and gave 0$"),
    "fractions": (
        lambda r: Added(r.members[: r.add] + 0.5),
        r"must name samples by whole numbers \(m,\), got float64 \(11,\)$",
    ),
    "a column": (
        lambda r: Added(r.members[: r.add, None]),
        r"must name samples by whole numbers \(m,\), got int64 \(11, 1\)$",
    ),
    "bare": (lambda r: r.members[: r.add], "must give an Added, got ndarray$"),
    "orphans": (
        lambda r: Added(images=r.train.images[: r.add]),
        r"uint8 images \(4, 4, 1\), each with a parent, got uint8 .* and 0 parents$",
    ),
    "floats": (lambda r: Added(images=np.zeros((r.add, 4, 4, 1)), parents=r.members[: r.add]), "got float64 "),
    "small": (lambda r: Added(images=r.train.images[: r.add, 1:], parents=r.members[: r.add]), r"got uint8 \(11, 3, "),
}


@pytest.mark.parametrize(("draw", "message"), WRONG.values(), ids=WRONG)
def test_what_an_oversampler_gives_is_held_against_what_it_was_asked_for(monkeypatch, draw, message):
    oversampler = Oversampler(lambda request, rng: draw(request), lambda request: None)
    monkeypatch.setitem(OVERSAMPLERS._entries, "mine", oversampler)
    with pytest.raises(InputError, match=f"oversampling 'mine' {message}" if message[0] == "m" else message):
        plan(alpha=1.0, oversample="mine")


@pytest.mark.parametrize(
    "draw",
    [
        lambda r: Added(r.members[: r.add].astype(np.uint64)),
        lambda r: Added(r.members[: r.add].tolist()),
        lambda r: Added([], images=r.train.images[: r.add], parents=r.members[: r.add].astype(np.uint64)),
    ],
)
def test_an_oversampler_may_name_samples_by_any_whole_numbers(monkeypatch, draw):
    oversampler = Oversampler(lambda request, rng: draw(request), lambda request: None)
    monkeypatch.setitem(OVERSAMPLERS._entries, "mine", oversampler)
    made = plan(alpha=1.0, oversample="mine")
    assert made.indices.dtype == made.parents.dtype == made.labels.dtype == np.int64
    assert len(made) == N


KEPT = {
    "too many": (lambda n, stay: np.arange(n), "must keep 31 of 100 samples, and kept 100"),
    "twice": (lambda n, stay: np.zeros(stay, np.int64), "must give different positions of 0..99"),
    "others": (lambda n, stay: np.arange(stay) + n, "must give different positions of 0..99"),
    "mask": (lambda n, stay: np.arange(n) < stay, r"must give positions \(n,\), got bool \(100,\)"),
}


@pytest.mark.parametrize(("give", "message"), KEPT.values(), ids=KEPT)
def test_what_an_undersampler_or_a_pruner_keeps_is_held_against_what_it_was_asked_for(monkeypatch, give, message):
    monkeypatch.setitem(UNDERSAMPLERS._entries, "mine", lambda scores, drop, rng: give(len(scores), len(scores) - drop))
    with pytest.raises(InputError, match=f"undersampling 'mine' {message}"):
        plan(alpha=1.0, undersample="mine", scores=np.where(LABELS == 0, -4.0, -1.0))
    if "must keep" not in message:  # how many stay is a pruner's own affair
        monkeypatch.setitem(PRUNERS._entries, "mine", lambda scores, labels, rate, rng: give(N, round(N * (1 - rate))))
        with pytest.raises(InputError, match=f"pruning 'mine' {message.replace('99', '399').replace('100', '400')}"):
            plan(prune="mine", prune_rate=0.5)


def fails(*_):
    raise KeyError("k")


@pytest.mark.parametrize(
    ("registry", "treatment", "says"),
    [
        (UNDERSAMPLERS, {"undersample": "mine"}, "undersampling 'mine' fails on class 'ant': KeyError: 'k'"),
        (OVERSAMPLERS, {"oversample": "mine"}, "oversampling 'mine' fails on class 'cat': KeyError: 'k'"),
        (PRUNERS, {"prune": "mine", "prune_rate": 0.5}, "pruning 'mine' fails: KeyError: 'k'"),
        (POLICIES, {"policy": "mine"}, "policy 'mine' fails: KeyError: 'k'"),
    ],
)
def test_what_fails_in_code_of_ones_own_is_named(monkeypatch, registry, treatment, says):
    mine = Oversampler(fails, lambda request: None) if registry is OVERSAMPLERS else fails
    monkeypatch.setitem(registry._entries, "mine", mine)
    with pytest.raises(InputError, match=says):
        plan(**{"alpha": 1.0, **treatment})


def test_what_may_be_otherwise_the_next_time_is_told_by_its_cause(monkeypatch):
    def full(request, rng):
        raise MemoryError

    monkeypatch.setitem(OVERSAMPLERS._entries, "mine", Oversampler(full, lambda request: None))
    with pytest.raises(InputError) as caught:
        plan(alpha=1.0, oversample="mine")
    assert isinstance(caught.value.__cause__, TRANSIENT)


def test_a_label_without_a_class_is_an_error_and_not_left_out():
    for make in (make_plan, preview):
        more = {"seed": 0} if make is make_plan else {}
        with pytest.raises(InputError, match=r"has the label 3, and there are 3 classes: number labels from 0$"):
            make(Treatment(), TRAIN, CLASSES[:3], scores=None, **more)


def test_what_is_not_the_training_samples_is_an_error():
    for train in (Dataset("d", TRAIN, TRAIN, CLASSES), (TRAIN.images, TRAIN.labels)):
        with pytest.raises(
            InputError, match=r"such as a data set's \.train or Samples\.of_labels\(labels\), got (Dataset|tuple)"
        ):
            plan(train=train)


@pytest.mark.parametrize("make", [lambda *a, **k: make_plan(*a, **k, seed=0), preview])
def test_the_scores_of_several_estimators_or_a_mapping_of_class_names_are_told_what_to_pass(make):
    with pytest.raises(InputError, match=r"scores are of one estimator: pass such as scores\['aum'\]$"):
        make(Treatment(alpha=1.0), TRAIN, CLASSES, scores={"aum": SCORES})
    with pytest.raises(
        InputError, match=r"alone, such as list\(id2label.values\(\)\) or list\(class_to_idx\), in the order of"
    ):
        make(Treatment(), TRAIN, dict(enumerate(CLASSES)), scores=None)


def test_the_names_in_a_plan_are_strings():
    found = make_plan(Treatment(), TRAIN, np.array(CLASSES), scores=None, seed=0).classes
    assert [type(row.name) for row in found] == [str] * 4


def test_a_number_is_not_taken_for_the_names_of_classes():
    with pytest.raises(InputError, match="classes must be the names of the classes: TypeError: 'int' object is not"):
        make_plan(Treatment(), TRAIN, 4, scores=None, seed=0)


@pytest.mark.parametrize("treatment", EVERY, ids=lambda t: f"{t['undersample']}-{t['oversample']}")
def test_labels_alone_have_the_plan_of_their_images_unless_it_needs_images(treatment):
    """And then the sentence names the oversamplings that do not."""
    alone, name = Samples.of_labels(LABELS), treatment["oversample"]
    if len(plan(**treatment).images) == 0:
        np.testing.assert_array_equal(plan(train=alone, **treatment).indices, plan(**treatment).indices)
        return
    without = "adjust, easy, hard, holdout, none, posthoc, random, reweight, weighted"
    says = f"oversampling '{name}' needs images, and these samples are labels alone: choose from {without}$"
    with pytest.raises(InputError, match=says):
        plan(train=alone, features=None, pool=None, **treatment)
    assert {row.infeasible for row in rows(train=alone, **treatment)} > {None}


def test_images_that_an_oversampler_of_ones_own_makes_of_labels_alone_are_not_lost(monkeypatch):
    def draw(request, rng):
        return Added(
            images=request.train.images[request.members[: request.add]], parents=request.members[: request.add]
        )

    monkeypatch.setitem(OVERSAMPLERS._entries, "mine", Oversampler(draw, lambda request: None))
    with pytest.raises(InputError, match="oversampling 'mine' needs images, and these samples are labels alone"):
        plan(train=Samples.of_labels(LABELS), alpha=1.0, oversample="mine")


def test_features_and_confidences_that_are_not_numbers_are_an_error():
    features = FEATURES.copy()
    features[np.flatnonzero(LABELS == 3)[5], 2] = np.nan
    with pytest.raises(InputError, match="the features of class 'dog' contain NaN or infinity"):
        plan(alpha=1.0, oversample="smote_encoder", features=features)
    for bad in ({"confidence": np.full(2000, np.nan)}, {"class_confidence": np.full(4, np.inf)}):
        with pytest.raises(InputError, match="the confidences in a pool contain NaN or infinity"):
            dataclasses.replace(POOL, **bad)
    with pytest.raises(InputError, match="a pool has a label 3, and the confidence of 3 classes"):
        Pool(POOL.samples, POOL.confidence, np.full(3, 0.5))


def test_an_oversampler_cannot_change_the_samples_of_all_others(monkeypatch):
    shown = []
    keep = Oversampler(lambda r, rng: shown.append(r) or Added(rng.choice(r.members, r.add)), lambda request: None)
    monkeypatch.setitem(OVERSAMPLERS._entries, "mine", keep)
    images = POOL.images.copy()
    plan(train=TRAIN.take(np.arange(N)), scores=SCORES.copy(), features=FEATURES.copy(), alpha=1.0,
         pool=Pool(Samples(images, POOL.labels)), oversample="mine")  # fmt: skip
    for r in shown:
        arrays = (r.members, r.holdout, r.train.images, r.train.labels, r.scores, r.features, r.pool.images)
        assert not any(array.flags.writeable for array in arrays)
    assert images.flags.writeable, "whose they are may do so"


@pytest.mark.parametrize(
    "treatment", [{"alpha": 1.0, "undersample": "none", "oversample": "none"}, {"prune": "none", "prune_rate": 0.3}]
)
def test_what_comes_to_the_control_needs_no_scores_either(treatment):
    made = plan(scores=None, features=None, pool=None, **treatment)
    np.testing.assert_array_equal(made.indices, np.arange(N))
    assert [(row.hardness, row.target) for row in made.classes] == [(None, 100)] * 4
