import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardtune.data import fashion_mnist, load
from hardtune.data.fashion_mnist import CLASSES, DEBIAN
from hardtune.errors import InputError


@pytest.fixture(autouse=True)
def without_debians_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "no package")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_idx(folder: Path, compress: bool) -> tuple[np.ndarray, np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 2)
    for split in ("train", "t10k"):
        for name, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
            content = idx(array)
            path = folder / f"{split}-{name}{'.gz' * compress}"
            path.write_bytes(gzip.compress(content) if compress else content)
    return images, labels


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("sub", [".", "FashionMNIST/raw"])
def test_idx_files_are_read_plain_or_gzipped_from_where_torchvision_puts_them(tmp_path: Path, sub: str, compress: bool):
    images, labels = write_idx(tmp_path / sub, compress)
    data = load("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(data.train.images, images[..., None])
    np.testing.assert_array_equal(data.test.labels, labels)
    assert data.classes[9] == "Ankle boot"
    assert data.mean == (pytest.approx((images / 255).mean()),)


def test_a_folder_of_images_with_ten_classes_serves_as_well(tmp_path: Path):
    for split in ("train", "test"):
        for i in range(10):
            (tmp_path / split / f"{i}").mkdir(parents=True)
            Image.fromarray(np.full((28, 28), i, dtype=np.uint8)).save(tmp_path / split / f"{i}" / "0.png")
    data = load("fashion_mnist", tmp_path)
    np.testing.assert_array_equal(data.train.images[:, 0, 0, 0], data.train.labels)


def test_a_truncated_file_is_named(tmp_path: Path):
    write_idx(tmp_path, compress=False)
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="t10k-images-idx3-ubyte is not a whole idx file"):
        load("fashion_mnist", tmp_path)


def test_a_broken_archive_is_named(tmp_path: Path):
    write_idx(tmp_path, compress=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"cannot read .*train-labels-idx1-ubyte\.gz"):
        load("fashion_mnist", tmp_path)


def test_without_files_and_network_it_says_what_was_looked_for_where_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from torchvision.datasets import FashionMNIST

    monkeypatch.setattr(FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(InputError) as error:
        load("fashion_mnist", tmp_path)
    message = str(error.value)
    for part in ("train-images-idx3-ubyte", str(tmp_path), "dataset-fashion-mnist", "--data-dir", "HARDTUNE_DATA"):
        assert part in message
    assert "\n" not in message
    assert not list(tmp_path.glob("**/*idx*"))


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the real files: apt-get install dataset-fashion-mnist")
def test_the_real_fashion_mnist():
    data = load("fashion_mnist", DEBIAN)
    assert data.train.images.shape == (60_000, 28, 28, 1)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.classes == CLASSES
    # Widely quoted for Fashion-MNIST.
    assert data.mean == (pytest.approx(0.2860, abs=5e-5),)
    assert data.std == (pytest.approx(0.3530, abs=5e-5),)
