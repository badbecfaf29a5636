import numpy as np
import pytest

from hardtune.data import Dataset, Samples, harder, long_tailed, with_label_noise
from hardtune.errors import InputError


def balanced(classes: int, each: int) -> Dataset:
    labels = np.tile(np.arange(classes), each)
    images = np.arange(len(labels) * 4, dtype=np.uint32).view(np.uint8).reshape(len(labels), 4, 4, 1)
    test = Samples(images[:classes], labels[:classes])
    return Dataset("d", Samples(images, labels), test, tuple(map(str, range(classes))), (0.5,), (0.25,))


@pytest.mark.parametrize(
    ("classes", "each", "imbalance", "size"),
    [(10, 5000, 100, 12406), (10, 5000, 10, 20431), (100, 500, 100, 10847), (100, 500, 50, 12608), (2, 98, 49, 100)],
)
def test_the_long_tails_of_cifar_are_as_large_as_in_the_literature(classes, each, imbalance, size):
    """Cui et al., CVPR 2019, and all who compare with them."""
    sizes = np.bincount(long_tailed(balanced(classes, each), imbalance).train.labels)
    assert sizes.sum() == size
    assert (sizes[0], sizes[-1]) == (each, each // imbalance)
    assert (np.diff(sizes) <= 0).all()


def test_a_long_tail_is_drawn_at_random_leaves_the_test_split_and_is_the_same_each_time():
    data = balanced(4, 100)
    tail = long_tailed(data, 10)
    assert tail.test is data.test
    last = np.flatnonzero(data.train.labels == 3)
    kept = tail.origin.rows[tail.train.labels == 3]
    assert set(kept) < set(last)
    assert kept.tolist() != last[:10].tolist()
    np.testing.assert_array_equal(tail.train.images, data.train.images[tail.origin.rows])
    assert tail.fingerprint == long_tailed(data, 10).fingerprint != data.fingerprint
    assert tail.name == "d-imbalance-10"


def test_unequal_classes_keep_their_share_and_each_a_sample():
    data = balanced(3, 100)
    few = data.part(np.flatnonzero((data.train.labels != 1) | (np.arange(300) < 30)))
    assert np.bincount(long_tailed(few, 4).train.labels).tolist() == [100, 5, 25]
    assert np.bincount(long_tailed(few, 1000).train.labels).tolist() == [100, 1, 1]


def test_label_noise_gives_exactly_the_share_any_other_label_and_knows_the_true_ones():
    data = balanced(5, 1000)
    noisy = with_label_noise(data, 0.3)
    wrong = noisy.train.labels != data.train.labels
    assert wrong.sum() == 1500
    assert np.shares_memory(noisy.train.images, data.train.images)
    np.testing.assert_array_equal(noisy.origin.labels[noisy.origin.rows], data.train.labels)
    pairs = np.bincount(data.train.labels[wrong] * 5 + noisy.train.labels[wrong], minlength=25).reshape(5, 5)
    assert (np.diag(pairs) == 0).all()
    expected = 1500 / 20  # each pair of a true and another label is as likely: 5 standard deviations
    assert np.abs(pairs[~np.eye(5, dtype=bool)] - expected).max() < 5 * np.sqrt(expected)
    assert noisy.test is data.test
    assert noisy.fingerprint == with_label_noise(data, 0.3).fingerprint


def test_both_at_once_are_traced_to_the_data_as_they_were():
    data = balanced(4, 100)
    both = harder(data, imbalance=10, label_noise=0.1)
    assert both.name == "d-imbalance-10-label-noise-0.1"
    np.testing.assert_array_equal(both.train.images, data.train.images[both.origin.rows])
    wrong = both.train.labels != data.train.labels[both.origin.rows]
    assert wrong.sum() == round(0.1 * len(both.train))


def test_neither_leaves_the_data_as_they_are():
    data = balanced(4, 10)
    assert harder(data) is data


@pytest.mark.parametrize("imbalance", [0.5, 0, -1, float("nan"), float("inf"), True])
def test_an_imbalance_below_1_is_refused(imbalance):
    with pytest.raises(InputError, match="imbalance is how many times as large"):
        long_tailed(balanced(2, 10), imbalance)


def test_numbers_of_numpy_are_numbers():
    data = balanced(10, 500)
    for kind in (np.int64, np.float32):
        assert long_tailed(data, kind(100)).fingerprint == long_tailed(data, 100).fingerprint
    assert with_label_noise(data, np.float32(0.25)).fingerprint == with_label_noise(data, 0.25).fingerprint


@pytest.mark.parametrize("rate", [-0.1, 1, float("nan"), True])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(InputError, match="label_noise is a share of the training samples"):
        with_label_noise(balanced(2, 10), rate)
