"""Training dynamics, against values worked by hand and against what a training loop may do to them."""

import math
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hardtune.errors import HardtuneWarning, InputError
from hardtune.hardness.dynamics import Dynamics

# Probabilities of (given class, strongest rival, the third), and who gets which in four epochs.
SURE, LEANING, WRONG = (0.8, 0.1, 0.1), (0.5, 0.3, 0.2), (0.2, 0.7, 0.1)
TABLE = [(SURE, WRONG, WRONG), (SURE, LEANING, WRONG), (SURE, WRONG, WRONG), (SURE, LEANING, WRONG)]
GOLDEN = {
    "aum": [-math.log(8), -(math.log(5 / 3) + math.log(2 / 7)) / 2, -math.log(2 / 7)],
    "margin": [-0.7, 0.15, 0.5],
    "el2n": [math.sqrt(0.06), math.sqrt(0.38), math.sqrt(1.14)],  # after the second epoch
    "el2n_mean": [math.sqrt(0.06), (math.sqrt(0.38) + math.sqrt(1.14)) / 2, math.sqrt(1.14)],
    "forgetting": [0, 1, 2],  # the third is never learned: one above the largest count
    "confidence": [-0.8, -0.35, -0.2],
    "variability": [0, 0.15, 0],
    "dataiq": [0.16, 0.205, 0.16],
    "loss": [-math.log(0.8), -(math.log(0.5) + math.log(0.2)) / 2, -math.log(0.2)],
}
LABELS = torch.tensor([0, 1, 2])


def logits_of(row):
    """Logits whose softmax is the row's probabilities, each sample's given class first put in its place."""
    return torch.stack([torch.tensor(p).log().roll(i) + i for i, p in enumerate(row)])


def watch(table, *, order=(0, 1, 2), early_epoch=2, dtype=torch.float32):
    dynamics = Dynamics(3, early_epoch=early_epoch)
    ids = torch.tensor(order)
    for row in table:
        logits = logits_of(row)
        for part in ids.split(2):
            dynamics.update(part, logits[part].to(dtype), LABELS[part])
        dynamics.end_epoch(lambda logits=logits: logits)
    return dynamics.scores()


@pytest.mark.parametrize("name", GOLDEN)
def test_a_score_equals_the_formula_worked_by_hand(name):
    np.testing.assert_allclose(watch(TABLE)[name], GOLDEN[name], rtol=1e-5, atol=1e-6)


def test_scores_are_finite_float32_one_per_sample():
    scores = watch(TABLE)
    assert set(scores) == set(GOLDEN)
    for score in scores.values():
        assert score.dtype == np.float32
        assert score.shape == (3,)
        assert np.isfinite(score).all()


def test_the_order_within_an_epoch_does_not_matter():
    one, other = watch(TABLE), watch(TABLE, order=(2, 0, 1))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_sample_is_averaged_over_the_times_it_was_seen():
    dynamics = Dynamics(2)
    logits = torch.tensor([[2.0, 0.0], [3.0, 0.0]])
    zeros = torch.zeros(2, dtype=torch.int64)
    dynamics.update(torch.tensor([0, 1]), logits, zeros)
    for _ in range(3):
        dynamics.update(torch.tensor([1]), logits[1:] + torch.tensor([1.0, 0.0]), zeros[1:])
    np.testing.assert_allclose(dynamics.scores()["aum"], [-2.0, -(3.0 + 3 * 4.0) / 4])


def test_a_sample_never_learned_ranks_above_the_most_forgotten():
    dynamics = Dynamics(3)
    for epoch in range(9):
        flips = epoch % 2 == 0
        z = torch.tensor([[1.0, 0.0], [1.0 if flips else -1.0, 0.0], [-1.0, 0.0]])
        dynamics.update(torch.arange(3), z, torch.zeros(3, dtype=torch.int64))
    forgetting = dynamics.scores()["forgetting"]
    assert list(forgetting) == [0, 4, 5]


@pytest.mark.parametrize("views", [[1.0, -1.0], [-1.0, 1.0]])
def test_a_sample_that_stands_twice_in_a_batch_was_correct_if_both_views_were(views):
    dynamics = Dynamics(2)
    for batch in ([1.0, 1.0], views, [-1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], views):
        dynamics.update(
            torch.zeros(2, dtype=torch.int64),
            torch.tensor(batch)[:, None] * torch.tensor([1.0, 0.0]),
            torch.zeros(2, dtype=torch.int64),
        )
    dynamics.update(torch.tensor([1]), torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    assert list(dynamics.scores()["forgetting"]) == [3, 0]


def test_a_tie_between_classes_is_not_correct():
    dynamics = Dynamics(2)
    dynamics.update(torch.arange(2), torch.zeros(2, 5), torch.tensor([0, 4]))
    assert list(dynamics.scores()["forgetting"]) == [1, 1]


def test_el2n_is_read_once_at_the_early_epoch_from_predict():
    calls = []

    def predict():
        calls.append(len(calls))
        return torch.tensor([[9.0, -9.0]])

    dynamics = Dynamics(1, early_epoch=2)
    for _ in range(4):
        dynamics.update(torch.tensor([0]), torch.zeros(1, 2), torch.tensor([1]))
        dynamics.end_epoch(predict)
    assert calls == [0]
    np.testing.assert_allclose(dynamics.scores()["el2n"], math.sqrt(2), rtol=1e-6)
    np.testing.assert_allclose(dynamics.scores()["el2n_mean"], math.sqrt(0.5), rtol=1e-6)


def test_predictions_may_come_in_parts():
    logits, labels = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10) % 3
    found = []
    parted = (lambda: list(logits.split(4)), lambda: (part for part in logits.split(3)), lambda: [logits[:0], logits])
    for predict in (lambda: logits, *parted):
        dynamics = Dynamics(10, early_epoch=1)
        dynamics.update(torch.arange(10), logits, labels)
        with pytest.raises(InputError, match=r"got 6 rows$"):
            dynamics.end_epoch(lambda: logits[:6].split(3))
        with pytest.raises(InputError, match=r"got \(8, 3\) after 8 rows$"):
            dynamics.end_epoch(lambda: [logits[:8]] * 2)
        with pytest.raises(InputError, match=r"predict must be a function that returns logits, .* got Tensor"):
            dynamics.end_epoch(logits)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dynamics.end_epoch(predict)
        found.append(dynamics.scores()["el2n"])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_beside_the_predictions_el2n_takes_little_memory():
    class LargestMade(TorchDispatchMode):
        values = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            if isinstance(made, torch.Tensor):
                self.values = max(self.values, made.numel())
            return made

    logits, labels = torch.randn(50_000, 40, generator=torch.Generator().manual_seed(0)), torch.arange(50_000) % 40
    dynamics = Dynamics(50_000, early_epoch=1)
    dynamics.update(torch.arange(50_000), logits, labels)
    predicted = -logits
    with LargestMade() as largest:
        dynamics.end_epoch(lambda: predicted)
    assert largest.values < predicted.numel() / 2
    expected = torch.linalg.vector_norm(predicted.softmax(1) - torch.nn.functional.one_hot(labels, 40), dim=1)
    np.testing.assert_allclose(dynamics.scores()["el2n"], expected, rtol=1e-5)


def test_variability_survives_a_tiny_spread_around_a_large_mean():
    dynamics = Dynamics(1)
    spread = 1e-5
    p = 0.9 + spread * np.array([-1, 1] * 200)
    for value in p:
        z = torch.tensor([[math.log(value / (1 - value)), 0.0]])
        dynamics.update(torch.tensor([0]), z, torch.tensor([0]))
    assert dynamics.scores()["variability"][0] == pytest.approx(spread, rel=0.02)


def test_samples_whose_confidence_never_changes_have_no_variability_whatever_their_squares_are_rounded_to():
    dynamics = Dynamics(200)
    logits = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(100):
        dynamics.update(torch.arange(200), logits, torch.zeros(200, dtype=torch.int64))
    np.testing.assert_allclose(dynamics.scores()["variability"], 0, atol=1e-7)


def test_logits_may_be_half_precision_and_carry_a_gradient():
    half = watch(TABLE, dtype=torch.bfloat16)["aum"]
    np.testing.assert_allclose(half, GOLDEN["aum"], rtol=0.02)
    dynamics = Dynamics(1)
    z = torch.zeros(1, 2, requires_grad=True)
    dynamics.update(torch.tensor([0]), z, torch.tensor([0]))
    z.sum().backward()
    np.testing.assert_array_equal(dynamics.scores()["aum"], [0.0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_raise_when_their_epoch_ends(bad):
    dynamics = Dynamics(2)
    dynamics.update(torch.tensor([0, 1]), torch.ones(2, 3), torch.tensor([0, 1]))
    dynamics.end_epoch()
    dynamics.update(torch.tensor([0, 1]), torch.tensor([[0.0, bad, 0.0], [0.0, 0.0, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="NaN or infinite in epoch 2"):
        dynamics.end_epoch()


def test_logits_too_far_apart_for_float32_raise_as_infinite_ones_do():
    for label in (0, 1):
        dynamics = Dynamics(1)
        dynamics.update(torch.tensor([0]), torch.tensor([[-3e38, 3e38]]), torch.tensor([label]))
        with pytest.raises(InputError, match="logits, or their differences, became NaN or infinite in training"):
            dynamics.scores()
        with pytest.raises(InputError, match="NaN or infinite in epoch 1"):
            dynamics.end_epoch()


def test_after_logits_that_were_not_finite_the_state_from_before_goes_on_as_if_they_had_never_been():
    ids, logits = torch.arange(2), torch.tensor([[3.0, 0.0], [1.0, 2.0]])
    dynamics, other = Dynamics(2), Dynamics(2)
    for one in (dynamics, other):
        one.update(ids, logits, ids)
        one.end_epoch()
    before = dynamics.state_dict()
    dynamics.update(ids, logits * math.inf, ids)
    for _ in range(2):  # what was passed to update stays
        with pytest.raises(InputError, match=r"go on by load_state_dict from before; .* calls update after"):
            dynamics.end_epoch()
    dynamics.load_state_dict(before)
    for one in (dynamics, other):
        one.update(ids, -logits, ids)
        one.end_epoch()
    assert dynamics.epochs == other.epochs == 2
    for name, scores in other.scores().items():
        np.testing.assert_array_equal(dynamics.scores()[name], scores)


def test_there_are_no_scores_of_logits_that_were_not_finite_whether_or_not_their_epoch_was_ended():
    dynamics = Dynamics(2)
    dynamics.update(torch.tensor([0, 1]), torch.tensor([[math.nan, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="NaN or infinite in training"):
        dynamics.scores()


def test_predictions_that_are_not_finite_raise_too():
    dynamics = Dynamics(1, early_epoch=1)
    dynamics.update(torch.tensor([0]), torch.ones(1, 2), torch.tensor([0]))
    with pytest.raises(InputError, match="evaluation mode"):
        dynamics.end_epoch(lambda: torch.tensor([[math.nan, 0.0]]))


def test_a_sample_never_seen_is_an_error_that_names_one():
    dynamics = Dynamics(3)
    dynamics.update(torch.tensor([0, 2]), torch.ones(2, 2), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"1 of 3 samples .*sample 1 for one"):
        dynamics.scores()


def test_samples_never_seen_may_be_nan_and_the_others_keep_their_scores():
    logits, labels = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    some, alone = Dynamics(6), Dynamics(4)
    for epoch in range(2):
        some.update(torch.arange(4), logits[epoch, :4], labels[:4])
        alone.update(torch.arange(4), logits[epoch, :4], labels[:4])
    with pytest.raises(InputError, match=r"take the others' by scores\(unseen='nan'\)"):
        some.scores()
    resumed = Dynamics(6)
    resumed.load_state_dict(some.state_dict())
    for dynamics in (some, resumed):
        scores = dynamics.scores(unseen="nan")
        for name, expected in alone.scores().items():
            np.testing.assert_array_equal(scores[name], [*expected, np.nan, np.nan], err_msg=name)
    with warnings.catch_warnings(action="error"):
        assert all(np.isnan(score).all() for score in Dynamics(2).scores(unseen="nan").values())
    with pytest.raises(InputError, match="unseen must be 'refuse' or 'nan', got None"):
        some.scores(unseen=None)


def test_samples_unseen_until_the_early_epoch_do_not_end_training_and_have_no_el2n():
    logits, labels = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), torch.arange(4) % 3
    dynamics, all_seen = Dynamics(4, early_epoch=1), Dynamics(4, early_epoch=1)
    dynamics.update(torch.arange(3), logits[:3], labels[:3])
    all_seen.update(torch.arange(4), logits, labels)
    for one in (dynamics, all_seen):
        one.end_epoch(lambda: logits)
    dynamics.update(torch.arange(4), logits, labels)
    dynamics.end_epoch()
    resumed = Dynamics(4, early_epoch=1)
    resumed.load_state_dict(dynamics.state_dict())
    for one in (dynamics, resumed):
        with pytest.raises(
            InputError, match=r"^1 of 4 samples .* until after epoch 1 \(sample 3 for one\).*unseen='nan'"
        ):
            one.scores()
        scores = one.scores(unseen="nan")
        np.testing.assert_array_equal(scores.pop("el2n"), [*all_seen.scores()["el2n"][:3], np.nan])
        assert all(np.isfinite(score).all() for score in scores.values())


def test_an_epoch_whose_predict_failed_may_be_ended_again():
    dynamics = Dynamics(3, early_epoch=1)
    logits, labels = torch.randn(3, 2), torch.tensor([0, 1, 0])
    dynamics.update(torch.arange(3), logits, labels)

    def out_of_memory():
        raise MemoryError

    with pytest.raises(MemoryError):
        dynamics.end_epoch(out_of_memory)
    with pytest.raises(InputError, match="in the order of ids, got ndarray"):
        dynamics.end_epoch(logits.numpy)
    assert dynamics.epochs == 0
    dynamics.end_epoch(lambda: logits)
    assert dynamics.epochs == 1
    expected = torch.linalg.vector_norm(logits.softmax(1) - torch.nn.functional.one_hot(labels, 2), dim=1)
    np.testing.assert_allclose(dynamics.scores()["el2n"], expected, rtol=1e-6)
    np.testing.assert_array_equal(dynamics.state_dict()["sums"][:, 0], 1)


def test_an_early_epoch_without_predict_or_never_reached_is_an_error():
    dynamics = Dynamics(1, early_epoch=2)
    dynamics.update(torch.tensor([0]), torch.ones(1, 2), torch.tensor([0]))
    dynamics.end_epoch()
    with pytest.raises(InputError, match="only 1 epochs"):
        dynamics.scores()
    for _ in range(2):  # it is not taken for an epoch that has ended
        with pytest.raises(InputError, match="no predict"):
            dynamics.end_epoch()
    with pytest.raises(InputError, match="no predict"):
        dynamics.end_epoch()


@pytest.mark.parametrize(
    ("ids", "logits", "labels"),
    [((1,), (2, 2), (2,)), ((2,), (2, 2), (1,)), ((2,), (2, 1), (2,)), ((2,), (2,), (2,)), ((2,), (2, 2, 2), (2,))],
)
def test_shapes_that_do_not_fit_are_an_error(ids, logits, labels):
    with pytest.raises(InputError, match=r"ids \(B,\)"):
        Dynamics(3).update(torch.zeros(ids).long(), torch.ones(logits), torch.zeros(labels).long())


@pytest.mark.parametrize(
    ("given", "got"),
    [
        *((torch.zeros(shape), str(shape)) for shape in [(4, 2), (3,), (3, 2, 1)]),
        (torch.zeros(2, 2), "2 rows"),
        (np.zeros((3, 2)), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_predictions_that_are_no_logits_of_all_samples_are_an_error(given, got):
    dynamics = Dynamics(3, early_epoch=1)
    dynamics.update(torch.arange(3), torch.ones(3, 2), torch.zeros(3).long())
    wanted = r"predict must return logits \(3, K\) in a tensor, or in parts \(b, K\) in the order of ids"
    with pytest.raises(InputError, match=f"{wanted}, got {re.escape(got)}$"):
        dynamics.end_epoch(lambda: given)


@pytest.mark.parametrize("number", [0, 4.0, "4"])
def test_numbers_of_samples_and_epochs_are_whole_and_at_least_1(number):
    with pytest.raises(InputError, match=f"num_samples must be a whole number of at least 1, got {number!r}"):
        Dynamics(number)
    with pytest.raises(InputError, match=f"early_epoch must be a whole number of at least 1, got {number!r}"):
        Dynamics(3, early_epoch=number)
    assert Dynamics(np.int64(3)).num_samples == 3


@pytest.mark.parametrize("device", ["cuda:99", "gpu"])
def test_a_device_that_this_machine_does_not_have_is_named(device):
    with pytest.raises(InputError, match=f"dynamics cannot be kept on device '{device}', but on 'cpu' they can: "):
        Dynamics(4, device=device)


@pytest.mark.parametrize(
    ("ids", "labels", "message"),
    [
        ([0, 3], [0, 1], r"ids must be in 0\.\.2, got 0\.\.3"),
        ([-1, 2], [0, 1], r"ids must be in 0\.\.2, got -1\.\.2"),
        ([0, 1], [0, 2], r"labels must be in 0\.\.1, got 0\.\.2"),
        ([0, 1], [-1, 0], r"labels must be in 0\.\.1, got -1\.\.0"),
    ],
)
def test_an_id_or_a_label_out_of_range_is_an_error_at_once_that_leaves_no_trace(ids, labels, message):
    dynamics = Dynamics(3)
    with pytest.raises(InputError, match=message):
        dynamics.update(torch.tensor(ids), torch.zeros(2, 2), torch.tensor(labels))
    dynamics.update(torch.arange(3), torch.tensor([[1.0, 0.0]] * 3), torch.zeros(3, dtype=torch.int64))
    dynamics.update(torch.arange(0), torch.zeros(0, 2), torch.arange(0))
    assert list(dynamics.scores()["aum"]) == [-1, -1, -1]


def test_an_update_never_waits_for_the_device():
    # Tensors without data: anything that would need a value on the host raises.
    dynamics = Dynamics(8, device="meta")
    ids = torch.empty(4, dtype=torch.int64, device="meta")
    dynamics.update(ids, torch.empty(4, 10, device="meta"), ids)


@pytest.mark.parametrize("size", [1, 20, 500])
def test_scores_do_not_depend_on_the_size_of_the_batches(size):
    generator = torch.Generator().manual_seed(0)
    ids = torch.cat([torch.randperm(1000, generator=generator) for _ in range(5)])
    logits = torch.randn(5000, 3, generator=generator)
    by_epoch, by_batch = Dynamics(1000), Dynamics(1000)
    for dynamics, views in ((by_epoch, 1000), (by_batch, size)):
        for part in torch.arange(5000).split(views):
            dynamics.update(ids[part], logits[part], ids[part] % 3)
    for name, scores in by_epoch.scores().items():
        np.testing.assert_array_equal(by_batch.scores()[name], scores)


def test_an_update_does_not_look_at_the_batches_that_wait():
    class Waiting(list):
        looked_through = 0

        def __iter__(self):
            self.looked_through += 1
            return super().__iter__()

    dynamics = Dynamics(8)
    dynamics._waiting = waiting = Waiting()
    for _ in range(1000):
        dynamics.update(torch.tensor([0]), torch.randn(1, 3), torch.tensor([0]))
    assert len(waiting) == 1000
    assert waiting.looked_through == 0


def test_batches_wait_for_the_same_number_of_views_whatever_was_processed_or_loaded_before():
    dynamics = Dynamics(8)
    empty = dynamics.state_dict()
    for _ in range(3):
        for part in range(2):
            dynamics.update(torch.zeros(1500).long(), torch.randn(1500, 3), torch.zeros(1500).long())
            assert len(dynamics._waiting) == 1 - part
        dynamics.update(torch.tensor([0]), torch.randn(1, 3), torch.tensor([0]))
        dynamics.load_state_dict(empty)
        dynamics.update(torch.zeros(2047).long(), torch.randn(2047, 3), torch.zeros(2047).long())
        assert len(dynamics._waiting) == 1
        dynamics.scores(unseen="nan")


def test_what_an_update_was_given_may_be_written_over_at_once():
    dynamics = Dynamics(2)
    ids, logits, labels = torch.tensor([1]), torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    for _ in range(2):
        dynamics.update(ids, logits, labels)
        ids.fill_(0), logits.fill_(1.0), labels.fill_(1)
    np.testing.assert_array_equal(dynamics.scores()["aum"], [0.0, -2.0])


def test_scores_and_states_may_be_written_over_and_change_nothing_that_is_read_later():
    dynamics = Dynamics(2, early_epoch=1)
    dynamics.update(torch.arange(2), torch.tensor([[2.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1]))
    dynamics.end_epoch(lambda: torch.tensor([[2.0, 0.0], [1.0, 3.0]]))
    expected = dynamics.scores()["el2n"].tolist()
    dynamics.scores()["el2n"][:] = 9.0
    dynamics.state_dict()["early_el2n"].fill_(9.0)
    assert dynamics.scores()["el2n"].tolist() == expected


def test_an_update_writes_into_the_same_memory_every_time_so_a_captured_graph_can_repeat_it():
    dynamics = Dynamics(4)
    state = {name: value for name, value in vars(dynamics).items() if isinstance(value, torch.Tensor)}
    where = {name: value.data_ptr() for name, value in state.items()}
    dynamics.update(torch.arange(4), torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))
    dynamics.end_epoch()
    assert {name: getattr(dynamics, name).data_ptr() for name in state} == where


def test_ids_of_the_loader_instead_of_the_data_set_are_noticed():
    labels, dynamics = torch.arange(40) % 4, Dynamics(40)
    rng = torch.Generator().manual_seed(0)

    def epoch(ids_of):
        for number, batch in enumerate(torch.randperm(40, generator=rng).split(8)):
            dynamics.update(ids_of(number, batch), torch.randn(len(batch), 4, generator=rng), labels[batch])

    for _ in range(2):
        epoch(lambda number, batch: batch)
        dynamics.end_epoch()
    epoch(lambda number, batch: torch.arange(8 * number, 8 * number + 8))
    says = r"with different labels: ids must be positions in the data set, .* \(mixup, CutMix\) update takes .* unmixed"
    with pytest.warns(HardtuneWarning, match=says):
        dynamics.end_epoch()


def test_memory_is_some_ninety_bytes_a_sample():
    state = [value for value in vars(Dynamics(1000)).values() if isinstance(value, torch.Tensor)]
    assert sum(tensor.nbytes for tensor in state) <= 89 * 1000 + 16


def test_half_precision_logits_give_the_scores_of_the_same_numbers_in_float32():
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    half, full = Dynamics(50), Dynamics(50)
    half.update(torch.arange(50), logits, torch.arange(50) % 10)
    full.update(torch.arange(50), logits.float(), torch.arange(50) % 10)
    for name, score in full.scores().items():
        np.testing.assert_array_equal(half.scores()[name], score)


def test_ids_and_labels_may_be_any_whole_numbers():
    logits = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    dynamics = Dynamics(2)
    dynamics.update(torch.tensor([1, 0], dtype=torch.int32), logits, torch.tensor([0, 1], dtype=torch.uint8))
    assert list(dynamics.scores()["aum"]) == [-3, -2]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"ids": torch.tensor([0.9])}, "ids: torch.float32"),
        ({"labels": torch.tensor([0.9])}, "labels: torch.float32"),
        ({"ids": torch.tensor([False])}, "ids: torch.bool"),
        ({"ids": torch.tensor([0j])}, "ids: torch.complex64"),
        ({"labels": torch.tensor([0j])}, "labels: torch.complex64"),
        ({"logits": torch.tensor([[1, 2]])}, "logits: torch.int64"),
        ({"ids": np.array([0])}, "ids: ndarray"),
        ({"labels": [0]}, "labels: list"),
        ({"logits": SimpleNamespace(logits=torch.zeros(1, 2))}, r"logits: SimpleNamespace \(pass its \.logits\)"),
        ({"ids": ("a.png",)}, r"ids: tuple of strings \(map ids to positions 0\.\.N-1\)"),
        ({"ids": [0]}, "ids: list"),
        ({"ids": []}, "ids: list"),
    ],
)
def test_a_batch_of_other_types_is_an_error(wrong, says):
    batch = {"ids": torch.tensor([0]), "logits": torch.zeros(1, 2), "labels": torch.tensor([0]), **wrong}
    with pytest.raises(InputError, match=f"update takes tensors, ids and labels of integers .*; {says}$"):
        Dynamics(1).update(**batch)


@pytest.mark.parametrize(
    ("logits", "labels", "hint"),
    [
        ((4, 5, 3), (4, 5), r": flatten tokens to \(B \* L, K\), each with an id of its own"),
        ((4, 1), (4,), r": of one logit z, pass torch.cat\(\[0 \* z, z\], 1\)"),
        ((4,), (4,), r": of one logit z, pass torch.stack\(\[0 \* z, z\], 1\)"),
        ((5, 3), (4,), ""),
        ((4, 3), (4, 1), ""),
    ],
)
def test_a_batch_of_other_shapes_is_an_error_that_says_how_to_get_the_right_ones(logits, labels, hint):
    with pytest.raises(InputError, match=rf"logits \(B, K\) with K of at least 2 and labels .* and \(4,.*\){hint}$"):
        Dynamics(4).update(torch.arange(4), torch.zeros(logits), torch.zeros(labels).long())


@pytest.mark.parametrize(
    "pair", [lambda z: torch.cat([0 * z[:, None], z[:, None]], 1), lambda z: torch.stack([0 * z, z], 1)]
)
def test_one_logit_beside_0_is_scored_by_the_probability_that_its_sigmoid_gives(pair):
    z, labels = torch.tensor([2.0, -1.0]), torch.tensor([1, 1])
    dynamics = Dynamics(2)
    dynamics.update(torch.arange(2), pair(z), labels)
    np.testing.assert_allclose(dynamics.scores()["confidence"], -torch.sigmoid(z).numpy(), rtol=1e-6)


def test_a_network_may_learn_more_classes_between_two_batches():
    dynamics = Dynamics(2)
    dynamics.update(torch.tensor([0]), torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
    dynamics.update(torch.tensor([1]), torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([2]))
    assert list(dynamics.scores()["aum"]) == [-2, -4]


def test_predictions_that_lack_a_class_are_an_error():
    dynamics = Dynamics(1, early_epoch=1)
    dynamics.update(torch.tensor([0]), torch.zeros(1, 3), torch.tensor([2]))
    with pytest.raises(InputError, match=r"labels, for the logits that predict returned, must be in 0\.\.1, got 2"):
        dynamics.end_epoch(lambda: torch.zeros(1, 2))


@pytest.mark.parametrize("classes", [2, 4])
def test_predictions_of_another_number_of_classes_than_training_are_an_error(classes):
    dynamics = Dynamics(2, early_epoch=1)
    dynamics.update(torch.arange(2), torch.randn(2, 3), torch.tensor([0, 1]))
    says = f"predict returned logits of {classes} classes, and those in training are of 3"
    with pytest.raises(InputError, match=says):
        dynamics.end_epoch(lambda: torch.zeros(2, classes))


def said_of(training, predicted, epochs=2):
    """What is said over some epochs of training on these rows (N, K), with other rows in evaluation mode."""
    labels = torch.arange(len(training)) % training.shape[1]
    dynamics = Dynamics(len(training), early_epoch=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(epochs):
            for part in torch.arange(len(training)).split(16):
                dynamics.update(part, training[part], labels[part])
            dynamics.end_epoch(lambda: predicted)
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message).partition(" look like probabilities")[0] for warning in caught]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_probabilities_in_place_of_logits_are_warned_of_once(dtype):
    logits = 3 * torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    rows = logits.softmax(1).to(dtype)
    assert said_of(rows, logits, epochs=3) == ["the rows that update was given"]
    assert said_of(logits, rows, epochs=3) == ["the rows that predict returned"]


@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0])
def test_logits_and_log_probabilities_are_not_warned_of(scale):
    logits = scale * torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    for rows in (logits, logits.log_softmax(1)):
        assert said_of(rows, rows) == []


def test_who_trains_on_a_subset_is_told_to_number_its_samples():
    with pytest.raises(InputError, match=r"ids must be in 0\.\.2, got 0\.\.9: number the samples of a subset from 0"):
        Dynamics(3).update(torch.tensor([0, 9]), torch.zeros(2, 2), torch.zeros(2).long())
    dynamics = Dynamics(10)
    dynamics.update(torch.tensor([0, 9]), torch.zeros(2, 2), torch.zeros(2).long())
    with pytest.raises(InputError, match=r"8 of 10 samples were never in .* or number those of your subset from 0"):
        dynamics.scores()


def test_a_state_of_another_shape_changes_nothing():
    dynamics = Dynamics(3)
    dynamics.update(torch.arange(3), torch.rand(3, 4), LABELS)
    before = dynamics.state_dict()
    with pytest.raises(InputError, match=r"the state's sums are \(9,\), and here they are \(3, 10\)"):
        dynamics.load_state_dict({**before, "sums": torch.zeros(9), "labels": torch.zeros(3, dtype=torch.int64)})
    assert all(torch.equal(value, before[name]) for name, value in dynamics.state_dict().items())
