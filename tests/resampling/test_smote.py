"""SMOTE: images on the lines between neighbours, distributed as imbalanced-learn's."""

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE
from sklearn.datasets import load_digits

from hardtune.data import Samples
from hardtune.resampling.neighbours import nearest
from hardtune.resampling.oversamplers import OVERSAMPLERS, Request
from hardtune.resampling.oversamplers.smote import NEIGHBOURS


def digits():
    bunch = load_digits()
    images = np.rint(bunch.images * 255 / 16).astype(np.uint8)[..., None]
    return Samples(images, bunch.target.astype(np.int64))


def eights(add, features=None):
    train = digits()
    members = np.flatnonzero(train.labels == 8)
    return Request("8", 8, add, members, np.empty(0, np.int64), train, None, features, None)


def draw(asked, name="smote", seed=0):
    return OVERSAMPLERS[name].draw(asked, np.random.default_rng(seed))


def test_every_image_lies_between_its_parent_and_one_of_the_parents_neighbours():
    asked = eights(300)
    added = draw(asked)
    points = asked.train.images[asked.members].reshape(len(asked.members), -1)
    near = asked.members[nearest(points, np.arange(len(asked.members)), NEIGHBOURS)]
    for image, parent in zip(added.images, added.parents, strict=True):
        x = asked.train.images[parent].astype(float)
        others = asked.train.images[near[np.searchsorted(asked.members, parent)]].astype(float)
        steps = others - x
        u = np.clip(((image - x) * steps).sum((1, 2, 3)) / (steps**2).sum((1, 2, 3)), 0, 1)
        gaps = np.abs(x + u[:, None, None, None] * steps - image).max((1, 2, 3))
        assert gaps.min() < 2  # rounding to whole grey values moves a pixel by a half, and u with it


def test_u_is_uniform_and_parents_and_neighbours_equally_likely():
    asked = eights(20_000)
    added = draw(asked)
    counts = np.bincount(added.parents)[asked.members]
    assert counts.min() > 0.5 * counts.mean()
    images = asked.train.images.astype(float)
    share = []
    for image, parent in list(zip(added.images, added.parents, strict=True))[:500]:
        moved = np.abs(image - images[parent]).sum()
        share.append(moved)
    whole = np.mean(
        [np.abs(images[n] - images[p]).sum() for p in asked.members for n in asked.members[_neighbours_of(asked, p)]]
    )
    assert np.mean(share) == pytest.approx(whole / 2, rel=0.1)


def _neighbours_of(asked, parent):
    points = asked.train.images[asked.members].reshape(len(asked.members), -1)
    return nearest(points, np.searchsorted(asked.members, [parent]), NEIGHBOURS)[0]


def test_each_neighbour_of_a_parent_is_its_partner_as_often_as_another():
    # Six images of one bright pixel each: everyone's neighbours are the five others, and a mixture shows its partner.
    images = (200 * np.eye(6, dtype=np.uint8)).reshape(6, 2, 3, 1)
    asked = Request("a", 0, 6000, np.arange(6), np.empty(0, np.int64), Samples(images, np.zeros(6, np.int64)))
    added = draw(asked)
    mixed = added.images.reshape(6000, 6).astype(int)
    mixed[np.arange(6000), added.parents] = 0
    seen = mixed.any(axis=1)
    pairs = np.bincount(6 * added.parents[seen] + mixed[seen].argmax(axis=1), minlength=36).reshape(6, 6)
    assert (pairs[~np.eye(6, dtype=bool)] > 140).all()  # of 200 that are to be expected


def test_the_result_is_distributed_as_imbalanced_learns():
    asked = eights(3000)
    ours = draw(asked).images.reshape(3000, -1).astype(float)
    own = asked.train.images[asked.members].reshape(len(asked.members), -1).astype(float)
    others = np.zeros((len(own) + 3000, 64))  # a class large enough that imbalanced-learn makes 3,000 eights
    stacked, labels = np.vstack([own, others]), np.repeat([8, 0], [len(own), len(others)])
    made, made_labels = SMOTE(k_neighbors=5, random_state=0).fit_resample(stacked, labels)
    theirs = made[len(stacked) :]
    assert (made_labels[len(stacked) :] == 8).all()
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=6)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), atol=6)


def test_grey_values_are_rounded_not_cut_off():
    images = np.repeat(np.array([0, 1], np.uint8), 3).reshape(6, 1, 1, 1)
    asked = Request("a", 0, 20_000, np.arange(6), np.empty(0, np.int64), Samples(images, np.zeros(6, np.int64)))
    assert draw(asked).images.mean() == pytest.approx(0.5, abs=0.02)


def test_a_class_of_one_image_many_times_gives_that_image():
    images = np.full((8, 2, 2, 1), 200, np.uint8)
    asked = Request("a", 0, 20, np.arange(8), np.empty(0, np.int64), Samples(images, np.zeros(8, np.int64)))
    assert (draw(asked).images == 200).all()


def test_encoder_neighbours_are_chosen_by_features_and_mixed_in_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 3, 3, 1), dtype=np.uint8)
    # In pixels all are alike; the features make two groups of twenty that never mix.
    features = np.repeat([[0.0], [100.0]], 20, axis=0) + rng.normal(size=(40, 1))
    images[:20, 0], images[20:, 0] = 0, 255
    asked = Request(
        "a", 0, 200, np.arange(40), np.empty(0, np.int64), Samples(images, np.zeros(40, np.int64)), features=features
    )
    added = draw(asked, "smote_encoder")
    assert set(np.unique(added.images[:, 0])) == {0, 255}
    np.testing.assert_array_equal(added.images[:, 0, 0, 0] == 255, added.parents >= 20)


@pytest.mark.parametrize("name", ["smote", "smote_encoder"])
def test_six_samples_are_enough_for_five_neighbours_and_five_are_not(name):
    def asked(members, add=3):
        train = Samples(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1), np.zeros(8, np.int64))
        return Request("a", 0, add, np.arange(members), np.empty(0, np.int64), train, features=np.ones((8, 2)))

    check = OVERSAMPLERS[name].infeasible
    assert check(asked(6)) is None
    assert len(draw(asked(6), name).images) == 3
    assert "'a' has 5 samples, and SMOTE with 5 neighbours needs at least 6" in check(asked(5))
    assert check(asked(5, add=0)) is None
