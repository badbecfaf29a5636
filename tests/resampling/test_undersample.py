"""Which samples an easy class loses: the easiest, which are not those with the lowest AUM."""

import numpy as np
import pytest

from hardtune.resampling.undersample import UNDERSAMPLERS

SCORES = np.random.default_rng(0).normal(size=50).astype(np.float32)
SCORES.flags.writeable = False


@pytest.mark.parametrize("name", ["easiest", "random"])
def test_exactly_as_many_as_asked_are_dropped_and_none_twice(name):
    kept = UNDERSAMPLERS[name](SCORES, 20, np.random.default_rng(0))
    assert len(kept) == 30
    assert (np.diff(kept) > 0).all()


def test_easiest_keeps_the_hardest():
    kept = UNDERSAMPLERS["easiest"](SCORES, 20, np.random.default_rng(0))
    assert SCORES[kept].min() > np.delete(SCORES, kept).max()


def test_easiest_keeps_low_aum_because_low_aum_is_hard():
    aum = np.array([9.0, 1.0, 5.0])
    assert list(UNDERSAMPLERS["easiest"](-aum, 2, np.random.default_rng(0))) == [1]


def test_of_equally_easy_samples_the_easiest_are_drawn_by_the_generator():
    tied = np.zeros(1000)
    kept, same, other = (UNDERSAMPLERS["easiest"](tied, 400, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert abs(kept.mean() - 499.5) < 50
    np.testing.assert_array_equal(kept, same)
    assert set(kept) != set(other)


def test_random_is_decided_by_the_generator_alone_and_drops_more_on_top():
    drop = UNDERSAMPLERS["random"]
    ten, twenty = (drop(SCORES, count, np.random.default_rng(3)) for count in (10, 20))
    np.testing.assert_array_equal(ten, drop(-SCORES, 10, np.random.default_rng(3)))
    assert set(twenty) < set(ten)
    assert set(ten) != set(drop(SCORES, 10, np.random.default_rng(4)))


@pytest.mark.parametrize("name", ["none", "reweight", "adjust", "posthoc"])
def test_none_keeps_all(name):
    assert len(UNDERSAMPLERS[name](SCORES, 20, np.random.default_rng(0))) == 50
