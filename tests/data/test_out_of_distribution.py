"""Foreign images have the data's size and colours, whatever they come from."""

import itertools

import numpy as np
import pytest
from PIL import Image

from hardtune import load
from hardtune.data import Dataset, Samples, check_ood, load_ood, long_tailed
from hardtune.data.out_of_distribution import VIEWS, fitted
from hardtune.errors import InputError


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def fashion(tmp_path_factory):
    """A folder that has Fashion-MNIST's files: ten classes of grey images, here of noise on every brightness."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, images in (("train", 1), ("test", 60)):
        for label, number in itertools.product(range(10), range(images)):
            path = folder / "fashion_mnist" / split / str(label) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(20 * label, 256, (28, 28), np.uint8)).save(path)
    return folder


def paint(path, colour, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def test_an_inverted_image_is_its_negative_and_a_rotated_one_a_quarter_turn(digits):
    images = digits.test.images
    np.testing.assert_array_equal(load_ood("inverted", digits), 255 - images)
    np.testing.assert_array_equal(load_ood("rotated", digits)[3, :, :, 0], np.rot90(images[3, :, :, 0]))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_of_images_that_are_no_squares_has_their_size(name):
    images = np.arange(4 * 12 * 8 * 3, dtype=np.uint8).reshape(4, 12, 8, 3)[:, :, ::-1]
    samples = Samples(images, np.arange(4) % 2)
    made = load_ood(name, Dataset("mine", samples, samples, ("a", "b")))
    assert made.shape == images.shape


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_leaves_the_test_images_alone_and_is_contiguous(digits, name):
    before = digits.test.images.copy()
    before.setflags(write=False)
    made = load_ood(name, digits)
    assert made.flags.c_contiguous
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(digits.test.images, before)


def test_another_data_set_comes_in_the_size_of_the_data(digits, fashion):
    made, whole = load_ood("fashion_mnist", digits, fashion), load("fashion_mnist", fashion)
    assert made.shape == digits.test.images.shape, "no more of them than test samples"
    # Scaling keeps what an image is: its mean brightness.
    assert made.mean() == pytest.approx(whole.test.images.mean(), rel=0.05)
    assert load_ood("digits", whole).shape == (len(digits.test), 28, 28, 1)


def test_images_of_ones_own_are_fitted_like_any(digits):
    own = np.repeat(255 - digits.test.images, 3, axis=3)
    np.testing.assert_array_equal(load_ood(own, digits), load_ood("inverted", digits))
    assert len(load_ood(np.concatenate([own, own]), digits)) == len(digits.test)
    for wrong in (own / 255, own[0], own[:0]):
        with pytest.raises(InputError, match=r"images must be uint8 \(N, H, W, C\), got "):
            load_ood(wrong, digits)


@pytest.mark.parametrize(
    ("view", "says"),
    [
        (
            lambda images: images / 255,
            r"must be uint8 \(N, H, W, C\), got float64 of shape \(539, 8, 8, 1\) from 'mine'",
        ),
        (lambda images: images[..., 0], r"got uint8 of shape \(539, 8, 8\) from 'mine'"),
        (lambda images: images @ None, "out-of-distribution view 'mine' fails: "),
    ],
)
def test_a_view_of_ones_own_that_gives_no_images_is_named(digits, monkeypatch, view, says):
    monkeypatch.setitem(VIEWS._entries, "mine", view)
    with pytest.raises(InputError, match=says):
        load_ood("mine", digits)


def test_a_view_of_ones_own_gives_no_more_images_than_there_are_test_samples(digits, monkeypatch):
    monkeypatch.setitem(VIEWS._entries, "mine", lambda images: np.concatenate([255 - images, ~images // 2]))
    assert load_ood("mine", digits).shape == digits.test.images.shape


def test_scaling_is_bilinear_and_antialiased():
    halves = np.zeros((1, 4, 4, 1), np.uint8)
    halves[:, :, 2:] = 200
    np.testing.assert_array_equal(fitted(halves, 1, 1, 1).ravel(), [100])
    lines = np.zeros((1, 64, 64, 1), np.uint8)
    lines[:, :, ::8] = 255  # one column in eight, which sampling at single points would miss
    assert fitted(lines, 8, 8, 1).mean() == pytest.approx(255 / 8, rel=0.1)


def test_grey_is_repeated_and_colour_becomes_luma():
    grey = np.full((1, 2, 2, 1), 7, np.uint8)
    np.testing.assert_array_equal(fitted(grey, 2, 2, 3), np.full((1, 2, 2, 3), 7))
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 255
    np.testing.assert_array_equal(fitted(red, 2, 2, 1).ravel(), [76] * 4)  # 0.299 · 255
    with pytest.raises(InputError, match="2 channels cannot be shown to networks for 3"):
        fitted(np.zeros((1, 2, 2, 2), np.uint8), 2, 2, 3)


def test_a_folder_needs_no_classes_and_its_test_part_is_preferred(digits, tmp_path):
    paint(tmp_path / "a.png", 10, mode="L")
    paint(tmp_path / "deep" / "er" / "b.png", 20, mode="L", size=(30, 11))
    (tmp_path / "notes.txt").write_text("no image")
    assert sorted(load_ood(str(tmp_path), digits).mean(axis=(1, 2, 3))) == [10, 20]
    paint(tmp_path / "test" / "c.png", 30, mode="L")
    assert load_ood(str(tmp_path), digits).mean(axis=(1, 2, 3)).tolist() == [30]


def test_links_are_followed_once_and_hidden_folders_passed_over(digits, tmp_path):
    paint(tmp_path / "elsewhere" / "a.png", 10, mode="L")
    images = tmp_path / "images"
    paint(images / "b.png", 20, mode="L")
    paint(images / ".trash" / "c.png", 30, mode="L")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    (images / "round").symlink_to(images)
    assert sorted(load_ood(str(images), digits).mean(axis=(1, 2, 3))) == [10, 20]


def test_of_a_large_folder_the_same_few_are_drawn_every_time(digits, tmp_path):
    for i in range(20):
        paint(tmp_path / f"{i:02}.png", i, mode="L")
    few = digits.subset(classes=2, train=2, test=3, seed=0)
    first, again = load_ood(str(tmp_path), few), load_ood(str(tmp_path), few)
    assert len(first) == len(few.test) == 6
    np.testing.assert_array_equal(first, again)
    drawn = first[:, 0, 0, 0].tolist()
    assert len(set(drawn)) == 6
    assert max(drawn) > 5, "from all of it, not its first files, which may be of one class"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("digits", "'digits' cannot be out of distribution for itself"),
        ("", "unknown out-of-distribution set '': choose from"),
        ("svhn", "unknown out-of-distribution set 'svhn': choose from cifar10, cifar100, fashion_mnist, inverted, rot"),
    ],
)
def test_a_wrong_name_is_one_sentence_with_the_right_ones(digits, name, sentence):
    with pytest.raises(InputError, match=sentence):
        load_ood(name, digits)


def test_a_folder_is_not_its_own_out_of_distribution_set_however_its_path_is_written(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pets")
    for path in (str(tmp_path / "pets"), "pets", "pets/", "link", "pets/../pets"):
        with pytest.raises(InputError, match="cannot be out of distribution for itself: choose another data set"):
            check_ood(path, "pets")
    check_ood("pets", "digits")
    check_ood("digits", "pets")
    check_ood(str(tmp_path), "pets")


def test_another_folder_of_the_data_sets_name_is_another_set(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "pets" / "a.png", 10, mode="L")
    pets = Dataset("pets", digits.train, digits.test, digits.classes)
    assert load_ood(str(tmp_path / "pets"), pets).shape == (1, 8, 8, 1)


@pytest.mark.parametrize("of", ["long tail", "part", "images", "folder"])
def test_the_datas_own_test_images_are_refused_under_any_name(digits, tmp_path, of):
    data, source, there = long_tailed(digits, 10), "digits", 539
    if of == "part":
        data, there = data.subset(classes=10, train=2, test=3, seed=0), 30
    elif of == "images":
        source = np.concatenate([digits.train.images, digits.test.images])
    elif of == "folder":
        source = str(tmp_path)
        for number, image in enumerate(digits.test.images):
            Image.fromarray(image[..., 0]).save(tmp_path / f"{number}.png")
    with pytest.raises(InputError, match=f"have {there} of the data's own {there} test images among them, and those"):
        load_ood(source, data)


def test_an_empty_folder_is_named(digits, tmp_path):
    with pytest.raises(InputError, match=f"no images in {tmp_path}"):
        load_ood(str(tmp_path), digits)
