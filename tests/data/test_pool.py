"""A pool of synthetic images is held against the data before anything is trained."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from hardtune.data import load, load_pool
from hardtune.errors import HardtuneWarning, InputError

DIGITS = load("digits")
# Real images one pixel to the left: other images of the same classes.
IMAGES = np.roll(DIGITS.train.images[:60], -1, axis=2)
LABELS = DIGITS.train.labels[:60]


def as_folder(folder, images=IMAGES, labels=LABELS, name=str):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / name(label) / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(path)
    return folder


def as_npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_folder_and_an_npz_file_of_the_same_images_are_the_same_pool(tmp_path):
    folder = load_pool(as_folder(tmp_path / "pool"), DIGITS)
    order = np.argsort(LABELS, kind="stable")  # a folder is read class by class
    npz = load_pool(as_npz(tmp_path / "pool.npz", images=IMAGES[order], labels=LABELS[order]), DIGITS)
    np.testing.assert_array_equal(folder.images, IMAGES[order])
    np.testing.assert_array_equal(folder.labels, LABELS[order])
    assert folder.fingerprint == npz.fingerprint


def test_a_pools_images_may_lie_in_folders_below_their_class(tmp_path):
    flat = load_pool(as_folder(tmp_path / "flat"), DIGITS)
    deep = load_pool(as_folder(tmp_path / "deep", name=lambda label: f"{label}/made"), DIGITS)
    assert flat.fingerprint == deep.fingerprint


def test_a_pools_files_of_other_suffixes_and_images_beside_the_class_folders_are_told(tmp_path):
    folder = as_folder(tmp_path / "pool")
    (folder / "3-made.png").write_bytes(b"an image, who knows")
    (folder / "3" / "made.heic").write_bytes(b"another")
    with (
        pytest.warns(HardtuneWarning, match=r"1 image is in no class's folder, but beside these, .*3-made\.png"),
        pytest.warns(HardtuneWarning, match=r"1 file is left out for its suffix, 1 \.heic"),
    ):
        assert len(load_pool(folder, DIGITS)) == len(IMAGES)


@pytest.mark.parametrize(
    "arrays",
    [
        {"image": IMAGES, "label": LABELS},
        {"images": IMAGES[..., 0], "labels": LABELS.astype(np.uint8)},
        {"images": IMAGES, "labels": LABELS.astype(str)},
    ],
    ids=["singular", "no-channel-axis", "names"],
)
def test_an_npz_file_may_be_written_in_the_usual_ways(tmp_path, arrays):
    pool = load_pool(as_npz(tmp_path / "pool.npz", **arrays), DIGITS)
    np.testing.assert_array_equal(pool.images, IMAGES)
    np.testing.assert_array_equal(pool.labels, LABELS)


def test_a_pool_may_be_given_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    as_npz(tmp_path / "pool.npz", images=IMAGES, labels=LABELS)
    assert len(load_pool("~/pool.npz", DIGITS)) == len(IMAGES)


def test_a_class_may_be_missing_from_the_pool(tmp_path):
    hard = LABELS == 8
    pool = load_pool(as_folder(tmp_path, IMAGES[hard], LABELS[hard]), DIGITS)
    assert set(pool.labels) == {8}


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no pool of images at .*nowhere"):
        load_pool(tmp_path / "nowhere", DIGITS)
    with pytest.raises(InputError, match="no sub-folders"):
        load_pool(tmp_path, DIGITS)


def test_a_class_that_the_data_have_not_is_named_with_those_they_have(tmp_path):
    folder = as_folder(tmp_path / "pool", name=lambda label: "seven" if label == 7 else str(label))
    with pytest.raises(InputError, match="class 'seven', which the data have not: they have 0, 1, 2"):
        load_pool(folder, DIGITS, progress=lambda *_: pytest.fail("images are read first"))
    for labels, wrong in ((LABELS + 1, "10"), (LABELS - 1, "-1"), (np.char.add("d", LABELS.astype(str)), "d0")):
        with pytest.raises(InputError, match=f"class '{wrong}', which the data have not"):
            load_pool(as_npz(tmp_path / "pool.npz", images=IMAGES, labels=labels), DIGITS)


def test_images_of_another_size_or_number_of_channels_are_refused(tmp_path):
    larger = np.zeros((3, 32, 32, 1), np.uint8)
    with pytest.raises(InputError, match="are 32 x 32 x 1, and those of digits are 8 x 8 x 1"):
        load_pool(as_npz(tmp_path / "pool.npz", images=larger, labels=np.arange(3)), DIGITS)
    with pytest.raises(InputError, match="are 8 x 8 x 3, and"):
        load_pool(as_folder(tmp_path / "pool", np.repeat(IMAGES, 3, axis=3)), DIGITS)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"pictures": IMAGES}, "must hold arrays 'images' and 'labels', and holds pictures"),
        ({"images": IMAGES / 255, "labels": LABELS}, "must have images uint8"),
        ({"images": IMAGES, "labels": LABELS[1:]}, "and 59 labels"),
        ({"images": IMAGES, "labels": LABELS.astype(float)}, "must be class numbers or names"),
        ({"images": IMAGES, "labels": np.eye(10, dtype=int)[LABELS]}, "must be class numbers or names"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"\(0, 8, 8, 1\)"),
    ],
)
def test_an_npz_file_that_is_no_pool_is_refused(tmp_path, arrays, says):
    with pytest.raises(InputError, match=says):
        load_pool(as_npz(tmp_path / "pool.npz", **arrays), DIGITS)


def test_nothing_pickled_is_ever_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    np.savez(tmp_path / "pool.npz", images=np.array([Bomb()], dtype=object), labels=LABELS[:1])
    with pytest.raises(InputError, match="cannot read the pool"):
        load_pool(tmp_path / "pool.npz", DIGITS)
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match="cannot read the pool"):
        load_pool(tmp_path / "raw.npz", DIGITS)
    assert not (tmp_path / "exploded").exists()


def test_a_damaged_file_is_said_to_be_one(tmp_path):
    whole = io.BytesIO()
    np.savez_compressed(whole, images=IMAGES, labels=LABELS)
    damaged = bytearray(whole.getvalue())
    damaged[400:430] = bytes(byte ^ 0xFF for byte in damaged[400:430])
    for content in (whole.getvalue()[:500], damaged):
        (tmp_path / "pool.npz").write_bytes(content)
        with pytest.raises(InputError, match="cannot read the pool"):
            load_pool(tmp_path / "pool.npz", DIGITS)
