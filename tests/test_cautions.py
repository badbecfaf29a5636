"""What makes figures less telling than they look is said, and only then."""

import dataclasses
import re

import numpy as np
import pytest

from hardtune import Treatment, load
from hardtune.cautions import (
    BY_SIZE,
    cautions,
    chance_in_hardness,
    chance_in_the_ece,
    chance_in_the_gap,
    chance_in_the_worst_recall,
    copies_that_matter,
    never_recognised,
)
from hardtune.data import Dataset, Samples, with_label_noise
from hardtune.evaluation.recall import gap_by_chance
from hardtune.hardness.estimators import class_hardness, feature_scores


def of_sizes(train, test):
    def samples(sizes):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        return Samples(rng.integers(256, size=(len(labels), 4, 4, 1), dtype=np.uint8), labels)

    rng = np.random.default_rng(0)

    return Dataset("d", samples(train), samples(test), ("cat", "dog", "elk"))


def said_of(split, treatments, **how):
    return cautions(split, treatments, copies_that_matter(split, treatments), **how)


BALANCED, METHOD = (100, 100, 100), Treatment(entropy_weight=0.1)


def test_nothing_is_said_of_balanced_data_with_enough_held_out():
    assert said_of(load("digits").hold_out(0.3, 0), [METHOD]) == []
    assert said_of(of_sizes(BALANCED, BALANCED).hold_out(0.1, 0), [METHOD]) == []


def test_few_held_out_samples_of_a_class_are_told_with_the_fewest():
    (said,) = said_of(of_sizes((100, 100, 60), (100, 100, 60)).hold_out(0.1, 0), [METHOD])
    assert said.startswith("1 of 3 classes has fewer than 10 held-out samples ('elk' has 6), so recall there")
    assert said.endswith("is mostly chance: hold out more (--recipe validation=…)")
    assert said_of(of_sizes((100, 100, 60), (100, 100, 60)).hold_out("test", 0), [METHOD]) == []
    assert said_of(of_sizes((100, 100, 60), (100, 100, 60)).hold_out(0.1, 0), [METHOD], choosing=False) == []


@pytest.mark.parametrize(
    ("test", "told"),
    [
        ((100, 100, 9), "1 of 3 classes has fewer than 10 test samples ('elk' has 9), so recall there"),
        ((100, 9, 8), "2 of 3 classes have fewer than 10 test samples ('elk' has 8), so recall there"),
        ((100, 9, 0), "2 of 3 classes have fewer than 10 test samples ('elk' has none), so recall there"),
        ((100, 0, 0), "2 of 3 classes have fewer than 10 test samples (2 have none, 'dog' for one), so recall there"),
    ],
)
def test_few_test_samples_of_a_class_are_told_and_how_many_have_none(test, told):
    for validation in (0.1, "test"):
        said = said_of(of_sizes(BALANCED, test).hold_out(validation, 0), [METHOD])[0]
        assert said.startswith(told)
        assert said.endswith(": add test images")


def test_a_test_split_with_other_shares_of_the_classes_is_told():
    (said,) = said_of(of_sizes((400, 100, 100), (50, 50, 50)).hold_out(0.1, 0), [METHOD])
    assert said.startswith("the test split has other shares of the classes")
    assert said.endswith("so recall_gap and balanced_accuracy do, too")


def test_a_test_split_of_nearly_the_same_shares_is_not_told():
    assert said_of(of_sizes(BALANCED, (124, 88, 88)).hold_out(0.1, 0), [METHOD]) == []


def with_copies(copies, of, to, *, label=None):
    """Balanced data whose image ``of`` + i is also image ``to`` + i, for as many copies, which may have a label."""
    data = of_sizes((100, 100, 100), BALANCED)
    images, labels = np.concatenate([data.train.images, data.test.images]), np.concatenate([data.train.labels] * 2)
    images[to : to + copies] = images[of : of + copies]
    labels[to : to + copies] = labels[of : of + copies] if label is None else label
    return Dataset("d", Samples(images[:300], labels[:300]), Samples(images[300:], labels[300:]), data.classes)


def test_held_out_and_test_images_that_are_in_the_pool_are_told_if_a_treatment_draws_on_it():
    split = of_sizes(BALANCED, BALANCED).hold_out(0.1, 0)
    images = np.concatenate([split.train.images, split.held_out.images[:2], split.test.images[:2]])
    split = dataclasses.replace(split, pool=Samples(images, np.zeros(len(images), np.int64)))
    draws = Treatment(alpha=1.0, policy="shift", oversample="pool_random")
    test, held_out = said_of(split, [METHOD, draws])
    assert test.startswith("2 of 300 test images are in the pool, too, from which classes gain training samples")
    assert "(test image 0 ('cat') is pool image 272 ('cat'), " in test
    assert held_out.startswith("2 of 30 held-out images are in the pool, too")
    assert said_of(split, [METHOD]) == []
    assert said_of(dataclasses.replace(split, pool=split.train), [draws]) == []


def test_test_images_that_are_trained_on_are_told():
    said = (
        "2 of 300 test images are trained on, too (test image 5 ('cat') is training image 7 ('cat'), "
        "test image 6 ('cat') is training image 8 ('cat')), "
        "so figures flatter"
    )
    assert [one[: len(said)] for one in said_of(with_copies(2, of=7, to=305).hold_out("test", 0), [METHOD])] == [said]
    assert said_of(with_copies(1, of=7, to=305).hold_out("test", 0), [METHOD]) == [], "too few to matter"


def test_test_images_that_the_search_sees_are_told():
    split = with_copies(60, of=0, to=300).hold_out(0.5, 0)
    held = np.count_nonzero(split.held < 60)
    trained, seen = said_of(split, [METHOD])
    assert trained.startswith(f"{60 - held} of 300 test images are trained on, too")
    assert seen.startswith(f"{held} of 300 test images are held-out ones, too, by which treatments are chosen")
    assert said_of(split, [METHOD], choosing=False) == [trained], "a list's are compared on the test split"


def test_wrong_labels_of_held_out_samples_are_told_and_nothing_is_promised_of_their_recall():
    data = with_label_noise(of_sizes((400, 100, 100), (50, 50, 50)), 0.1)
    mislabelled, shares = said_of(data.hold_out(0.2, 0), [METHOD])
    assert mislabelled.startswith("held-out samples have wrong labels, too")
    assert mislabelled.endswith("are fitted to wrong labels, so …_scaled figures say nothing of the test split")
    assert shares.endswith("of one do not carry over to the other")
    assert "wrong labels" not in " ".join(said_of(data.hold_out("test", 0), [METHOD]))


def test_held_out_images_that_are_trained_on_are_told():
    split = with_copies(30, of=0, to=40).hold_out(0.2, 0)
    twin = {**{row: row + 40 for row in range(30)}, **{row + 40: row for row in range(30)}}
    told = sum(row not in split.kept and other in split.kept for row, other in twin.items())
    (said,) = said_of(split, [METHOD])
    assert told > 2
    assert said.startswith(f"{told} of 60 held-out images are trained on, too")


def test_training_images_of_two_classes_are_told():
    (said,) = said_of(with_copies(3, of=7, to=105, label=1).hold_out("test", 0), [METHOD])
    assert said.startswith("3 of 300 training images are there as another class, too")
    assert "(training image 105 ('dog') is training image 7 ('cat'), training image 106 " in said


def test_copies_in_a_folder_of_images_are_named_by_their_files():
    files = [f"train/{row}.png" for row in range(300)], [f"test/{row}.png" for row in range(300)]

    def named(copies, validation="test", **other):
        split = with_copies(copies, **other).hold_out(validation, 0)
        return said_of(split, [METHOD], files=files)

    (said,) = named(5, of=7, to=305)
    first = "test/5.png is train/7.png, test/6.png is train/8.png, test/7.png is train/9.png, and 2 more"
    assert f"5 of 300 test images are trained on, too ({first}), so figures" in said
    (said,) = named(2, of=7, to=105, label=1)
    first, second = re.findall(r"train/(\d+).png \('(\w+)'\) is train/(\d+).png \('(\w+)'\)", said)
    assert [(first[0], first[2]), (second[0], second[2])] == [("105", "7"), ("106", "8")]
    assert first[1] != first[3]
    held = with_copies(60, of=0, to=300).hold_out(0.5, 0).held
    (_, said) = named(60, 0.5, of=0, to=300)
    such = ", ".join(f"test/{row}.png is train/{row}.png" for row in held[:3])
    assert f"test images are held-out ones, too, by which treatments are chosen ({such}, and " in said


@pytest.mark.parametrize(
    ("treatment", "told"),
    [
        (METHOD, True),
        (Treatment(alpha=1.0, policy="shift", estimator="rmd"), True),
        (Treatment(alpha=1.0, policy="shift", estimator="kmeans"), True),
        (Treatment(entropy_weight=0.1, entropy_estimator="rmd_balanced"), False),
        (Treatment(entropy_weight=0.1, entropy_target="constant"), False),
        (Treatment(alpha=1.0), False),
    ],
)
def test_an_estimator_is_warned_of_where_it_ranks_classes_by_their_size(treatment, told):
    split = of_sizes((2000, 300, 200), (30, 20, 15)).hold_out("test", 0)
    said = said_of(split, [Treatment(), dataclasses.replace(treatment, balance=float(treatment.alpha > 0))])
    assert [sentence.startswith("classes have 200 to 2,000 training samples") for sentence in said] == [True] * told


@pytest.mark.parametrize(("name", "called"), BY_SIZE.items())
def test_what_is_said_of_small_classes_is_what_estimators_call_them(name, called):
    """Eight Gaussian classes, equally hard."""
    labels = np.repeat(np.arange(8), [400, 200, 100, 50, 25, 12, 8, 8])
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, 128))[labels] * 1.5 + rng.normal(size=(len(labels), 128))
    hardness = class_hardness(feature_scores(name, features.astype(np.float32), labels, 8, seed=0), labels, 8)
    assert (hardness[0] > hardness[6:].mean()) == (called == "easy"), hardness


def test_classes_that_no_network_of_the_control_recognises_are_told_and_no_others():
    split = of_sizes((100, 60, 20), BALANCED).hold_out(0.2, 0)  # holds out 20, 12 and 4
    recall = np.array([[0.9, 0.0, 0.0], [0.8, 0.0, 0.0], [0.7, 0.0, 0.0]])
    said = never_recognised(recall, split, epochs=5)
    assert "no held-out sample of 2 of 3 classes ('dog' for one)" in said
    assert said.endswith("train longer than 5 epochs of 144 samples (--recipe epochs=…)")
    assert "1 of 3 classes ('dog')" in never_recognised(recall[:2], split, epochs=5)  # 'elk' had 8 predictions
    recall[2, 1:] = 0.25, np.nan
    assert never_recognised(recall, split, epochs=5) == ""


def test_a_worst_recall_that_a_few_samples_decide_is_told_with_its_class():
    split = of_sizes((600, 100, 60), (50, 50, 50)).hold_out(0.2, 0)  # 12 of the smallest
    said = chance_in_the_worst_recall(np.array([0.9, 0.8, 0.25]), split)
    assert (
        "worst class is 'elk', with a recall of 0.25 on 12 held-out samples, which has a standard error of 0.13" in said
    )
    assert "standard error of 0.07" in chance_in_the_worst_recall(np.array([0.9, 0.8, 0.0]), split), "none is not never"
    assert chance_in_the_worst_recall(np.array([0.5, 0.8, 0.6]), split) == "", "120 samples are enough"
    assert "'dog'" in chance_in_the_worst_recall(np.array([0.9, 0.8, np.nan]), split)
    assert (
        chance_in_the_worst_recall(np.array([0.9, 0.8, 0.25]), of_sizes(BALANCED, BALANCED).hold_out("test", 0)) == ""
    )


def test_a_gap_that_is_mostly_chance_is_told_and_no_other():
    split = load("digits").hold_out(0.3, 0)  # some 38 of each class
    said = chance_in_the_gap(0.03, np.full(10, 0.98), split)
    assert "recall gap on 378 held-out samples would still be about 0.022, and the control's is 0.030" in said
    assert said.endswith("and compare test/recall_gap_excess, the gap without chance")
    assert chance_in_the_gap(0.05, np.full(10, 0.98), split) == ""
    assert chance_in_the_gap(0.03, np.full(10, 0.98), load("digits").hold_out("test", 0)) == ""
    gone = np.array([0.9] * 9 + [np.nan])  # a class without held-out samples
    sizes = np.array([30] * 9 + [0])
    assert gap_by_chance(gone, sizes) == pytest.approx(gap_by_chance(gone[:9], sizes[:9]))


def test_an_ece_that_is_mostly_chance_is_told_and_no_other():
    split = load("digits").hold_out(0.3, 0)
    logits = np.zeros((2, 378, 10))
    logits[..., 0] = 5.0  # 94 % sure of each
    said = chance_in_the_ece(0.015, logits, split)
    assert "their ECE on 378 held-out samples would still be about 0.0095, and the control's is 0.015: what" in said
    assert chance_in_the_ece(0.03, logits, split) == ""
    assert chance_in_the_ece(0.015, logits, load("digits").hold_out("test", 0)) == ""


def test_hardness_that_may_be_chance_is_told_where_a_policy_makes_two_to_one_of_any_difference():
    split = of_sizes((400, 300, 200), BALANCED).hold_out("test", 0)
    rng = np.random.default_rng(0)
    scores = {"aum": rng.normal(-2, 1, len(split.train)), "rmd": rng.normal(0, 1, len(split.train))}
    scores["rmd"] += 0.5 * (split.train.labels == 2)
    by_both = [Treatment(alpha=1.0, policy="shift", estimator=name) for name in scores]
    (said,) = chance_in_hardness(split, scores, [Treatment(), *by_both])
    assert said.startswith("by 'aum', classes differ in hardness by no more than chance gives (mean scores of -2.0")
    assert ", with standard errors of up to 0.069), and policies 'shift' and 'reversed' make 2:1 of it" in said
    elsewhere = [Treatment(alpha=1.0), Treatment(balance=1.0, policy="shift"), METHOD, by_both[1]]
    assert chance_in_hardness(split, scores, elsewhere) == []
    assert chance_in_hardness(split, {}, by_both) == []
    gone = of_sizes((400, 300, 0), BALANCED).hold_out("test", 0)  # a plan says that a class has no samples
    assert chance_in_hardness(gone, {"aum": scores["aum"][:700]}, by_both) == []


@pytest.mark.parametrize("sizes", [(100, 60, 30), (4, 3, 2)])
def test_equally_hard_classes_are_told_about_19_times_in_20(sizes):
    split = of_sizes(sizes, BALANCED).hold_out("test", 0)
    rng = np.random.default_rng(0)
    treatments = [Treatment(alpha=1.0, policy="reversed")]
    told = [bool(chance_in_hardness(split, {"aum": rng.normal(size=len(split.train))}, treatments)) for _ in range(400)]
    assert np.mean(told) == pytest.approx(0.95, abs=0.03)


def test_classes_of_unequal_size_that_no_treatment_evens_out_are_told():
    uneven = of_sizes((400, 100, 200), (400, 100, 200)).hold_out(0.1, 0)
    by_hardness, by_both = Treatment(alpha=1.0), Treatment(alpha=1.0, balance=0.5)
    (said,) = said_of(uneven, [METHOD, by_hardness])
    assert said.startswith("classes have 90 to 360 training samples, and no treatment here evens them out")
    assert said.endswith("try balance, from 0 to 1")
    thrice = of_sizes((300, 100, 200), (300, 100, 200)).hold_out(0.1, 0)
    assert "90 to 270 training samples, and no treatment" in said_of(thrice, [by_hardness])[0]
    assert said_of(uneven, [METHOD]) == []
    assert not any("no treatment here" in one for one in said_of(uneven, [by_hardness, by_both]))
    assert said_of(of_sizes(BALANCED, BALANCED).hold_out(0.1, 0), [by_hardness]) == []


def test_a_test_split_of_unequal_classes_is_told_where_treatments_even_them_out():
    uneven = of_sizes((400, 100, 200), (400, 100, 200)).hold_out(0.1, 0)
    by_hardness, by_both = Treatment(alpha=1.0), Treatment(alpha=1.0, balance=0.5)
    (said,) = said_of(uneven, [METHOD, by_hardness, by_both])
    assert said.startswith("classes have 100 to 400 test samples, and with balance networks answer as if classes were")
    assert said.endswith("get worse by that alone: look at balanced_accuracy and the recall of each class")
    for without in (METHOD, Treatment(balance=1.0, undersample="none", oversample="none")):
        assert said_of(uneven, [without]) == []
    for train, test in (((400, 100, 200), (80, 40, 60)), (BALANCED, (400, 100, 200))):
        assert not any("test samples" in one for one in said_of(of_sizes(train, test).hold_out("test", 0), [by_both]))
