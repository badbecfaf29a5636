import math
import re
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hardtune.errors import HardtuneWarning, InputError
from hardtune.evaluation import (
    METRICS,
    Predictions,
    averaged_softmax,
    check_metrics,
    class_recall,
    diagnose,
    evaluate,
    evaluate_members,
    fit_temperature,
    left_out,
    metric,
    recall_left_out,
)
from hardtune.evaluation.metric import CALIBRATION

PROMISED = {
    "accuracy", "balanced_accuracy", "recall_gap", "recall_gap_excess", "recall_range", "recall_topk_gap", "recall_mad",
    "worst_recall", "recall_bottom_k", "macro_f1", "nll", "brier", "ece", "ece_adaptive", "ece_classwise", "aurc",
    "eaurc", "accuracy_at_80", "accuracy_at_90", "accuracy_at_95", "misclassification_auroc",
}  # fmt: skip


def ensemble(seed=0, members=3, n=200, k=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(k, size=n)
    logits = rng.normal(size=(members, n, k)).astype(np.float32)
    logits[:, np.arange(n), labels] += 1.5
    return logits, labels


def test_every_promised_metric_is_there_and_says_which_way_is_better():
    logits, labels = ensemble()
    assert set(evaluate(logits[0], labels)) == set(METRICS) == PROMISED
    assert {name for name in METRICS if METRICS[name].better == "max"} == {
        "accuracy", "balanced_accuracy", "worst_recall", "recall_bottom_k", "macro_f1", "accuracy_at_80",
        "accuracy_at_90", "accuracy_at_95", "misclassification_auroc",
    }  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_everything_is_finite_for_any_finite_logits(data):
    n, k = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4))
    values = st.sampled_from([0.0, 1.0, -1.0, 50.0, 1e4, -1e4, 3e38, -3e38, 1e-30])
    logits = np.array(data.draw(st.lists(values, min_size=n * k, max_size=n * k))).reshape(n, k)
    labels = np.array(data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n)))
    figures = evaluate(logits, labels, hard_classes=[0], temperature=data.draw(st.sampled_from([0.01, 1.0, 100.0])))
    assert all(np.isfinite(v) for v in figures.values())
    assert all(0 <= figures[name] <= 1 + 1e-12 for name in PROMISED - {"nll", "brier"})
    both = evaluate_members(np.stack([logits, -logits]), labels, held_out=(np.stack([logits, -logits]), labels))
    assert all(np.isfinite(v) for v in both.ensemble.values())


@pytest.mark.parametrize("kept", [np.asarray, lambda p: p.astype(np.float16), lambda p: p.round(3)])
def test_probabilities_are_not_taken_for_logits_in_silence(kept):
    logits = np.random.default_rng(0).normal(size=(50, 4))
    p = kept(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    with pytest.warns(HardtuneWarning, match="look like probabilities, and logits are asked for"):
        evaluate(p, np.arange(50) % 4)
    from_p, from_logits = (evaluate(given, np.arange(50) % 4)["ece"] for given in (np.log(p), logits))
    assert from_p == pytest.approx(from_logits, abs=0.01)


@pytest.mark.parametrize("shift", [0, -9, 900])
def test_logits_are_not_taken_for_log_probabilities_in_silence(shift):
    logits = np.random.default_rng(0).normal(size=(50, 4)) + shift
    with pytest.raises(InputError, match=r"no log-probabilities: .* Predictions\.of\(logits, labels\)"):
        Predictions(logits, np.arange(50) % 4)
    made = Predictions.of(logits, np.arange(50) % 4)
    with pytest.raises(InputError, match="no log-probabilities"):
        Predictions(np.vstack([made.log_probabilities[:1], logits]), np.arange(51) % 4)
    again = Predictions(made.log_probabilities, made.labels)
    assert np.array_equal(again.confidence, made.confidence)
    assert not again.take(again.labels == 4).labels.size


@pytest.mark.parametrize(
    ("log_p", "labels", "says"),
    [
        (np.log([[0.5, 0.5]] * 2), [0, -1], "labels must be in 0..1, got -1..0"),
        (np.log([[0.5, 0.5]] * 2), [0, 2], "labels must be in 0..1, got 0..2"),
        (np.log([[0.5, 0.5]] * 2), [0.0, 1.0], "labels must be 2 whole numbers, got float64"),
        (np.log([[0.5, 0.5]] * 2), [0], "labels must be 2 whole numbers, got int64 of shape (1,)"),
        (np.log([0.5, 0.5]), [0, 1], "log-probabilities must be (samples, classes), at least 1 each, got shape (2,)"),
        (np.zeros((0, 3)), np.zeros(0, int), "(samples, classes), at least 1 each, got shape (0, 3)"),
        ([["a", "b"]], [0], "log-probabilities must be an array of numbers, and are not: ValueError"),
    ],
)
def test_log_probabilities_and_labels_that_do_not_fit_are_one_sentence(log_p, labels, says):
    with pytest.raises(InputError, match=re.escape(says)):
        Predictions(log_p, labels)


def test_log_probabilities_and_labels_of_small_types_give_the_same_figures():
    rng = np.random.default_rng(0)
    labels = rng.integers(40, size=400)  # in 8 bits, 40 classes by 40 are more than there are
    made = Predictions.of(rng.normal(size=(400, 40)).astype(np.float32), labels)
    small = labels.astype(np.uint8)
    again = Predictions(made.log_probabilities.astype(np.float32), small)
    np.testing.assert_array_equal(again.confusion, made.confusion)
    assert again.log_probabilities.dtype == again.take(labels > 3).log_probabilities.dtype == np.float64
    small[:] = 0
    np.testing.assert_array_equal(again.labels, labels)
    assert np.shares_memory(Predictions(made.log_probabilities, labels).log_probabilities, made.log_probabilities)


def test_perfect_predictions_score_perfectly():
    labels = np.arange(10).repeat(3)
    figures = evaluate(np.eye(10)[labels] * 1000, labels)
    for name, value in figures.items():
        best = {"max": 1.0, "min": 0.0}[METRICS[name].better] if name != "misclassification_auroc" else 0.5
        assert value == pytest.approx(best), name


def test_no_metric_depends_on_the_order_of_the_samples():
    logits, labels = ensemble()
    rounded = logits[0].round(0)  # plenty of ties
    order = np.random.default_rng(5).permutation(len(labels))
    assert evaluate(rounded, labels) == pytest.approx(evaluate(rounded[order], labels[order]), abs=1e-12)


def test_inputs_may_be_read_only_and_are_left_alone():
    logits, labels = ensemble()
    before = logits.copy(), labels.copy()
    logits.flags.writeable = labels.flags.writeable = False
    evaluate(logits[0], labels, temperature=2.0)
    evaluate_members(logits, labels, held_out=(logits, labels))
    assert np.array_equal(logits, before[0])
    assert np.array_equal(labels, before[1])


@pytest.mark.parametrize(
    ("function", "times"),
    [
        (lambda z, y: evaluate(z[0], y), 8),
        (lambda z, y: evaluate(z[0], y, temperature=2.0), 13),
        (evaluate_members, 10),
        (lambda z, y: evaluate_members(z, y, held_out=(z, y)), 15),
        (left_out, 12.5),
        (lambda z, y: left_out(z, y, temperatures=[2.0] * 3), 22.5),
    ],
    ids=["evaluate", "scaled", "members", "held out", "left out", "left out, scaled"],
)
def test_memory_is_what_the_docstrings_say_of_one_members_logits(function, times):
    logits, labels = ensemble(n=20_000, k=20)
    function(logits[:, :50], labels[:50])  # imports scipy
    tracemalloc.start()
    function(logits, labels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak / logits[0].nbytes == pytest.approx(times, rel=0.25)


def test_temperature_adds_calibration_after_scaling_and_leaves_the_rest():
    logits, labels = ensemble(n=2000)
    plain = evaluate(logits[0], labels)
    temperature = fit_temperature(logits[0], labels)
    scaled = evaluate(logits[0], labels, temperature=temperature)
    divided = evaluate(logits[0] / np.float64(temperature), labels)
    added = {k: v for k, v in scaled.items() if k not in plain}
    assert {k: v for k, v in scaled.items() if k in plain} == plain
    assert added.pop("temperature") == temperature
    assert set(added) == {f"{name}_scaled" for name in ("nll", "brier", "ece", "ece_adaptive", "ece_classwise")}
    assert added == pytest.approx({name: divided[name.removesuffix("_scaled")] for name in added})
    assert added["nll_scaled"] < plain["nll"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_logits_are_one_sentence(bad):
    logits, labels = ensemble()
    logits[0, [3, 7], 2] = bad
    with pytest.raises(InputError, match="2 of 200 samples are not"):
        evaluate(logits[0], labels)
    with pytest.raises(InputError, match="finite"):
        evaluate_members(logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((3, 2)), [0, 1], "3 whole numbers"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], "whole numbers"),
        (np.zeros((3, 2)), [0, 1, 2], r"labels must be in 0\.\.1, got 0\.\.2"),
        (np.zeros((3, 2)), [0, -1, 1], r"0\.\.1, got -1"),
        (np.zeros((0, 2)), [], "at least 1"),
        (np.zeros((3, 1)), [0, 0, 0], "at least 1 and 2"),
        (np.zeros(3), [0, 0, 0], "shape"),
    ],
)
def test_what_does_not_fit_is_one_sentence(logits, labels, message):
    with pytest.raises(InputError, match=message):
        evaluate(logits, labels)
    with pytest.raises(InputError):
        evaluate_members(logits[None], labels)


@pytest.mark.parametrize("shape", [(3, 2), (0, 3, 2)])
def test_logits_that_are_not_of_members_are_one_sentence(shape):
    with pytest.raises(InputError, match=r"\(members, samples, classes\)"):
        evaluate_members(np.zeros(shape), [0, 1, 1])


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan, "1.5", True])
def test_a_temperature_is_a_finite_number_above_0(temperature):
    with pytest.raises(InputError, match=f"temperature must be a finite number above 0, got {temperature!r}"):
        evaluate([[2.0, 0.0]], [0], temperature=temperature)
    with pytest.raises(InputError, match=f"temperature must be a finite number above 0, got {temperature!r}"):
        left_out([[[2.0, 0.0]] * 2], [0, 1], temperatures=[temperature])
    assert evaluate([[2.0, 0.0]], [0], temperature=np.float32(2))["temperature"] == 2


@pytest.mark.parametrize("temperature", [1e-320, 1e-200])
def test_a_temperature_next_to_0_leaves_the_largest_alone(temperature):
    cold = Predictions.of([[0.5, 0.25, -1e300], [0.0, 0.0, -9.0]], [0, 0]).at(temperature)
    np.testing.assert_array_equal(cold.probabilities, [[1, 0, 0], [0.5, 0.5, 0]])


@pytest.mark.parametrize("members", [2, 4])
def test_members_are_averaged_not_voted(members):
    logits, labels = ensemble(members=members)
    summary = evaluate_members(logits, labels, hard_classes=[0, 1])
    alone = [evaluate(member, labels, hard_classes=[0, 1]) for member in logits]
    assert list(summary.members) == alone
    for name in alone[0]:
        values = [figures[name] for figures in alone]
        assert summary.member_mean[name] == pytest.approx(np.mean(values))
    assert np.array_equal(summary.recall, [class_recall(Predictions.of(member, labels)) for member in logits])


def test_hard_classes_add_how_much_less_they_are_recognised():
    logits, labels = ensemble()
    recall = class_recall(Predictions.of(logits[0], labels))
    found = evaluate(logits[0], labels, hard_classes=[1, 3])
    assert found["recall_hard_easy"] == pytest.approx(recall[[0, 2, 4]].mean() - recall[[1, 3]].mean())
    assert {name: value for name, value in found.items() if name in PROMISED} == evaluate(logits[0], labels)


def test_the_ensemble_is_the_averaged_softmax():
    logits, labels = ensemble(members=4)
    softmax = np.exp(logits - logits.max(axis=2, keepdims=True))
    mean = (softmax / softmax.sum(axis=2, keepdims=True)).mean(axis=0)
    assert np.allclose(np.exp(averaged_softmax(logits)), mean)
    expected = evaluate(np.log(mean), labels)
    assert evaluate_members(logits, labels).ensemble == pytest.approx(expected, rel=1e-5)


def test_the_ensemble_is_finite_where_every_member_is_sure_of_something_else():
    logits = np.array([[[2000.0, 0.0, 0.0]], [[0.0, 2000.0, 0.0]]])
    summary = evaluate_members(logits, [2])
    assert summary.ensemble["nll"] == pytest.approx(2000.0)  # by softmax first it would be infinite
    assert summary.ensemble["brier"] == pytest.approx(1.5)


def test_one_member_is_its_own_ensemble():
    logits, labels = ensemble(members=1)
    summary = evaluate_members(logits, labels)
    assert summary.ensemble == pytest.approx(summary.member_mean)


def test_temperatures_are_fitted_for_each_member_and_for_the_ensemble():
    logits, labels = ensemble(members=2)
    held_logits, held_labels = ensemble(seed=9, members=2, n=500)
    summary = evaluate_members(logits, labels, held_out=(held_logits, held_labels))
    assert [m["temperature"] for m in summary.members] == [fit_temperature(one, held_labels) for one in held_logits]
    assert summary.ensemble["temperature"] == fit_temperature(averaged_softmax(held_logits), held_labels)
    assert summary.member_mean["nll_scaled"] < summary.member_mean["nll"]
    with pytest.raises(InputError, match="1 members, the others of 2"):
        evaluate_members(logits, labels, held_out=(held_logits[:1], held_labels))


@pytest.mark.parametrize(
    "judge",
    [
        evaluate_members,
        lambda logits, labels: evaluate_members(logits, labels, held_out=(logits, labels)),
        diagnose,
    ],
    ids=["evaluate", "temperatures", "diagnose"],
)
def test_many_members_take_hardly_more_memory_than_two(judge):
    """Eight members' predictions on 50,000 samples of 1,000 classes would fill a machine's memory."""

    def peak(members):
        logits, labels = ensemble(members=members, n=1000, k=100)
        judge(logits[:, :10], labels[:10])  # imports what it needs
        tracemalloc.start()
        try:
            judge(logits, labels)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(12) < 1.3 * peak(2)


def test_a_metric_of_ones_own_is_computed_with_the_others_and_must_be_finite(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))  # forget it afterwards

    @metric("odd", better="min")
    def odd(predictions):
        return float("nan") if predictions.correct.all() else 0.25

    assert evaluate([[1.0, 0.0], [1.0, 0.0]], [0, 1])["odd"] == 0.25
    with pytest.raises(InputError, match="metric 'odd' is nan, and must be a finite number"):
        evaluate([[1.0, 0.0]], [0])


@pytest.mark.parametrize(
    "field",
    ["log_probabilities", "labels", "probabilities", "predicted", "confidence", "correct", "confusion", "ranked"],
)
def test_a_metric_of_ones_own_cannot_change_what_others_are_given(monkeypatch, field):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric("sorts", better="max")
    def sorts(predictions):
        given = getattr(predictions, field)
        for array in given if isinstance(given, tuple) else (given,):
            array.sort()
        return 0.0

    with pytest.raises(InputError, match=r"metric .sorts. fails: ValueError: .*read-only"):
        evaluate([[2.0, 0.0], [0.0, 1.0]], [1, 0])


def test_a_name_that_is_taken_or_lacking_is_said():
    with pytest.raises(InputError, match="the metric name 'ece' is taken"):
        metric("ece", better="min")(lambda predictions: 0.0)
    with pytest.raises(InputError, match="a metric is registered under a name, in parentheses and quotes"):
        metric(lambda predictions: 0.0, better="min")


def test_a_metric_of_ones_own_that_raises_is_named_with_what_it_raised(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))

    @metric("third_class", better="max")
    def third_class(predictions):
        return class_recall(predictions)[2]

    assert evaluate(np.eye(3), [0, 1, 2])["third_class"] == 1
    with pytest.raises(InputError, match="metric 'third_class' fails: IndexError: index 2 is out of bounds"):
        evaluate(np.eye(2), [0, 1])


def test_metrics_are_tried_on_a_few_samples_of_each_class_that_has_any_however_many_there_are(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    seen = []
    metric("sizes", better="max")(lambda it: float(seen.append(np.bincount(it.labels, minlength=it.num_classes)) or 0))
    labels = np.repeat(np.arange(20), 20_000)
    labels = np.concatenate([labels[labels < 18], [18]])  # one of the last but one, none of the last
    check_metrics(labels[:1], 20)  # imports scikit-learn
    tracemalloc.start()
    check_metrics(labels, 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(labels) * 20 * 8 / 2, "half of what the logits of all would take"
    assert list(seen[-1][18:]) == [1, 0]
    assert min(seen[-1][:18]) == max(seen[-1]) > 100
    check_metrics(np.repeat(np.arange(1000), 50), 1000)
    assert set(seen[-1]) == {8}


@pytest.mark.parametrize("name", ["recall@5", "recall (%)", "test/mine", "", "..", "two\nlines"])
def test_a_metric_that_records_could_not_show_under_its_name_is_refused_where_it_is_written(name):
    with pytest.raises(InputError, match=r"metric names begin .* have letters, digits, _, -, \. and spaces, got"):
        metric(name, better="max")


@pytest.mark.parametrize("name", ["temperature", "recall_hard_easy", *(f"{name}_scaled" for name in CALIBRATION)])
def test_a_metric_cannot_have_the_name_of_what_is_computed_beside_it(name):
    with pytest.raises(InputError, match=f"{name!r} is what hardtune computes beside the metrics"):
        metric(name, better="min")


def test_a_metric_may_be_called_scaled_if_nothing_else_is(monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    metric("mine_scaled", better="min")(lambda predictions: 0.5)
    assert evaluate(np.eye(2), [0, 1])["mine_scaled"] == 0.5


def test_a_metric_says_which_way_it_is_better():
    with pytest.raises(InputError, match="metric 'mine' is better='min' where lower is better, or 'max', got 'higher'"):
        metric("mine", better="higher")
    assert "mine" not in METRICS


def test_ten_thousand_samples_of_a_hundred_classes_take_well_under_a_second():
    logits, labels = ensemble(members=1, n=10_000, k=100)
    evaluate(logits[0, :10], labels[:10])  # imports scikit-learn
    start = time.process_time()
    evaluate(logits[0], labels)
    assert time.process_time() - start < 0.5


def test_importing_the_room_imports_nothing_heavy():
    import subprocess
    import sys

    heavy = "torch", "sklearn", "scipy", "torchmetrics", "PIL"
    code = f"import sys, hardtune.evaluation; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_no_average_is_taken_of_a_member_that_diverged():
    logits, _ = ensemble()
    logits[2, 5, 1] = np.nan
    with pytest.raises(InputError, match="finite"):
        averaged_softmax(logits)


@pytest.mark.parametrize("logits", [[[1.0, 2.0], [3.0]], "ab"])
def test_what_is_no_array_of_numbers_is_said_in_a_sentence(logits):
    with pytest.raises(InputError, match="logits must be an array of numbers, and are not: "):
        evaluate(logits, [0, 1])


TENSORS = (
    torch.arange(12).reshape(2, 2, 3).to(torch.bfloat16),
    torch.arange(12.0).reshape(2, 2, 3).requires_grad_(),
)
HOW = r"logits must be an array of numbers, and are not, so pass the tensor's \.detach\(\)\.float\(\)\.cpu\(\): "


@pytest.mark.parametrize("tensor", TENSORS, ids=["bfloat16", "gradients"])
def test_a_tensor_that_is_no_array_is_told_how_to_become_one(tensor):
    for logits in (tensor[0], list(tensor[0])):
        with pytest.raises(InputError, match=HOW):
            evaluate(logits, [0, 1])
    assert evaluate(tensor[0].detach().float().cpu(), [0, 1])["accuracy"] == 0


JUDGES = evaluate_members, diagnose, left_out, recall_left_out


@pytest.mark.parametrize("judge", [*JUDGES, lambda logits, labels: averaged_softmax(logits)])
def test_members_that_are_no_array_are_said_in_a_sentence(judge):
    with pytest.raises(InputError, match="logits must be an array of numbers, and are not: "):
        judge([[[1.0]], []], [0, 1])
    for logits in (*TENSORS, *map(list, TENSORS)):
        with pytest.raises(InputError, match=HOW):
            judge(logits, [0, 1])
    with pytest.raises(InputError, match=r"logits must be \(members, samples, classes\), got shape \(0, 2, 3\)"):
        judge(np.zeros((0, 2, 3)), [0, 1])


@pytest.mark.parametrize("judge", JUDGES)
def test_labels_that_are_no_array_of_the_samples_are_said_in_a_sentence(judge):
    of_a_gpu = torch.zeros(2, dtype=torch.int64, device="meta")
    for labels, remedy in (([[0], [1, 0]], ""), (of_a_gpu, r", so pass the tensor's \.cpu\(\)")):
        with pytest.raises(InputError, match=f"labels must be an array of whole numbers, and are not{remedy}: "):
            judge(np.zeros((2, 2, 3)), labels)
    with pytest.raises(InputError, match="labels must be 2 whole numbers, got int64 of shape"):
        judge(np.zeros((2, 2, 3)), np.zeros((2, 1), np.int64))
    with pytest.raises(InputError, match="at least 1 and 2 of them"):
        judge(np.zeros((2, 0, 3)), np.zeros(0, np.int64))


def test_held_out_logits_are_of_the_same_classes():
    with pytest.raises(InputError, match="held-out logits are of 3 classes, the others of 4"):
        evaluate_members(np.zeros((2, 5, 4)), np.arange(5) % 4, held_out=(np.zeros((2, 5, 3)), np.arange(5) % 3))
