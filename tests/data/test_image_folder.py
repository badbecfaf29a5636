import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardtune.data import load
from hardtune.data.decoding import listed_in
from hardtune.data.image_files import IMAGE_SUFFIXES
from hardtune.data.image_folder import listed_files
from hardtune.errors import HardtuneWarning, InputError


def write(path: Path, pixels: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_classes(folder: Path, classes: dict[str, int], shape: tuple[int, ...] = (4, 5, 3)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(len(str(folder)))
    return {
        name: np.stack(
            [write(folder / name / f"{i:04}.png", rng.integers(0, 256, shape, dtype=np.uint8)) for i in range(n)]
        )
        for name, n in classes.items()
    }


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_train_and_test_folders_become_the_two_splits(tmp_path: Path, test_name: str):
    train = write_classes(tmp_path / "pets" / "train", {"dog": 3, "cat": 2})
    test = write_classes(tmp_path / "pets" / test_name, {"dog": 1, "cat": 1})
    with warnings.catch_warnings(record=True) as told:
        pets = load(str(tmp_path / "pets"))
    said = [f"the test split is {tmp_path / 'pets' / 'val'}, for lack of another"] if test_name == "val" else []
    assert [str(one.message) for one in told] == said
    assert (pets.name, pets.classes) == ("pets", ("cat", "dog"))
    np.testing.assert_array_equal(pets.train.images, np.concatenate([train["cat"], train["dog"]]))
    np.testing.assert_array_equal(pets.train.labels, [0, 0, 1, 1, 1])
    np.testing.assert_array_equal(pets.test.images, np.concatenate([test["cat"], test["dog"]]))
    np.testing.assert_allclose(pets.mean, (pets.train.images / 255).mean((0, 1, 2)))


def test_without_splits_a_fifth_of_every_class_is_always_the_same_test_split(tmp_path: Path):
    write_classes(tmp_path, {"a": 10, "b": 20})
    data = load(str(tmp_path))
    assert np.bincount(data.train.labels).tolist() == [8, 16]
    assert np.bincount(data.test.labels).tolist() == [2, 4]
    assert data.fingerprint == load(str(tmp_path)).fingerprint
    numbers = [int(Path(file).stem) for file in listed_files(tmp_path)[1]]
    assert numbers == [7, 8, 7, 15, 17, 19], "and stays so: another would make other data of all folders"


def test_images_stay_with_their_labels_when_many_are_decoded_at_once(tmp_path: Path):
    for label, name in enumerate("ab"):
        for i in range(200):
            write(tmp_path / "train" / name / f"{i:03}.png", np.full((2, 2), 100 * label + i % 100, dtype=np.uint8))
            write(tmp_path / "test" / name / "0.png", np.zeros((2, 2), dtype=np.uint8))
    train = load(str(tmp_path)).train
    np.testing.assert_array_equal(train.images[:, 0, 0, 0] // 100, train.labels)
    np.testing.assert_array_equal(train.images[:200, 0, 0, 0], np.arange(200) % 100)


def test_all_grayscale_images_have_one_channel_and_a_single_coloured_one_makes_it_three(tmp_path: Path):
    gray = write_classes(tmp_path, {"a": 5, "b": 5}, shape=(4, 5))
    assert load(str(tmp_path)).train.images.shape == (8, 4, 5, 1)
    write(tmp_path / "b" / "colour.png", np.zeros((4, 5, 3), dtype=np.uint8))
    data = load(str(tmp_path))
    assert data.train.images.shape[1:] == (4, 5, 3)
    everything = np.concatenate([data.train.images, data.test.images])
    assert any(np.array_equal(image, np.repeat(gray["a"][0][..., None], 3, axis=2)) for image in everything)


@pytest.mark.filterwarnings("error")
def test_hidden_files_and_files_that_lie_beside_images_are_passed_over(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "notes.txt").write_text("nothing to see")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"Windows")
    (tmp_path / "a" / "._0000.png").write_bytes(b"macOS")
    (tmp_path / ".cache").mkdir()
    assert len(load(str(tmp_path)).train) == 8


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".JPG", ".avif", ".webp"])
def test_photos_have_many_suffixes(tmp_path: Path, suffix: str):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for path in (tmp_path / "b").iterdir():
        Image.open(path).save(path.with_suffix(suffix), {".webp": "webp", ".avif": "avif"}.get(suffix, "jpeg"))
        path.unlink()
    data = load(str(tmp_path))
    assert np.bincount(data.train.labels).tolist() == [4, 4]


def test_the_docs_name_the_suffixes_that_are_read():
    page = (Path(__file__).parents[2] / "docs" / "own.md").read_text()
    (named,) = re.findall(r"Files named (.*?)\sare read", page, re.DOTALL)
    assert set(re.findall(r"`(.+?)`", named)) == IMAGE_SUFFIXES


@pytest.mark.parametrize("layout", ["one folder", "train and test"])
def test_files_left_out_for_their_suffix_are_counted_and_told_once(tmp_path: Path, layout: str):
    for split in ("train", "test") if layout == "train and test" else (".",):
        write_classes(tmp_path / split, {"a": 5, "b": 5})
    a, b = (next(tmp_path.rglob("a")), sorted(tmp_path.rglob("b"))[-1])
    for path in (a / "1.heic", a / "2.HEIC", b / "3.heic", b / "none", b / "more" / "clip.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a photo, who knows")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        load(str(tmp_path))
        listed_files(tmp_path)
    (said,) = (str(one.message) for one in told)
    counts, _, images = said.partition("; ")
    assert counts.startswith("5 files are left out for their suffix, 3 .heic (")
    assert counts.count(".heic") == 2, "one example"
    assert counts.endswith(f"1 .mp4 ({b / 'more' / 'clip.mp4'}) and 1 without ({b / 'none'})")
    assert images.startswith("images are .avif, .bmp, ")


@pytest.mark.parametrize("splits", [(".",), ("train", "test"), ("train", "val", "test")], ids=len)
def test_images_beside_the_class_folders_are_counted_and_told(tmp_path: Path, splits: tuple[str, ...]):
    for split in splits:
        write_classes(tmp_path / split, {"a": 5, "b": 5})
        for name in ("none_of_them.png", "._none_of_them.png", "classes.csv"):
            (tmp_path / split / name).write_bytes(b"a photo, who knows")
    some = "1 image is" if len(splits) == 1 else f"{len(splits)} images are"
    first = tmp_path / splits[0] / "none_of_them.png"
    with pytest.warns(HardtuneWarning, match=rf"^{some} in no class's folder.* left out \({re.escape(str(first))}\)$"):
        data = load(str(tmp_path))
    assert len(data.train) + len(data.test) == 10 * len(splits)


def test_of_many_suffixes_the_most_frequent_are_told(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for name in ("scan.001", "scan.002", "scan.003", "scan.004", "scan.005", "scan.006", "x.raw", "y.raw"):
        (tmp_path / "b" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"^8 files .*, 2 \.raw \(.*, 1 \.004 \(\S*scan\.004\) and 2 of 2 others; "):
        load(str(tmp_path))


def test_a_class_whose_files_all_have_other_suffixes_says_so(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for path in (tmp_path / "b").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(InputError, match=r"class 'b' has no images in .*, since 5 files are left out for .* 5 \.heic "):
        load(str(tmp_path))


def test_images_in_folders_below_a_class_folder_are_of_its_class_in_the_order_of_their_paths(tmp_path: Path):
    for label, name in enumerate(("cat", "dog")):
        for number, path in enumerate(("0.png", "kittens/3.png", "kittens/tame/1.png", "old/2.png", "z.png")):
            write(tmp_path / "train" / name / path, np.full((2, 2), 10 * label + number, dtype=np.uint8))
        write(tmp_path / "train" / name / ".cache" / "0.png", np.full((2, 2), 99, dtype=np.uint8))
        write(tmp_path / "test" / name / "deep" / "down" / "0.png", np.full((2, 2), 50 + label, dtype=np.uint8))
    (tmp_path / "train" / "cat" / "old" / "up").symlink_to(tmp_path / "train" / "cat")  # a folder is read once
    data = load(str(tmp_path))
    assert data.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert data.test.images[:, 0, 0, 0].tolist() == [50, 51]
    for samples, files in zip((data.train, data.test), listed_files(tmp_path), strict=True):
        for image, file in zip(samples.images, files, strict=True):
            assert (np.asarray(Image.open(file)) == image[..., 0]).all()


def test_flat_class_folders_are_in_the_order_of_their_files_names(tmp_path: Path):
    names = ["10.png", "9.png", "B.png", "a b.png", "a-b.png", "a.b.png", "a.png"]
    for name in names:
        write(tmp_path / "train" / "cat" / name, np.zeros((2, 2), dtype=np.uint8))
    write(tmp_path / "train" / "dog" / "0.png", np.zeros((2, 2), dtype=np.uint8))
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1}, shape=(2, 2))
    assert [Path(file).name for file in listed_files(tmp_path)[0]] == [*sorted(names), "0.png"]


@pytest.mark.parametrize(("one", "other"), [("Testing", "Training"), ("seg_test", "seg_train"), ("test", "val")])
def test_splits_of_other_names_are_not_taken_for_classes(tmp_path: Path, one: str, other: str):
    for name in (one, other):
        write_classes(tmp_path / name, {"cat": 5, "dog": 5})
    with pytest.raises(InputError, match=rf"has {one}/ and {other}/ with folders in them, which look like splits"):
        load(str(tmp_path))
    for name in (one, other):
        for path in sorted((tmp_path / name).rglob("*.png")):
            path.rename(tmp_path / name / f"{path.parent.name}-{path.name}")
        for folder in ("cat", "dog"):
            (tmp_path / name / folder).rmdir()
    assert load(str(tmp_path)).classes == (one, other), "flat folders are classes whatever their names"


def test_a_folder_that_cannot_be_read_is_named_rather_than_left_out(tmp_path: Path):
    write_classes(tmp_path / "train", {"bird": 2, "cat": 2, "dog": 2})
    write_classes(tmp_path / "test", {"bird": 1, "cat": 1})
    (tmp_path / "test" / "dog").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot look into .*test/dog: Not a directory"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_split_beside_train_and_test_is_trained_on_which_is_said(tmp_path: Path, name: str):
    train = write_classes(tmp_path / "train", {"cat": 2, "dog": 3, "emu": 1})
    more = write_classes(tmp_path / name, {"cat": 2, "dog": 1})  # and no emu, of which train/ has one
    test = write_classes(tmp_path / "test", {"cat": 1, "dog": 1, "emu": 1})
    with pytest.warns(
        UserWarning, match=rf"/{name} became a part of the training data, which --recipe validation=val holds out"
    ) as warned:
        data = load(str(tmp_path))
    assert len(warned) == 1
    np.testing.assert_array_equal(data.train.images, np.concatenate([*train.values(), *more.values()]))
    assert data.train.labels.tolist() == [0, 0, 1, 1, 1, 2, 0, 0, 1]
    np.testing.assert_array_equal(data.test.images, np.concatenate([*test.values()]))
    np.testing.assert_array_equal(data.hold_out("val", 0).held_out.images, np.concatenate([*more.values()]))
    np.testing.assert_array_equal(data.hold_out("val", 0).train.images, np.concatenate([*train.values()]))
    np.testing.assert_allclose(data.mean, (data.train.images / 255).mean((0, 1, 2)))
    for samples, files in zip((data.train, data.test), listed_files(tmp_path), strict=True):
        for image, file in zip(samples.images, files, strict=True):
            np.testing.assert_array_equal(image, np.asarray(Image.open(file)))

    write_classes(tmp_path / name, {"yak": 1})
    with pytest.raises(InputError, match=rf"class 'yak' is in .*{name}, but not in .*train"):
        load(str(tmp_path))


@pytest.mark.filterwarnings("error")
def test_a_validation_split_that_is_a_link_to_another_or_empty_adds_nothing(tmp_path: Path):
    write_classes(tmp_path / "train", {"cat": 2, "dog": 3})
    write_classes(tmp_path / "test", {"cat": 1, "dog": 1})
    alone = load(str(tmp_path))
    with pytest.raises(InputError, match="no validation split of its own, so validation='val' holds none out"):
        alone.hold_out("val", 0)
    (tmp_path / "val").symlink_to(tmp_path / "test")
    (tmp_path / "valid").symlink_to(tmp_path / "train")
    (tmp_path / "validation").mkdir()
    assert load(str(tmp_path)).fingerprint == alone.fingerprint
    assert load(str(tmp_path)).val is None

    write_classes(tmp_path / "validation", {"cat": 1})
    (tmp_path / "valid").unlink()
    (tmp_path / "valid").symlink_to(tmp_path / "validation")
    with pytest.warns(HardtuneWarning, match=r"^\S*/valid became a part"):
        assert len(load(str(tmp_path)).val) == 1, "the two are one"


def test_progress_reaches_the_number_of_images(tmp_path: Path):
    write_classes(tmp_path, {"a": 70, "b": 70}, shape=(2, 2))
    calls: list[tuple[int, int]] = []
    load(str(tmp_path), progress=lambda done, of: calls.append((done, of)))
    assert calls == [(0, 140), (64, 140), (128, 140), (140, 140)]


def test_different_sizes_name_the_file_unless_an_image_size_brings_them_to_one(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5}, shape=(4, 6, 3))
    write(tmp_path / "b" / "large.png", np.full((40, 60, 3), 200, dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"large\.png is 60x40, but .*a/000\d\.png is 6x4 \(width x height; --image-size N "
    ):
        load(str(tmp_path))
    assert load(str(tmp_path), image_size=(8, 12)).train.images.shape[1:] == (8, 12, 3)
    everything = load(str(tmp_path), image_size=4)
    images = np.concatenate([everything.train.images, everything.test.images])
    assert images.shape[1:] == (4, 4, 3)
    assert everything.fingerprint != load(str(tmp_path), image_size=5).fingerprint
    assert any((image == 200).all() for image in images)


def test_an_unreadable_image_is_named(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    broken = tmp_path / "b" / "broken.png"
    for content in (b"no image", (tmp_path / "a" / "0000.png").read_bytes()[:60]):
        broken.write_bytes(content)
        with pytest.raises(InputError, match=r"cannot read the image .*broken\.png"):
            load(str(tmp_path))


@pytest.mark.parametrize("broken", [2, 5, 7])
@pytest.mark.parametrize("image_size", [None, 3])
def test_all_unreadable_images_are_counted_and_the_first_named_with_the_reason(
    tmp_path: Path, broken: int, image_size: int | None
):
    for split, count in (("train", 80), ("test", 5)):
        write_classes(tmp_path / split, {"a": count, "b": count}, shape=(2, 2))
    numbers = [0, 3, 64, 65, 79, 78, 77][:broken]
    bad = [tmp_path / "train" / "b" / f"{n:04}.png" for n in sorted(numbers[2:])]
    bad = [tmp_path / "train" / "a" / f"{n:04}.png" for n in numbers[:2]] + bad
    for path in bad:
        path.write_bytes(b"no image")
    calls: list[int] = []
    with pytest.raises(InputError) as error:
        load(str(tmp_path), image_size=image_size, progress=lambda done, of: calls.append(done))
    more = f" and {broken - 3} more" if broken > 3 else ""
    such = f"cannot identify image file ({broken}: {', '.join(map(str, bad[:3]))}{more})"
    assert str(error.value) == f"{broken} of 170 images cannot be read: {such}"
    assert calls[-1] == 170, "all were tried"


def test_unreadable_images_are_told_by_reason_and_all_listed_in_a_file(tmp_path: Path):
    folder = tmp_path / "pets" / "train"
    for split in ("train", "test"):
        write_classes(tmp_path / "pets" / split, {"a": 10, "b": 10})
    cut, empty = [folder / "b" / f"000{n}.png" for n in range(4)], [folder / "a" / f"000{n}.png" for n in range(2)]
    for n, path in enumerate(cut):
        path.write_bytes(path.read_bytes()[: 60 + n])  # other numbers of bytes are missing from each
    for path in empty:
        path.write_bytes(b"")
    write(folder / "a" / "deep.png", np.full((4, 5), 40_000, dtype=np.uint16))
    with pytest.raises(InputError) as error, listed_in(tmp_path / "storage"):
        load(str(tmp_path / "pets"))
    of, _, reasons = str(error.value).partition(": ")
    first, second, third, where = reasons.split("; ")
    assert of == "7 of 41 images cannot be read"
    assert re.fullmatch(
        r"image file is truncated \(4: .*b/0000\.png, .*b/0001\.png, \S*b/0002\.png and 1 more\)", first
    )
    assert re.fullmatch(r"cannot identify image file \(2: \S*a/0000\.png, \S*a/0001\.png\)", second)
    assert third.startswith("its pixels are of mode I")
    path = tmp_path / "storage" / "unreadable.csv"
    assert where == f"all are listed in {path}"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["file"] for row in rows) == sorted(map(str, [*cut, *empty, folder / "a" / "deep.png"]))


def test_unreadable_images_are_told_where_the_list_of_them_cannot_be_written(tmp_path: Path):
    write_classes(tmp_path / "pets", {"a": 5, "b": 5})
    for path in (tmp_path / "pets" / "b").iterdir():
        path.write_bytes(b"")
    (tmp_path / "storage").write_text("no folder")
    with pytest.raises(InputError, match=r"^5 of 10 images cannot be read: [^;]*$"), listed_in(tmp_path / "storage"):
        load(str(tmp_path / "pets"))


def test_images_none_of_which_can_be_read_are_counted(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5})
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="10 of 10 images cannot be read: "):
        load(str(tmp_path))


def test_the_size_that_others_differ_from_is_that_of_an_image_that_can_be_read(tmp_path: Path):
    for split in ("train", "test"):
        write_classes(tmp_path / split, {"a": 3, "b": 3}, shape=(4, 6, 3))
    (tmp_path / "train" / "a" / "0000.png").write_bytes(b"no image")
    write(tmp_path / "train" / "b" / "large.png", np.zeros((40, 60, 3), dtype=np.uint8))
    with pytest.raises(InputError, match=r"large\.png is 60x40, but .*a/0001\.png is 6x4 "):
        load(str(tmp_path))


def test_sixteen_bit_images_are_refused_rather_than_clipped(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 5}, shape=(4, 5))
    write(tmp_path / "b" / "deep.png", np.full((4, 5), 40_000, dtype=np.uint16))
    with pytest.raises(InputError, match=r"deep\.png: its pixels are of mode I;16, and only 8-bit"):
        load(str(tmp_path))


def test_a_folder_that_is_no_data_set_is_told_why(tmp_path: Path):
    with pytest.raises(InputError, match="at least 2 classes, and has 0"):
        load(str(tmp_path))
    write_classes(tmp_path, {"a": 5})
    with pytest.raises(InputError, match="at least 2 classes, and has 1"):
        load(str(tmp_path))
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="class 'b' has no images"):
        load(str(tmp_path))


def test_a_class_folder_whose_name_is_not_utf_8_is_named(tmp_path: Path):
    try:
        write_classes(tmp_path, {"caf\udce9": 5, "tea": 5})
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(InputError, match=r"class folder 'caf\\udce9' in .* is not UTF-8"):
        load(str(tmp_path))


def test_all_classes_with_too_few_images_are_named_at_once(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 1, "c": 1})
    with pytest.raises(InputError, match=r"^classes 'b', 'c' have 1 image each, and setting some aside needs at least"):
        load(str(tmp_path))
    for name in ("b", "c"):
        (tmp_path / name / "0000.png").rename(tmp_path / name / "0000.heic")
    says = r"^classes 'b', 'c' have no images in .*, since 2 files are left out for their suffix, 2 \.heic "
    with pytest.raises(InputError, match=says):
        load(str(tmp_path))


@pytest.mark.parametrize("other", ["valid", "validation", "Test", None])
def test_classes_in_train_without_a_test_split_are_said_to_lack_one(tmp_path: Path, other: str | None):
    for name in ("train", other):
        if name is not None:
            write_classes(tmp_path / name, {"cat": 5, "dog": 5})
            write(tmp_path / name / "stray.png", np.zeros((4, 5, 3), dtype=np.uint8))
    with pytest.raises(
        InputError, match=r"has train/, but no test split beside it: name that test/ or val/, or give .*"
    ):
        load(str(tmp_path))
    assert load(str(tmp_path / "train")).classes == ("cat", "dog")


def test_a_class_may_be_of_trains(tmp_path: Path):
    write_classes(tmp_path, {"bus": 5, "train": 5})
    assert load(str(tmp_path)).classes == ("bus", "train")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_photograph_is_upright_by_what_its_camera_says(tmp_path: Path, suffix: str):
    write_classes(tmp_path, {"a": 5, "b": 4}, shape=(16, 24, 3))
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8] = 250
    lying, tags = Image.fromarray(np.rot90(upright)), Image.Exif()
    tags[0x0112] = 6  # of orientation: to be turned to the right
    lying.save(tmp_path / "b" / f"4.{suffix}", exif=tags)
    data = load(str(tmp_path))
    images = np.concatenate([data.train.images, data.test.images]).astype(int)
    assert np.abs(images - upright).mean(axis=(1, 2, 3)).min() < 10


def test_a_broken_tag_turns_nothing(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 4})
    Image.new("RGB", (5, 4)).save(tmp_path / "b" / "4.jpg", exif=b"Exif\0\0no such thing")
    assert load(str(tmp_path)).train.images.shape == (8, 4, 5, 3)


@pytest.mark.filterwarnings("error")
def test_transparency_is_dropped_without_a_word(tmp_path: Path):
    write_classes(tmp_path, {"a": 5, "b": 4})
    picture = Image.new("P", (5, 4), 1)
    picture.putpalette([9, 9, 9, 7, 77, 177])
    picture.save(tmp_path / "b" / "4.png", transparency=b"\x00\x80")
    data = load(str(tmp_path))
    images = np.concatenate([data.train.images, data.test.images])
    assert (images == [7, 77, 177]).all(axis=(1, 2, 3)).sum() == 1


def test_splits_with_unlike_classes_name_the_class(tmp_path: Path):
    write_classes(tmp_path / "train", {"a": 2, "b": 2})
    write_classes(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(InputError, match=r"class 'c' is in .*test, but not in .*train"):
        load(str(tmp_path))
    (tmp_path / "test" / "c").rename(tmp_path / "elsewhere")
    (tmp_path / "test" / "b").mkdir()
    with pytest.raises(InputError, match=r"class 'b' has no images in .*test: add some, or leave the class out$"):
        load(str(tmp_path))
