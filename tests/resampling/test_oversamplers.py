"""The contract of every oversampler, and what tells each from the others."""

import dataclasses

import numpy as np
import pytest

from hardtune.data import Samples
from hardtune.errors import InputError
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool, Request
from hardtune.resampling.oversamplers.repeat import rank_weights
from hardtune.store import digest

LABEL = 1


def read_only(array):
    array.flags.writeable = False
    return array


def request(add=40, **changes):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100)
    train = Samples(read_only(rng.integers(0, 256, (300, 4, 4, 3), dtype=np.uint8)), read_only(labels))
    pool = Pool(
        Samples(rng.integers(0, 256, (360, 4, 4, 3), dtype=np.uint8), np.arange(360) % 3),
        confidence=read_only(rng.random(360)),
        class_confidence=read_only(np.array([0.9, 0.5, 0.7])),
    )
    made = Request(
        name="cat",
        label=LABEL,
        add=add,
        members=read_only(np.arange(100, 150)),
        holdout=read_only(np.arange(150, 200)),
        train=train,
        scores=read_only(rng.normal(size=300).astype(np.float32)),
        features=read_only(rng.normal(size=(300, 8)).astype(np.float32)),
        pool=pool,
    )
    return dataclasses.replace(made, **changes)


def draw(name, asked, seed=0):
    return OVERSAMPLERS[name].draw(asked, np.random.default_rng(seed))


ADDING = sorted(set(OVERSAMPLERS) - {"none", "reweight", "adjust", "posthoc"})
REPEATING = ("random", "easy", "hard", "weighted")
POOLING = ("pool_random", "pool_hard", "pool_mean")


@pytest.mark.parametrize("name", ADDING)
def test_exactly_as_many_are_added_as_asked_and_all_are_of_the_class(name):
    asked = request()
    assert OVERSAMPLERS[name].infeasible(asked) is None
    added = draw(name, asked)
    if added.indices is not None:
        assert len(added.indices) == 40
        assert (asked.train.labels[added.indices] == LABEL).all()
    else:
        assert added.images.shape == (40, 4, 4, 3)
        assert added.images.dtype == np.uint8
        assert added.parents.dtype == np.int64
        assert np.isin(added.parents, asked.members).all()


@pytest.mark.parametrize("name", ADDING)
def test_a_seed_decides_what_is_added(name):
    one, same, other = (draw(name, request(), seed) for seed in (0, 0, 1))
    for field in ("indices", "images", "parents"):
        if getattr(one, field) is not None:
            np.testing.assert_array_equal(getattr(one, field), getattr(same, field))
            assert (getattr(one, field) != getattr(other, field)).any()


@pytest.mark.parametrize("name", ADDING)
def test_nothing_is_added_where_nothing_is_asked(name):
    asked = request(add=0)
    assert OVERSAMPLERS[name].infeasible(asked) is None
    added = draw(name, asked)
    assert len(added.indices if added.indices is not None else added.images) == 0


@pytest.mark.parametrize("name", ["none", "reweight", "adjust", "posthoc"])
def test_none_adds_nothing_whatever_is_asked(name):
    added = draw(name, request())
    assert added.indices is None
    assert added.images is None


@pytest.mark.parametrize("name", REPEATING)
def test_own_samples_are_repeated_and_never_the_holdouts(name):
    asked = request(add=1000)
    assert set(draw(name, asked).indices) <= set(asked.members)


def test_hard_favours_the_hard_and_easy_the_easy():
    asked = request(add=200_000)
    scores = asked.scores[asked.members]
    means = {name: asked.scores[draw(name, asked).indices].mean() for name in REPEATING}
    assert means["easy"] < means["random"] < means["hard"] < means["weighted"]
    assert means["random"] == pytest.approx(scores.mean(), abs=0.01)


def test_the_least_favoured_sample_is_drawn_half_as_often_as_the_most_favoured():
    asked = request(add=500_000)
    counts = np.bincount(draw("hard", asked).indices, minlength=300)[asked.members]
    by_hardness = counts[np.argsort(asked.scores[asked.members])]
    assert by_hardness[0] / by_hardness[-1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, bool, list])
def test_rank_weights_are_those_of_the_numbers_whatever_their_type(dtype):
    low = -128 if dtype == np.int8 else 0
    favour = [low, 1, 1] if dtype is bool else [1, low, 3]
    given = favour if dtype is list else np.array(favour, dtype)
    np.testing.assert_array_equal(rank_weights(given), rank_weights(np.array(favour, np.float64)))


@pytest.mark.parametrize(("wrong", "got"), [([1.0, np.nan], "NaN"), ([[1.0]], r"\(1, 1\)"), (["a"], "ValueError")])
def test_rank_weights_of_what_has_no_rank_are_an_error(wrong, got):
    with pytest.raises(InputError, match=f"what is favoured must be .*{got}"):
        rank_weights(wrong)


def test_rank_weights_are_the_papers_formula():
    weights = rank_weights(np.arange(5.0))[::-1]  # from the favoured end
    r = np.array([0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(weights, 0.5 + 0.5 * (1 - np.exp(-5 * (1 - r))) / (1 - np.exp(-5)))
    assert list(rank_weights(np.array([7.0]))) == [1.0]
    assert list(rank_weights(np.array([7.0, 8.0]))) == [0.5, 1.0]
    tied = rank_weights(np.array([0.0, 1.0, 0.0, 0.0]))
    assert tied[0] == tied[2] == tied[3] == pytest.approx(rank_weights(np.arange(4.0))[1]), "the mean of their ranks"


def test_weighted_draws_in_proportion_to_the_score_above_the_easiest():
    asked = request(add=300_000)
    scores = np.zeros(300, np.float32)
    scores[asked.members] = -10 + np.arange(50)
    counts = np.bincount(draw("weighted", dataclasses.replace(asked, scores=scores)).indices, minlength=300)
    np.testing.assert_allclose(counts[asked.members] / 300_000, np.arange(50) / np.arange(50).sum(), atol=2e-3)


def test_weighted_is_uniform_where_all_scores_are_equal():
    asked = request(scores=np.ones(300, np.float32))
    assert len(draw("weighted", asked).indices) == 40


def test_the_holdout_gives_real_pruned_samples_each_once():
    asked = request(add=50)
    assert OVERSAMPLERS["holdout"].infeasible(asked) is None
    assert sorted(draw("holdout", asked).indices) == list(asked.holdout)


def test_a_short_holdout_names_the_class_and_both_counts():
    assert "'cat' should gain 51 samples" in OVERSAMPLERS["holdout"].infeasible(request(add=51))
    assert "set aside 50" in OVERSAMPLERS["holdout"].infeasible(request(add=51))


@pytest.mark.parametrize("name", ["smote", "smote_encoder"])
def test_too_few_samples_for_the_neighbours_name_the_class(name):
    assert OVERSAMPLERS[name].infeasible(request(members=np.arange(100, 106))) is None
    reason = OVERSAMPLERS[name].infeasible(request(members=np.arange(100, 105)))
    assert "'cat' has 5 samples" in reason
    assert "at least 6" in reason


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("hard", "scores", "scores"),
        ("smote_encoder", "features", "frozen encoder's features"),
        ("pool_random", "pool", "a pool of synthetic images"),
    ],
)
def test_what_an_oversampler_needs_and_has_not_is_said(name, missing, message):
    assert message in OVERSAMPLERS[name].infeasible(request(**{missing: None}))


@pytest.mark.parametrize("name", POOLING)
def test_pool_images_are_of_the_class_and_each_is_taken_once(name):
    asked = request()
    own = {image.tobytes() for image in asked.pool.images[asked.pool.labels == LABEL]}
    taken = [image.tobytes() for image in draw(name, asked).images]
    assert len(set(taken)) == 40
    assert set(taken) <= own


def confidence_of(asked, added):
    by_image = {image.tobytes(): c for image, c in zip(asked.pool.images, asked.pool.confidence, strict=True)}
    return np.array([by_image[image.tobytes()] for image in added.images])


def test_pool_hard_takes_the_less_confident_half_of_twice_as_many():
    asked = request(add=60)  # of 120 in the class, so the candidates are all of them
    own = np.sort(asked.pool.confidence[asked.pool.labels == LABEL])
    np.testing.assert_allclose(np.sort(confidence_of(asked, draw("pool_hard", asked))), own[:60])


def test_pool_mean_takes_those_closest_to_the_real_mean():
    asked = request(add=60)
    distance = np.abs(asked.pool.confidence[asked.pool.labels == LABEL] - 0.5)
    taken = np.abs(confidence_of(asked, draw("pool_mean", asked)) - 0.5)
    np.testing.assert_allclose(np.sort(taken), np.sort(distance)[:60])


def test_a_short_pool_names_the_class_and_both_counts():
    assert OVERSAMPLERS["pool_random"].infeasible(request(add=120)) is None
    assert "'cat' needs 121 images of the pool, and it has 120" in OVERSAMPLERS["pool_random"].infeasible(
        request(add=121)
    )
    assert "needs 122 images" in OVERSAMPLERS["pool_hard"].infeasible(request(add=61))


def test_a_pool_that_was_not_judged_or_is_of_another_size_is_said():
    asked = request()
    unjudged = dataclasses.replace(asked.pool, confidence=None, class_confidence=None)
    assert OVERSAMPLERS["pool_random"].infeasible(request(pool=unjudged)) is None
    assert "confidence" in OVERSAMPLERS["pool_hard"].infeasible(request(pool=unjudged))
    assert "confidence" in OVERSAMPLERS["pool_mean"].infeasible(request(pool=unjudged))
    half_judged = dataclasses.replace(asked.pool, class_confidence=None)
    assert OVERSAMPLERS["pool_hard"].infeasible(request(pool=half_judged)) is None
    assert "real images of each class" in OVERSAMPLERS["pool_mean"].infeasible(request(pool=half_judged))
    larger = dataclasses.replace(asked.pool, samples=Samples(np.zeros((360, 8, 8, 3), np.uint8), asked.pool.labels))
    assert "(8, 8, 3)" in OVERSAMPLERS["pool_random"].infeasible(request(pool=larger))


def test_a_pool_of_anything_but_samples_and_a_confidence_for_each_is_refused():
    samples = Samples(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]))
    with pytest.raises(InputError, match=r"a pool must be of Samples\(images, labels\), got ndarray"):
        Pool(samples.images, samples.labels)
    with pytest.raises(InputError, match="the confidence of a pool must be a numpy array, got list"):
        Pool(samples, [0.5, 0.5])
    with pytest.raises(InputError, match=r"one confidence for each image, got \(3,\)"):
        Pool(samples, np.zeros(3))


def test_a_pool_has_the_very_arrays_of_its_samples_which_are_so_sent_to_workers_once():
    samples = Samples(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]))
    pool = Pool(samples)
    assert pool.images is samples.images
    assert pool.labels is samples.labels


def test_networks_of_a_pool_are_stored_by_its_samples_and_by_what_judged_them():
    samples, by_class = Samples(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])), np.full(2, 0.5)
    one, same, other = (Pool(samples, np.array(given), by_class) for given in ([0.1, 0.2], [0.1, 0.2], [0.1, 0.3]))
    assert Pool(samples).fingerprint == samples.fingerprint
    assert one.fingerprint == same.fingerprint == f"{samples.fingerprint}-{digest(np.array([0.1, 0.2]), by_class)}"
    assert one.fingerprint != other.fingerprint
