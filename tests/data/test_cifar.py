import hashlib
import http.server
import os
import pickle
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardtune.data import load
from hardtune.data.samples import channel_statistics
from hardtune.errors import InputError

REAL = Path(os.environ.get("HARDTUNE_DATA", "~/data")).expanduser()


def write_batches(folder: Path, cifar: int) -> np.ndarray:
    """Two images a file in the layout of the published batches; returns the first training image, (32, 32, 3)."""
    rng = np.random.default_rng(cifar)
    key, names_key = (b"labels", b"label_names") if cifar == 10 else (b"fine_labels", b"fine_label_names")
    train = [f"data_batch_{i}" for i in range(1, 6)] if cifar == 10 else ["train"]
    test, meta = ("test_batch", "batches.meta") if cifar == 10 else ("test", "meta")
    folder.mkdir(parents=True)
    images = {}
    for name in [*train, test]:
        images[name] = rng.integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
        batch = {b"data": images[name].reshape(2, -1), key: [0, cifar - 1], b"filenames": [b"a", b"b"]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
    names = [f"class {i}".encode() for i in range(cifar)]
    (folder / meta).write_bytes(pickle.dumps({names_key: names}, protocol=4))
    return images[train[0]][0].transpose(1, 2, 0)


FOLDERS = {10: "cifar-10-batches-py", 100: "cifar-100-python"}
ARCHIVES = {10: "cifar-10-python.tar.gz", 100: "cifar-100-python.tar.gz"}


@pytest.mark.parametrize("cifar", [10, 100])
@pytest.mark.parametrize("at", ["itself", "in its folder", "in its archive"])
def test_batches_are_read_wherever_they_are(tmp_path: Path, cifar: int, at: str):
    folder = tmp_path / FOLDERS[cifar]
    first = write_batches(folder, cifar)
    if at == "in its archive":
        with tarfile.open(tmp_path / ARCHIVES[cifar], "w:gz") as archive:
            archive.add(folder, FOLDERS[cifar])
        for file in folder.iterdir():
            file.unlink()
    data = load(f"cifar{cifar}", folder if at == "itself" else tmp_path)
    np.testing.assert_array_equal(data.train.images[0], first)
    assert data.train.labels.tolist() == [0, cifar - 1] * (5 if cifar == 10 else 1)
    assert data.test.images.shape == (2, 32, 32, 3)
    assert data.classes[3] == "class 3"
    assert data.mean == ((0.4914, 0.4822, 0.4465) if cifar == 10 else (0.5071, 0.4867, 0.4408))
    assert data.std == ((0.2023, 0.1994, 0.2010) if cifar == 10 else (0.2675, 0.2565, 0.2761))


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return os.mkdir, (str(self.victim),)


def test_pickled_code_in_a_batch_is_refused_and_does_not_run(tmp_path: Path):
    write_batches(tmp_path / FOLDERS[10], 10)
    batch = {b"data": Attack(tmp_path / "attacked"), b"labels": [0]}
    (tmp_path / FOLDERS[10] / "test_batch").write_bytes(pickle.dumps(batch))
    with pytest.raises(InputError, match=r"test_batch asks for .*mkdir"):
        load("cifar10", tmp_path)
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({b"data": b"short"})])
def test_a_file_that_is_no_batch_is_named(tmp_path: Path, content: bytes):
    write_batches(tmp_path / FOLDERS[10], 10)
    (tmp_path / FOLDERS[10] / "data_batch_3").write_bytes(content)
    with pytest.raises(InputError, match="data_batch_3"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.5, 1.0], [[0], [1, 2]], None])
def test_labels_that_are_no_class_numbers_are_refused(tmp_path: Path, labels):
    write_batches(tmp_path / FOLDERS[10], 10)
    batch = {b"data": np.zeros((2, 3072), np.uint8), b"labels": labels}
    (tmp_path / FOLDERS[10] / "test_batch").write_bytes(pickle.dumps(batch, protocol=4))
    with pytest.raises(InputError, match=r"the labels 'labels' in .*test_batch must be class numbers"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("meta", [{}, {b"label_names": ["cat"] * 10}])
def test_a_file_without_class_names_is_named(tmp_path: Path, meta):
    write_batches(tmp_path / FOLDERS[10], 10)
    (tmp_path / FOLDERS[10] / "batches.meta").write_bytes(pickle.dumps(meta, protocol=4))
    with pytest.raises(InputError, match=r"batches\.meta has no class names 'label_names'"):
        load("cifar10", tmp_path)


def test_a_broken_archive_is_named(tmp_path: Path):
    (tmp_path / ARCHIVES[10]).write_bytes(b"half a download")
    with pytest.raises(InputError, match=r"cannot read .*cifar-10-python\.tar\.gz"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("sub", [".", "cifar10"])
def test_a_folder_of_images_serves_as_well(tmp_path: Path, sub: str):
    for split in ("train", "test"):
        for i in range(10):
            folder = tmp_path / sub / split / f"class {i}"
            folder.mkdir(parents=True)
            Image.fromarray(np.full((32, 32, 3), i, dtype=np.uint8)).save(folder / "0.png")
    data = load("cifar10", tmp_path)
    assert data.name == "cifar10"
    assert data.mean == (0.4914, 0.4822, 0.4465)
    np.testing.assert_array_equal(data.train.images[:, 0, 0, 0], data.train.labels)


def test_grey_copies_are_normalised_by_what_they_are(tmp_path: Path):
    for split in ("train", "test"):
        for i in range(10):
            folder = tmp_path / split / f"class {i}"
            folder.mkdir(parents=True)
            Image.fromarray(np.full((32, 32), 20 * i, dtype=np.uint8)).save(folder / "0.png")
    data = load("cifar10", tmp_path)
    assert data.train.images.shape == (10, 32, 32, 1)
    assert data.mean == pytest.approx((90 / 255,))


def test_without_files_and_network_it_says_what_was_looked_for_where_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from torchvision.datasets import CIFAR100

    monkeypatch.setattr(CIFAR100, "url", "http://127.0.0.1:9/cifar-100-python.tar.gz")
    with pytest.raises(InputError) as error:
        load("cifar100", tmp_path)
    message = str(error.value)
    for part in ("cifar-100-python.tar.gz", "http://127.0.0.1:9/", str(tmp_path), "--data-dir", "HARDTUNE_DATA"):
        assert part in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_with_a_network_the_archive_is_downloaded_once_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torchvision.datasets import CIFAR10

    write_batches(tmp_path / "there" / FOLDERS[10], 10)
    archive = tmp_path / "there" / ARCHIVES[10]
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "there" / FOLDERS[10], FOLDERS[10])

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args) -> None:
            super().__init__(*args, directory=str(archive.parent))

        def log_message(self, *args) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(CIFAR10, "url", f"http://127.0.0.1:{server.server_port}/{ARCHIVES[10]}")
        (tmp_path / "here").mkdir()
        monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
        with pytest.raises(InputError, match="downloading failed"):
            load("cifar10", tmp_path / "here")
        assert not list((tmp_path / "here").iterdir())
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        data = load("cifar10", tmp_path / "here")
    finally:
        server.shutdown()
        server.server_close()
    assert load("cifar10", tmp_path / "here").fingerprint == data.fingerprint
    assert [path.name for path in (tmp_path / "here").iterdir()] == [ARCHIVES[10]]


@pytest.mark.slow
@pytest.mark.skipif(
    not (REAL / "cifar10" / "train").is_dir(), reason="needs CIFAR-10 as images in HARDTUNE_DATA or ~/data/cifar10"
)
def test_the_real_cifar10_as_images():
    data = load("cifar10", REAL)
    assert data.train.images.shape == (50_000, 32, 32, 3)
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    # Lossy copies keep the published means within a quarter of a grey level.
    np.testing.assert_allclose(channel_statistics(data.train.images)[0], data.mean, atol=1e-3)
