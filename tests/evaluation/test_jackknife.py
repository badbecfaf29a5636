"""What figures would be without some of the images, and what that says of other images."""

import numpy as np
import pytest
import torch

from hardtune.errors import InputError
from hardtune.evaluation import METRICS, Predictions, evaluate, metric
from hardtune.evaluation.jackknife import PARTS, jackknife_error, left_out, ood_left_out, parts, recall_left_out
from hardtune.evaluation.ood import ood_figures


def predictions(samples, classes=3, members=2, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.sort(rng.integers(0, classes, samples))
    logits = rng.normal(size=(members, samples, classes))
    logits[:, np.arange(samples), labels] += 1
    return logits, labels


def test_each_part_is_left_out_in_turn_with_its_share_of_every_class(monkeypatch):
    logits, labels = predictions(1000)
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    kept = []
    metric("size", better="max")(lambda predictions: kept.append(predictions) or len(predictions.labels))
    assert left_out(logits[:1], labels)["size"] == [950.0] * PARTS
    everyone = set(Predictions.of(logits[0], labels).log_probabilities[:, 0])
    missing = [everyone - set(some.log_probabilities[:, 0]) for some in kept]
    assert sum(map(len, missing)) == len(set().union(*missing)) == len(labels), "each image is left out once"
    per_class = np.array([np.bincount(labels) - np.bincount(some.labels) for some in kept])
    assert (np.ptp(per_class, axis=0) <= 1).all()


def test_figures_are_those_of_the_other_images_averaged_over_members():
    logits, labels = predictions(PARTS)  # so each part is one image
    found = left_out(logits, labels, hard_classes=[0], temperatures=[2.0, 0.5])
    by_hand = [
        [
            evaluate(np.delete(z, i, 0), np.delete(labels, i), hard_classes=[0], temperature=t)
            for z, t in zip(logits, (2.0, 0.5), strict=True)
        ]
        for i in range(PARTS)
    ]
    assert found.keys() == by_hand[0][0].keys() - {"temperature"}
    for name in ("accuracy", "recall_gap", "ece", "nll_scaled", "recall_hard_easy"):
        expected = [np.mean([member[name] for member in members]) for members in by_hand]
        assert sorted(found[name]) == pytest.approx(sorted(expected))


def test_the_parts_are_the_same_for_whatever_is_predicted():
    logits, labels = predictions(200)
    others = logits + 5  # the same predictions
    assert left_out(logits, labels)["accuracy"] == left_out(others, labels)["accuracy"]


def test_labels_in_a_list_have_the_parts_of_an_array():
    labels = np.arange(50) % 3
    found, count = parts(labels.tolist())
    assert (found.tolist(), count) == (parts(labels)[0].tolist(), PARTS)


def test_one_image_cannot_be_left_out():
    logits, labels = predictions(1)
    assert left_out(logits, labels) == {}
    assert len(left_out(*predictions(2))["accuracy"]) == 2


@pytest.mark.parametrize("metric", ["accuracy", "nll", "recall_gap"])
def test_the_error_is_that_of_drawing_other_images(metric):
    drawn, estimates = [], []
    for seed in range(60):
        logits, labels = predictions(600, members=1, seed=seed)
        drawn.append(evaluate(logits[0], labels)[metric])
        estimates.append(jackknife_error(left_out(logits, labels)[metric]))
    assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(np.std(drawn, ddof=1), rel=0.3)


@pytest.mark.parametrize("outside", [400, 30])
def test_that_of_detecting_images_from_outside_is_of_drawing_both_kinds(outside):
    drawn, estimates = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        scores = {"msp": (rng.normal(size=300), rng.normal(size=outside) + 1)}
        drawn.append(ood_figures(scores)["msp_auroc"])
        found = ood_left_out([scores], np.zeros(300, np.int64))
        assert found.keys() == ood_figures(scores).keys()
        estimates.append(jackknife_error(found["msp_auroc"]))
    assert np.sqrt(np.mean(np.square(estimates))) == pytest.approx(np.std(drawn, ddof=1), rel=0.3)


def test_that_of_detecting_images_is_averaged_over_members_and_needs_two_images_on_each_side():
    rng = np.random.default_rng(0)
    members = [{"msp": (rng.normal(size=50), rng.normal(size=40) + 1)} for _ in range(2)]
    labels = np.zeros(50, np.int64)
    each = [ood_left_out([one], labels)["msp_fpr95"] for one in members]
    assert ood_left_out(members, labels)["msp_fpr95"] == pytest.approx(np.mean(each, axis=0))
    assert ood_left_out([], labels) == {}
    assert ood_left_out([{"msp": (np.ones(50), np.ones(1))}], labels) == {}
    assert ood_left_out([{"msp": (np.ones(1), np.ones(50))}], labels[:1]) == {}


def test_a_classs_recall_is_left_out_by_the_parts_that_have_images_of_it():
    logits, labels = predictions(1000)
    right = (logits.argmax(-1) == labels).mean(axis=0)
    for k, found in enumerate(recall_left_out(logits, labels)):
        assert len(found) == PARTS
        assert jackknife_error(found) == pytest.approx(right[labels == k].std() / np.sqrt((labels == k).sum()), rel=0.4)


def test_of_a_class_of_few_images_each_is_left_out_in_turn():
    logits, _ = predictions(8, classes=3)
    labels = np.array([0] * 5 + [1] * 3)
    right = (logits.argmax(-1) == labels).mean(axis=0)
    few, fewer, none = recall_left_out(logits, labels)
    assert sorted(few) == pytest.approx(sorted(np.delete(right[:5], i).mean() for i in range(5)))
    assert jackknife_error(fewer) == pytest.approx(right[5:].std(ddof=1) / np.sqrt(3))
    assert none == []


def test_values_left_out_that_are_no_array_are_told_what_makes_one_of_them():
    for wrong in (torch.ones(3).bfloat16(), torch.ones(3, requires_grad=True)):
        with pytest.raises(
            InputError, match=r"values must be an array of numbers, .*\.detach\(\)\.float\(\)\.cpu\(\): "
        ):
            jackknife_error(wrong)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan], [[0.5, 0.6]], 0.5])
def test_an_error_needs_two_parts(values):
    with pytest.raises(InputError, match="a jackknife needs at least 2 parts"):
        jackknife_error(values)
