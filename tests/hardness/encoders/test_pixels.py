import numpy as np
import pytest

from hardtune.data import Dataset, Samples, Split, load
from hardtune.errors import InputError
from hardtune.hardness.encoders import encode


def split_of(images: np.ndarray) -> Split:
    images.flags.writeable = False
    samples = Samples(images, np.arange(len(images)) % 2)
    channels = images.shape[-1]
    return Dataset("d", samples, samples, ("a", "b"), (0.5,) * channels, (0.5,) * channels).hold_out("test", seed=0)


def test_features_are_the_principal_components_of_standardised_pixels():
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    split = load("digits").hold_out(0.1, seed=0)
    features = encode("pixels", split)
    flat = split.train.images.reshape(len(split.train), -1).astype(np.float64)
    reference = PCA(features.shape[1], svd_solver="full").fit_transform(StandardScaler().fit_transform(flat))
    np.testing.assert_allclose(np.abs(features), np.abs(reference), atol=1e-4)
    assert features.dtype == np.float32


def test_pixels_that_never_vary_and_pixels_that_copy_others_add_no_components():
    rng = np.random.default_rng(0)
    images = np.zeros((50, 4, 4, 1), np.uint8)
    images[:, 0, :3, 0] = rng.integers(0, 256, (50, 3))
    images[:, 1, :3, 0] = images[:, 0, :3, 0]
    assert encode("pixels", split_of(images)).shape == (50, 3)


def test_there_are_at_most_256_components_even_of_large_images():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 40, 50, 1), dtype=np.uint8)
    assert encode("pixels", split_of(images)).shape == (300, 256)


def test_every_call_gives_the_same_features_and_progress_ends_at_all_images():
    split = load("digits").hold_out(0.1, seed=0)
    calls: list[tuple[int, int]] = []
    first = encode("pixels", split, progress=lambda done, of: calls.append((done, of)))
    np.testing.assert_array_equal(first, encode("pixels", split))
    assert calls[-1] == (len(split.train), len(split.train))


def test_images_that_are_all_alike_are_refused():
    with pytest.raises(InputError, match="all alike"):
        encode("pixels", split_of(np.full((4, 2, 2, 1), 9, np.uint8)))
