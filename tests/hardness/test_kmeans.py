import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans, MiniBatchKMeans

from hardtune.errors import InputError
from hardtune.hardness import kmeans as module
from hardtune.hardness.kmeans import centre_distance


def three_blobs(samples=600):
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [20, 0], [0, 20]])
    return (centres[np.arange(samples) % 3] + rng.normal(size=(samples, 2))).astype(np.float32)


@pytest.mark.parametrize("exact", [10, 100_000])
def test_the_distance_is_to_the_nearest_centre_by_batches_or_at_once(exact, monkeypatch):
    monkeypatch.setattr(module, "_EXACT", exact)
    features = three_blobs()
    centres = np.stack([features[c::3].mean(0) for c in range(3)])
    expected = np.linalg.norm(features[:, None] - centres, axis=2).min(axis=1)
    np.testing.assert_allclose(centre_distance(features, 3, seed=0), expected, atol=0.15 if exact == 10 else 1e-3)


def test_mini_batches_are_for_what_would_take_long_and_do_not_take_long_to_begin(monkeypatch):
    used = []
    for kind in (KMeans, MiniBatchKMeans):
        monkeypatch.setattr(kind, "fit", lambda self, x, fit=kind.fit: used.append(self) or fit(self, x))
    monkeypatch.setattr(module, "_EXACT", 5000)
    centre_distance(three_blobs(), 3, seed=0)
    centre_distance(three_blobs(), 10, seed=0)
    assert [type(one) for one in used] == [KMeans, MiniBatchKMeans]
    centre_distance(three_blobs(20_000), 3, seed=0)
    assert used[-1].init_size == 4096, "of 49,152, the first 1000 centres take hours to choose"


def test_features_without_clusters_are_refused_as_the_estimators_refuse_them():
    features = three_blobs()
    for wrong, says in (
        (np.where(np.arange(600)[:, None] == 3, np.nan, features), "the features contain NaN or infinity"),
        (features[:, 0], r"features must be \(N, D\), one row for each sample, got \(600,\)"),
    ):
        with pytest.raises(InputError, match=says):
            centre_distance(wrong, 3, seed=0)
    np.testing.assert_array_equal(centre_distance(torch.from_numpy(features), 3, 0), centre_distance(features, 3, 0))


@pytest.mark.parametrize("exact", [10, 100_000])
@pytest.mark.parametrize(
    ("unit", "origin", "dtype"),
    [(1, 1e6, np.float64), (1, 1e8, np.float64), (1e20, 0, np.float32), (1e-30, 0, np.float32), (1e200, 0, np.float64)],
)
def test_neither_the_unit_nor_the_origin_of_the_features_matters(unit, origin, dtype, exact, monkeypatch):
    monkeypatch.setattr(module, "_EXACT", exact)
    features = three_blobs().astype(dtype)
    found = centre_distance(dtype(unit) * features + dtype(origin), 3, seed=0)
    np.testing.assert_allclose(found / unit, centre_distance(features, 3, seed=0), rtol=1e-3, atol=1e-5)


def test_features_that_cannot_be_subtracted_from_one_another_are_an_error():
    with pytest.raises(InputError, match="too large to be subtracted"):
        centre_distance(np.array([[1.7e308], [1.7e308], [-1.7e308]]), 1, seed=0)


@pytest.mark.parametrize(("count", "centres"), [(0, 3), (5, 0), (5, -1), (5, 2.5), (5, None)])
def test_no_samples_or_no_centres_are_an_error(count, centres):
    with pytest.raises(InputError, match=f"k-means needs a sample and a centre at least, got {count} and {centres}"):
        centre_distance(three_blobs()[:count], centres, seed=0)


def test_fewer_samples_than_centres_are_all_at_a_centre():
    np.testing.assert_allclose(centre_distance(three_blobs(2), 5, seed=0), 0, atol=1e-6)


def test_any_seed_will_do_and_gives_one_result():
    features = three_blobs()
    one, again = (centre_distance(features, 3, seed=2**63 - 1) for _ in range(2))
    np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize("exact", [10, 100_000])
def test_where_there_are_no_clusters_to_find_the_seed_decides(exact, monkeypatch):
    monkeypatch.setattr(module, "_EXACT", exact)
    features = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    one, same, other = (centre_distance(features, 10, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
