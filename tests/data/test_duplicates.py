"""Equal images are found, and only they."""

import numpy as np
import pytest

from hardtune.data import Samples, duplicates
from hardtune.data.duplicates import first_same


@pytest.mark.parametrize("shape", [(5, 3, 1), (4, 4, 3), (1, 1, 1)])
def test_they_are_those_that_comparing_each_with_each_finds(shape, monkeypatch):
    monkeypatch.setattr(duplicates, "_BYTES", 100)
    rng = np.random.default_rng(0)
    among = rng.integers(256, size=(50, *shape), dtype=np.uint8)
    among[30:40] = among[3:13]
    images = np.concatenate([among[25:45], rng.integers(256, size=(20, *shape), dtype=np.uint8)])
    equal = (images[:, None] == among).all(axis=(2, 3, 4))
    assert first_same(images, among).tolist() == np.where(equal.any(1), equal.argmax(1), -1).tolist()


def test_images_whose_keys_are_equal_by_chance_are_not(monkeypatch):
    monkeypatch.setattr(duplicates, "_keys", lambda images: np.zeros(len(images), np.uint64))
    images = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    assert first_same(images, images[:1]).tolist() == [0, -1, -1]


def test_there_are_none_among_images_of_another_size_or_among_none():
    images = np.zeros((2, 3, 3, 1), np.uint8)
    assert first_same(images, np.zeros((2, 3, 4, 1), np.uint8)).tolist() == [-1, -1]
    assert first_same(images, images[:0]).tolist() == [-1, -1]
    assert first_same(images[:0], images).tolist() == []


def test_samples_that_are_labels_alone_have_all_the_same_pixels_namely_none():
    images = Samples.of_labels([0, 1]).images
    assert first_same(images, images).tolist() == [0, 0]


def test_images_that_differ_in_few_places_are_told_apart():
    images = np.zeros((400, 8, 8, 1), np.uint8)
    images[:, :, 7, 0] = np.random.default_rng(0).integers(0, 256, (400, 8))  # the last byte of each word of eight
    np.testing.assert_array_equal(first_same(images, images), np.arange(400))
