import dataclasses
import pickle
import re

import numpy as np
import pytest
import torch

from hardtune.data import Dataset, Samples, with_label_noise
from hardtune.data.samples import channel_statistics
from hardtune.data.split import stratified
from hardtune.errors import InputError


def samples(labels: list[int], value: int = 0) -> Samples:
    images = np.arange(len(labels) * 4, dtype=np.uint8).reshape(-1, 2, 2, 1) + np.uint8(value)
    images.flags.writeable = False
    return Samples(images, np.array(labels, dtype=np.int64))


def dataset(train: list[int], value: int = 0) -> Dataset:
    return Dataset("d", samples(train, value), samples([0, 1]), ("cat", "dog"), (0.5,), (0.25,))


def test_equal_content_has_an_equal_fingerprint_whatever_its_name_and_memory_layout():
    data = dataset([0, 1, 0, 1])
    other = Dataset(
        "other",
        Samples(np.asfortranarray(data.train.images), data.train.labels.copy()),
        data.test,
        data.classes,
        data.mean,
        data.std,
    )
    assert other.fingerprint == data.fingerprint


def test_how_names_and_numbers_are_given_does_not_change_the_fingerprint():
    data = dataset([0, 1])
    given = Dataset("d", data.train, data.test, ["cat", np.str_("dog")], np.array([0.5]), [np.float64(0.25)])
    assert given.fingerprint == data.fingerprint


def test_the_fingerprint_of_data_is_that_of_earlier_versions():
    """Results are stored by it."""
    assert dataset([0, 1]).fingerprint == "cddb03103798dab673f73b09f0b56541ab44f2f0dbbc641bc2a5b9258b3172b3"


def test_mirrored_views_of_arrays_are_taken_by_torch():
    """Which wants no negative strides; and arrays that lie in one piece are not copied."""
    whole = samples([0, 1, 1])
    assert np.shares_memory(Samples(whole.images, whole.labels).images, whole.images)
    turned = Samples(whole.images[::-1, :, ::-1], whole.labels[::-1])
    assert torch.from_numpy(turned.images)[0, 0].tolist() == whole.images[2, 0, ::-1].tolist()
    assert torch.from_numpy(turned.labels).tolist() == [1, 1, 0]


def test_what_all_share_cannot_be_written_to_and_ones_own_arrays_stay_as_they_are():
    images, labels = np.zeros((2, 2, 2, 1), np.uint8), np.array([0, 1])
    shared = Samples(images, labels)
    for array in (shared.images, shared.labels):
        with pytest.raises(ValueError, match="read-only"):
            array += 1
    assert images.flags.writeable
    assert labels.flags.writeable


def test_images_are_normalised_by_the_training_images_unless_it_is_said_how():
    train = Samples(np.repeat(np.uint8([0, 255, 51, 51]), 4).reshape(2, 2, 2, 2), np.array([0, 1]))
    data = Dataset("d", train, train, ("cat", "dog"))
    assert (data.mean, data.std) == channel_statistics(train.images)
    assert data.mean[0] == pytest.approx(data.mean[1]) == pytest.approx((255 + 102) / 4 / 255)
    with pytest.raises(InputError, match="mean and std must have one value"):
        Dataset("d", train, train, ("cat", "dog"), mean=(0.5, 0.5))


@pytest.mark.parametrize("largest", [0, 1])
def test_images_that_were_scaled_to_1_before_they_became_uint8_are_refused(largest):
    images = np.zeros((2, 2, 2, 1), np.uint8)
    images[0, 0] = largest
    scaled, right = Samples(images, np.array([0, 1])), Samples(255 * images + np.uint8(2), np.array([0, 1]))
    with pytest.raises(InputError, match=r"images of data set 'd' have no value above 1, .* by 255 before they become"):
        Dataset("d", scaled, right, ("cat", "dog"))
    assert Dataset("d", right, scaled, ("cat", "dog")).train is right


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 8), (3, 24, 32), (4, 24, 24)])
def test_channels_that_come_first_are_told_by_their_number(shape):
    images = np.arange(2 * np.prod(shape), dtype=np.uint8).reshape(2, *shape)
    first, last = (Samples(array, np.arange(2)) for array in (images, images.transpose(0, 2, 3, 1)))
    with pytest.raises(InputError, match=r"look like \(N, C, H, W\): .*; transpose them by images.transpose"):
        Dataset("d", first, first, ("cat", "dog"))
    assert Dataset("d", last, last, ("cat", "dog")).train is last


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 4), (3, 24, 3), (1, 128, 4), (4, 4, 9), (128, 1, 9)])
def test_low_images_are_not_taken_for_channels(shape):
    own = Samples(np.full((2, *shape), 7, np.uint8), np.arange(2))
    assert Dataset("d", own, own, ("cat", "dog")).train is own


def test_any_change_of_content_changes_the_fingerprint():
    fingerprints = {
        dataset([0, 1, 0, 1]).fingerprint,
        dataset([0, 1, 1, 1]).fingerprint,
        dataset([0, 1, 0, 1], 1).fingerprint,
    }
    assert len(fingerprints) == 3


@pytest.mark.parametrize("validation", [0.5, "test"])
def test_arrays_that_were_written_to_since_are_other_data(validation):
    images, labels = np.full((4, 2, 2, 1), 9, np.uint8), np.array([0, 0, 1, 1])
    data = Dataset("d", Samples(images, labels), samples([0, 1]), ("cat", "dog"), (0.5,), (0.25,))
    before = data.hold_out(validation, 0).fingerprint
    assert data.hold_out(validation, 0).fingerprint == before
    images[0] = 7
    assert data.hold_out(validation, 0).fingerprint != before


@pytest.mark.parametrize("validation", [0, 1, -0.1, 2.0, float("nan"), "train", None, [0.1]])
def test_a_share_that_is_none_is_an_error(validation):
    with pytest.raises(InputError, match="validation must be between 0 and 1, 'val', or 'test' to hold none out, got"):
        dataset([0, 0, 1, 1]).hold_out(validation, 0)


@pytest.mark.parametrize("share", [7.0, 0, float("nan"), None])
def test_no_more_than_all_of_a_class_can_be_set_aside(share):
    with pytest.raises(InputError, match="the share of every class must be between 0 and 1, got"):
        stratified(np.repeat([0, 1], 10), ("cat", "dog"), share, seed=0)


def test_holding_out_takes_the_share_of_every_class_and_nothing_twice():
    data = dataset([0] * 30 + [1] * 10)
    split = data.hold_out(0.1, seed=3)
    assert np.bincount(split.held_out.labels).tolist() == [3, 1]
    assert np.bincount(split.train.labels).tolist() == [27, 9]
    np.testing.assert_array_equal(split.train.images, data.train.images[split.kept])
    everything = np.concatenate([split.train.images, split.held_out.images])
    np.testing.assert_array_equal(np.sort(everything, axis=0), np.sort(data.train.images, axis=0))


def test_the_same_seed_holds_out_the_same_samples_and_another_seed_others():
    data = dataset([0] * 50 + [1] * 50)
    assert data.hold_out(0.2, seed=1).fingerprint == data.hold_out(0.2, seed=1).fingerprint
    assert data.hold_out(0.2, seed=1).fingerprint != data.hold_out(0.2, seed=2).fingerprint


def test_both_sides_keep_a_sample_of_every_class_for_extreme_shares():
    data = dataset([0, 0, 1, 1])
    for share in (0.001, 0.999):
        split = data.hold_out(share, seed=0)
        assert np.bincount(split.held_out.labels).tolist() == [1, 1] == np.bincount(split.train.labels).tolist()


def test_choosing_on_the_test_split_takes_nothing_from_training_and_says_so():
    data = dataset([0, 1, 0, 1])
    split = data.hold_out("test", seed=0)
    assert split.train is data.train
    assert split.held_out is data.test
    assert split.chooses_on_test
    assert not data.hold_out(0.5, seed=0).chooses_on_test


def test_a_validation_split_of_the_datas_own_is_held_out_whatever_the_seed():
    data = dataclasses.replace(dataset([0, 1, 0, 1, 0]), val=[4, 1])
    for seed in range(2):
        split = data.hold_out("val", seed)
        assert split.held.tolist() == [1, 4]
        assert split.kept.tolist() == [0, 2, 3]
        np.testing.assert_array_equal(split.held_out.images, data.train.images[[1, 4]])
    assert sorted([*data.hold_out(0.4, 0).kept, *data.hold_out(0.4, 0).held]) == list(range(5)), "of all, at random"
    other = dataclasses.replace(data, val=[4, 3])
    assert len({dataset([0, 1, 0, 1, 0]).fingerprint, data.fingerprint, other.fingerprint}) == 3


def test_a_validation_split_follows_the_samples_of_a_part():
    data = dataclasses.replace(dataset([0, 1, 0, 1, 0, 1]), val=[0, 3])
    part = data.part(np.array([5, 3, 2, 0, 4]))
    assert part.val.tolist() == [1, 3]
    assert part.hold_out("val", 0).held.tolist() == [3, 0], "rows of the data set that it is a part of"
    assert data.part(np.array([1, 2])).val is None
    few = data.subset(classes=2, train=1, test=1, seed=0)
    assert len(few.train) == 4
    assert few.hold_out("val", 0).held_out.labels.tolist() == [0, 1]
    assert with_label_noise(data, 0.3).hold_out("val", 0).held.tolist() == [0, 3]


def test_a_mean_of_images_in_0_to_255_is_refused():
    with pytest.raises(InputError, match=r"mean and std are those of images in 0\.\.1, so divide them by 255"):
        dataclasses.replace(dataset([0, 1]), mean=(125.3,), std=(63.0,))


@pytest.mark.parametrize("val", [[6], [-1], [0.5], ["a"], [True, False]])
def test_a_validation_split_that_is_none_of_the_training_samples_is_refused(val):
    with pytest.raises(InputError, match="val must be rows of the 4 training samples, from 0, got"):
        dataclasses.replace(dataset([0, 1, 0, 1]), val=val)


def test_a_mask_as_validation_split_is_told_from_rows():
    with pytest.raises(InputError, match=r"from 0, got a mask: give np\.flatnonzero of it$"):
        dataclasses.replace(dataset([0, 1, 0, 1]), val=np.array([True, False, False, True]))


def test_a_class_that_is_in_the_validation_split_alone_is_named():
    data = dataclasses.replace(dataset([0, 1, 0, 1]), val=[1, 3])
    with pytest.raises(InputError, match="class 'dog' has no training samples beside the validation split"):
        data.hold_out("val", 0)


def test_a_split_knows_the_whole_data_set_that_it_came_from():
    data = dataset([0, 1, 0, 1])
    split = data.hold_out(0.5, seed=0)
    assert (split.origin_size, split.origin_fingerprint, split.dataset_fingerprint) == (4, *[data.fingerprint] * 2)
    assert sorted([*split.kept, *split.held]) == [0, 1, 2, 3]


def test_samples_of_a_part_of_a_part_are_traced_to_the_data_set_that_all_are_from():
    """What is known of each of them, such as a file's features, is known by its row there."""
    data = dataset([0, 1, 0, 1, 0, 1, 0, 1])
    part = data.part(np.array([1, 2, 3, 4, 5, 6])).part(np.array([0, 1, 3, 4]))
    assert part.train.labels.tolist() == [1, 0, 0, 1]
    assert part.origin.rows.tolist() == [1, 2, 4, 5]
    assert part.origin.labels.tolist() == data.train.labels.tolist()
    split = part.hold_out(0.5, seed=0)
    np.testing.assert_array_equal(split.train.images, data.train.images[split.kept])
    np.testing.assert_array_equal(split.held_out.images, data.train.images[split.held])
    assert (split.origin_size, split.origin_fingerprint) == (8, data.fingerprint)
    assert split.dataset_fingerprint == part.fingerprint != data.fingerprint
    assert part.hold_out("test", seed=0).held.tolist() == []


def test_other_training_samples_have_another_origin():
    data = dataset([0, 1, 0, 1, 0, 1, 0, 1])
    part = data.part(np.array([1, 2, 3, 4]))
    assert dataclasses.replace(part, name="other").origin is part.origin
    others = dataclasses.replace(part, train=data.train.take(np.array([4, 5, 6, 7])))
    assert others.origin is None
    assert sorted(others.hold_out(0.5, seed=0).kept) != sorted(part.hold_out(0.5, seed=0).kept)
    assert pickle.loads(pickle.dumps(part)).origin.rows.tolist() == [1, 2, 3, 4], "as it is sent to workers"


def test_a_subset_is_a_data_set_of_its_own_unless_it_is_to_be_traced():
    data = dataset([0, 1, 0, 1, 0, 1, 0, 1])
    own, traced = (data.subset(classes=2, train=2, test=1, seed=0, traced=traced) for traced in (False, True))
    assert own.fingerprint == traced.fingerprint
    assert own.hold_out("test", 0).kept.tolist() == [0, 1, 2, 3]
    kept = traced.hold_out("test", 0).kept
    np.testing.assert_array_equal(data.train.images[kept], own.train.images)


def test_a_subset_keeps_a_few_samples_of_the_first_classes():
    data = Dataset(
        "d", samples([0] * 9 + [1] * 9 + [2] * 9), samples([0, 1, 2, 0, 1]), ("a", "b", "c"), (0.5,), (0.25,)
    )
    few = data.subset(classes=2, train=4, test=1, seed=0)
    assert np.bincount(few.train.labels).tolist() == [4, 4]
    assert np.bincount(few.test.labels).tolist() == [1, 1]
    assert few.classes == ("a", "b")
    assert few.fingerprint == data.subset(classes=2, train=4, test=1, seed=0).fingerprint != data.fingerprint


def test_a_class_of_one_sample_cannot_be_split_and_is_named_with_the_ways_out():
    data = dataset([0, 0, 1])
    with pytest.raises(
        InputError, match=r"class 'dog' has 1 training sample, .*: leave the class out, or hold none out \(valid"
    ):
        data.hold_out(0.1, seed=0)
    assert len(data.hold_out("test", seed=0).train) == 3


def test_all_classes_that_are_too_small_to_be_split_are_named_at_once():
    data = Dataset("d", samples([0, 0, 1, 2, 3, 4]), samples([0]), tuple("abcdefg"), (0.5,), (0.25,))
    with pytest.raises(InputError, match="classes 'f', 'g' have no training samples: number labels from 0"):
        data.hold_out(0.1, seed=0)
    data = dataclasses.replace(data, classes=tuple("abcde"))
    with pytest.raises(
        InputError, match=r"classes 'b', 'c', 'd' and 1 more have 1 training sample each, .*: leave these classes out"
    ):
        data.hold_out(0.1, seed=0)


def test_labels_that_start_at_1_are_told_to_start_at_0():
    data = dataset([1, 1, 1])
    with pytest.raises(InputError, match="class 'cat' has no training samples: number labels from 0 in the order"):
        data.hold_out(0.1, seed=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, ">i8"])
def test_labels_of_any_whole_numbers_are_the_same_data(dtype):
    whole = samples([0, 1, 1])
    given = Samples(whole.images, whole.labels.astype(dtype))
    assert given.labels.dtype == np.int64
    assert given.fingerprint == whole.fingerprint


@pytest.mark.parametrize("kind", [list, np.uint8, np.array, torch.tensor])
def test_labels_alone_are_samples_without_pixels(kind):
    made = Samples.of_labels(kind([0, 2, 1]))
    assert made.images.shape == (3, 0, 0, 0)
    assert made.labels.dtype == np.int64
    assert made.labels.tolist() == [0, 2, 1]
    assert made.take(np.array([1])).fingerprint == Samples.of_labels([2]).fingerprint != made.fingerprint
    with pytest.raises(InputError, match=r"data set 'd' needs images with pixels, and its are \(0, 0, 0\)"):
        Dataset("d", made, made, ("cat", "dog", "cow"))


@pytest.mark.parametrize("labels", [[0.5, 1.0], [[0, 1]], 3, ["cat"], torch.zeros(2, device="meta", dtype=torch.long)])
def test_what_are_no_labels_are_not_taken_for_labels_alone(labels):
    with pytest.raises(InputError, match=r"labels must be (whole numbers|an array of whole numbers)"):
        Samples.of_labels(labels)


@pytest.mark.parametrize("kind", [list, np.array, lambda labels: np.array(labels, object)])
def test_labels_that_are_words_are_told_how_to_number_them(kind):
    labels = kind(["pos", "neg", "pos"])
    remedy = "classes, labels = np.unique(labels, return_inverse=True)"
    with pytest.raises(InputError, match=rf"got \S+ \(3,\): {re.escape(remedy)} numbers them$"):
        Samples.of_labels(labels)
    names = {"np": np, "labels": labels}
    exec(remedy, names)
    assert Samples.of_labels(names["labels"]).labels.tolist() == [1, 0, 1]
    assert list(names["classes"]) == ["neg", "pos"]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            np.zeros((2, 2, 2, 1)),
            np.zeros(2, np.int64),
            r"images must be uint8 \(N, H, W, C\), got .*\(take np.rint\(255 \* images\).astype\(np.uint8\) of ",
        ),
        (np.zeros((2, 2, 2, 1), np.int64), np.zeros(2, np.int64), r"got int64 \(2, 2, 2, 1\)$"),
        (np.zeros((2, 2, 2), np.uint8), np.zeros(2, np.int64), r"images must be uint8 \(N, H, W, C\)"),
        (np.zeros((2, 2, 2, 1), np.uint8), [0, 1], "labels must be a numpy array, got list"),
        (np.zeros((2, 2, 2, 1), np.uint8), np.zeros(3, np.int64), r"labels must be whole numbers \(2,\)"),
        (np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2), r"labels must be whole numbers \(2,\), got float64 \(2,\)"),
        (np.zeros((2, 2, 2, 1), np.uint8), np.zeros(2, bool), r"labels must be whole numbers \(2,\), got bool"),
        (np.zeros((2, 2, 2, 1), np.uint8), np.array([0, -1]), "labels must be at least 0, got -1"),
        (
            np.zeros((1, 2, 2, 1), np.uint8),
            np.array([2**63], np.uint64),
            r"labels must be below 2\^63, got 9223372036854775808",
        ),
    ],
)
def test_arrays_of_the_wrong_kind_are_told_what_is_right(images, labels, message):
    with pytest.raises(InputError, match=message):
        Samples(images, labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": ("cat",)}, "at least 2 classes"),
        (
            {"classes": {0: "cat", 1: "dog"}},
            r"alone, such as .* or list\(class_to_idx\), in the order of",
        ),
        ({"classes": ("cat", "cat")}, "need different names, and data set .* has more than one 'cat'"),
        ({"train": samples([0, 2])}, "training label 2, but 2 classes"),
        ({"test": samples([])}, "no test samples"),
        ({"mean": (0.5, 0.5)}, "one value for each of the 1 channels"),
        ({"std": (0.0,)}, "std must be above 0"),
        ({"std": (float("nan"),)}, "mean and std must be finite, got .0.5,. and .nan,."),
        ({"mean": (float("nan"),)}, "mean and std must be finite"),
        (
            {split: Samples(np.zeros((2, 3, 32, 32), np.uint8), np.arange(2)) for split in ("train", "test")},
            r"look like \(N, C, H, W\): \(2, 3, 32, 32\)",
        ),
        ({"test": Samples(np.zeros((1, 3, 3, 1), np.uint8), np.zeros(1, np.int64))}, "test images are"),
    ],
)
def test_a_data_set_that_cannot_be_trained_on_is_refused(change, message):
    fields = {
        "name": "d",
        "train": samples([0, 1]),
        "test": samples([0, 1]),
        "classes": ("cat", "dog"),
        "mean": (0.5,),
        "std": (0.25,),
    }
    with pytest.raises(InputError, match=message):
        Dataset(**(fields | change))
