"""Nearest neighbours: scikit-learn's, whatever the points are like and however they are looked for."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from hardtune.errors import InputError
from hardtune.resampling import neighbours
from hardtune.resampling.neighbours import nearest

DIGITS = load_digits().data


def distances(points, rows, found):
    points = points.astype(np.float64)
    return np.linalg.norm(points[found] - points[rows][:, None], axis=2)


EXTREMES = 255 * (DIGITS > 7).astype(np.uint8)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(
    "points", [DIGITS.astype(np.uint8), EXTREMES, DIGITS + 1000.0], ids=["bytes", "extremes", "far from zero"]
)
def test_they_are_as_near_as_scikit_learns(points, integers, monkeypatch):
    if integers and not neighbours._multiplies_bytes():
        pytest.skip("this CPU has no fast products of bytes")
    monkeypatch.setattr(neighbours, "_multiplies_bytes", lambda: integers)
    rows = np.arange(0, len(points), 3)
    theirs = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points[rows])[0][:, 1:]
    np.testing.assert_allclose(distances(points, rows, nearest(points, rows, 5)), theirs, rtol=1e-6)


def test_a_sample_is_not_its_own_neighbour_but_its_copy_is():
    points = np.array([[0.0, 0], [0, 0], [5, 5], [9, 9]])
    assert nearest(points, np.array([0, 1]), 1).tolist() == [[1], [0]]


def test_they_do_not_depend_on_the_blocks_they_are_found_in(monkeypatch):
    points = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    whole = nearest(points, np.arange(0, 200, 3), 5)
    monkeypatch.setattr(neighbours, "_ROWS", 7)
    np.testing.assert_array_equal(nearest(points, np.arange(0, 200, 3), 5), whole)


@pytest.mark.skipif(not neighbours._multiplies_bytes(), reason="this CPU has no fast products of bytes")
def test_pixels_are_compared_exactly():
    points = np.random.default_rng(0).integers(0, 256, (500, 3072), dtype=np.uint8)
    points[1:4] = points[0]
    points[1, 0] ^= 1
    points[2, :2] ^= 1
    points[3, :3] ^= 1  # at 1, 2 and 3 of distances of some 30 million
    assert nearest(points, np.array([0]), 3).tolist() == [[1, 2, 3]]


def test_sums_that_saturate_are_not_trusted():
    """Without VNNI, which oneDNN may be told to do without, it adds products of bytes in 16 bits."""
    asks = "from hardtune.resampling.neighbours import _multiplies_bytes; print(_multiplies_bytes())"
    without = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", asks], env=without, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_torch_without_onednn_finds_the_same(monkeypatch):
    points = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    whole = nearest(points, np.arange(200), 5)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    np.testing.assert_array_equal(nearest(points, np.arange(200), 5), whole)


def test_the_points_are_left_as_they_are():
    points = DIGITS.copy()
    points.flags.writeable = False
    nearest(points, np.arange(10), 3)
    np.testing.assert_array_equal(points, DIGITS)


def test_grey_pixels_of_one_byte_have_their_neighbours():
    """Of which torch's product of bytes is none: it leaves the memory as it was."""
    points = np.array([[0], [1], [3], [7], [100], [200]], np.uint8)
    for _ in range(3):
        assert nearest(points, np.array([0, 5]), 2).tolist() == [[1, 2], [4, 3]]


@pytest.mark.parametrize("unit", [1e-25, 1e-6, 1e6, 1e20])
def test_the_unit_of_the_features_does_not_matter(unit):
    points = np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
    there = (points * np.float32(unit)).astype(np.float32)
    np.testing.assert_array_equal(nearest(there, np.arange(200), 1), nearest(points, np.arange(200), 1))


@pytest.mark.parametrize("unit", [1e-200, 1e-50, 1e39, 1e200])
def test_the_unit_of_features_beyond_float32_does_not_matter(unit):
    points = np.random.default_rng(0).normal(size=(200, 30))
    np.testing.assert_array_equal(nearest(unit * points, np.arange(200), 1), nearest(points, np.arange(200), 1))


@pytest.mark.parametrize("origin", [0.0, 2.5e38])
def test_float32_features_near_its_largest_number_have_their_neighbours(origin):
    points = np.random.default_rng(0).uniform(-1, 1, size=(200, 8)).astype(np.float32)
    there = (points * (0.8e38 if origin else 3.4e38) + origin).astype(np.float32)
    np.testing.assert_array_equal(nearest(there, np.arange(200), 1), nearest(points, np.arange(200), 1))


def test_float64_is_centred_before_it_is_rounded():
    points = np.random.default_rng(0).normal(size=(200, 30))
    np.testing.assert_array_equal(nearest(points + 1e7, np.arange(200), 3), nearest(points, np.arange(200), 3))


@pytest.mark.parametrize("k", [0, 4, 5])
def test_more_neighbours_than_there_are_other_points_are_an_error(k):
    for points in (np.zeros((4, 2)), np.zeros((4, 2), np.uint8)):
        with pytest.raises(InputError, match=f"4 points have 1 to 3 neighbours each, got k={k}"):
            nearest(points, np.array([0]), k)


def test_queries_are_rows_of_any_whole_numbers():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert nearest(points, np.array([0, 2], np.uint8), 2).tolist() == [[1, 2], [1, 0]]
    for wrong in (np.array([True, False, True, False]), np.array([0.5]), np.array([4]), np.array([-1])):
        with pytest.raises(InputError, match=r"queries must be whole numbers in 0\.\.3"):
            nearest(points, wrong, 2)
    assert nearest(points, np.array([], np.int64), 5).shape == (0, 5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_points_that_are_nowhere_are_an_error(wrong):
    with pytest.raises(InputError, match="the points contain NaN or infinity"):
        nearest(np.array([[0.0], [1.0], [wrong]]), np.array([0]), 1)
