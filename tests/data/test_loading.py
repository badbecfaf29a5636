from pathlib import Path

import numpy as np
import pytest

from hardtune.data import DATASETS, load
from hardtune.data.samples import channel_statistics
from hardtune.errors import InputError


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(
        InputError, match="'mnist': choose from cifar10, cifar100, digits, fashion_mnist, or give the path"
    ):
        load("mnist")


def test_a_data_directory_that_does_not_exist_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(InputError, match=r"data directory '.*nowhere' is not a directory"):
        load("cifar10", tmp_path / "nowhere")
    monkeypatch.setenv("HARDTUNE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="HARDTUNE_DATA"):
        load("cifar10")


def test_a_named_data_set_has_its_own_image_size():
    with pytest.raises(InputError, match="digits has a size of its own"):
        load("digits", image_size=16)


def test_digits_are_the_real_ones_split_the_same_way_every_time():
    digits = load("digits")
    assert digits.train.images.shape == (1258, 8, 8, 1)
    assert digits.test.images.shape == (539, 8, 8, 1)
    assert digits.train.images.max() == 255
    assert digits.fingerprint == load("digits").fingerprint
    # Stratified: every class loses 30 %.
    shares = np.bincount(digits.test.labels) / (np.bincount(digits.test.labels) + np.bincount(digits.train.labels))
    np.testing.assert_allclose(shares, 0.3, atol=0.005)


def test_channel_statistics_are_those_of_the_pixels_in_0_to_1():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5000, 3, 5, 2), dtype=np.uint8)
    images[..., 1] //= 3
    images.flags.writeable = False
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), rtol=1e-10)


def test_a_channel_that_never_varies_gets_a_deviation_of_one():
    images = np.full((3, 2, 2, 1), 7, dtype=np.uint8)
    assert channel_statistics(images) == ((pytest.approx(7 / 255),), (1.0,))


def test_a_loader_that_returns_no_data_set_is_named(monkeypatch):
    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS._entries, "mine": lambda data_dir, progress: None})
    with pytest.raises(InputError, match="the loader of data set 'mine' must return a Dataset, got NoneType"):
        load("mine")


def test_a_loader_that_fails_is_named_with_its_line(monkeypatch):
    def loader(data_dir, progress):
        return {}["x"]

    monkeypatch.setattr(DATASETS, "_entries", {**DATASETS._entries, "mine": loader})
    with pytest.raises(InputError, match=r"^the loader of data set 'mine' fails: KeyError: 'x' \(test_loading.py:"):
        load("mine")


def test_every_registered_data_set_says_what_it_is():
    for name, loader in DATASETS.items():
        assert loader.__doc__, name
