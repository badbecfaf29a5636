import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn import functional as F

from hardtune.errors import InputError
from hardtune.training.losses import LOSSES, ClassDRO, Focal, Loss, check_loss, entropy, regularised

every_loss = pytest.mark.parametrize("name", LOSSES)


def batch(b=8, k=5, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(b, k, generator=g, dtype=torch.float64)
    labels = torch.randint(k, (b,), generator=g)
    return logits.to(dtype).requires_grad_(), labels, torch.arange(b)


def loss_of(name, num_samples=8, num_classes=5):
    return LOSSES[name](num_samples, num_classes, "cpu")


# What every loss promises


@every_loss
def test_one_finite_loss_of_at_least_zero_per_sample(name):
    logits, labels, ids = batch()
    per_sample = loss_of(name)(logits, labels, ids)
    assert per_sample.shape == (8,)
    assert torch.isfinite(per_sample).all()
    assert (per_sample >= 0).all()


@every_loss
def test_sure_and_right_costs_less_than_sure_and_wrong(name):
    logits = torch.tensor([[8.0, 0.0, 0.0], [8.0, 0.0, 0.0]])
    right, wrong = loss_of(name, 2, 3)(logits, torch.tensor([0, 1]), torch.arange(2))
    assert right < wrong


@every_loss
@pytest.mark.parametrize("extreme", [1e4, 3e37])
def test_extreme_logits_have_finite_losses_and_gradients(name, extreme):
    logits = torch.tensor([[extreme, 0.0, -extreme], [0.0, 0.0, 0.0]], requires_grad=True)
    labels, s = torch.tensor([2, 1]), torch.ones(2)
    regularised(loss_of(name, 2, 3)(logits, labels, torch.arange(2)), logits, s, 0.3).backward()
    assert torch.isfinite(logits.grad).all()


@every_loss
def test_half_precision_logits_are_computed_in_float32(name):
    logits, labels, ids = batch(dtype=torch.bfloat16)
    per_sample = loss_of(name)(logits, labels, ids)
    assert per_sample.dtype == torch.float32
    exact = loss_of(name)(logits.float(), labels, ids)
    assert torch.equal(per_sample, exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss_of(name)(logits, labels, ids), exact)


@every_loss
def test_no_loss_ever_waits_for_the_device(name):
    # On the meta device tensors have no values, so asking for one raises; so would capturing a CUDA graph.
    loss = LOSSES[name](8, 5, "meta")
    logits, labels = torch.zeros(8, 5, device="meta"), torch.zeros(8, dtype=torch.long, device="meta")
    total = regularised(loss(logits, labels, labels), logits, torch.ones(8, device="meta"), 0.3)
    assert total.shape == ()


@every_loss
def test_state_lies_in_buffers_that_keep_their_place(name):
    loss = loss_of(name)
    before = {key: (value.data_ptr(), value.shape) for key, value in loss.state_dict().items()}
    logits, labels, ids = batch()
    loss(logits, labels, ids)
    assert {key: (value.data_ptr(), value.shape) for key, value in loss.state_dict().items()} == before


@every_loss
def test_gradients_are_those_of_finite_differences(name):
    logits, labels, ids = batch()
    ready = loss_of(name)
    ready(*batch(seed=1))  # gives crl a history, and class_dro unequal weights
    ready.eval()  # which no evaluation changes
    assert torch.autograd.gradcheck(lambda z: ready(z, labels, ids).mean(), (logits,))


# Each loss against its formula


def test_cross_entropy_is_minus_log_p():
    logits, labels, ids = batch()
    pairs = zip(logits.tolist(), labels, strict=True)
    expected = [-math.log(math.exp(z[y]) / sum(math.exp(v) for v in z)) for z, y in pairs]
    assert loss_of("cross_entropy")(logits, labels, ids).tolist() == pytest.approx(expected)


def test_label_smoothing_moves_a_tenth_of_the_target_to_all_classes():
    logits, labels, ids = batch()
    target = 0.9 * F.one_hot(labels, 5) + 0.1 / 5
    expected = -(target * logits.log_softmax(1)).sum(1)
    assert torch.allclose(loss_of("label_smoothing")(logits, labels, ids), expected)


def test_focal_with_a_power_below_1_has_a_slope_where_a_sample_is_certain(monkeypatch):
    monkeypatch.setattr(Focal, "gamma", 0.5)
    logits = torch.tensor([[17.0, 0.0], [40.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss_of("focal", 3)(logits, torch.zeros(3, dtype=torch.int64), torch.arange(3)).sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[2, 0] < 0


def test_focal_is_cross_entropy_times_a_power_of_what_is_missing():
    logits, labels, ids = batch(b=64)
    p = logits.softmax(1).gather(1, labels[:, None]).squeeze(1)
    assert torch.allclose(loss_of("focal", 64)(logits, labels, ids), -((1 - p) ** 3) * p.log())
    gamma = torch.where(p < 0.2, 5.0, 3.0)
    assert 0 < (p < 0.2).sum() < 64
    assert torch.allclose(loss_of("adaptive_focal", 64)(logits, labels, ids), -((1 - p) ** gamma) * p.log())


def brute_force_crl(batches, num_samples):
    """Moon et al. 2020, pair by pair, in plain Python."""
    correct, seen, losses = [0] * num_samples, [0] * num_samples, []
    for logits, labels, ids in batches:
        p = logits.softmax(1).tolist()
        labels, ids, total = labels.tolist(), ids.tolist(), []
        for i in range(len(ids)):
            j = (i + 1) % len(ids)
            a, b = ids[i], ids[j]
            rank = 0.0
            if seen[a] and seen[b]:
                c_i, c_j = correct[a] / seen[a], correct[b] / seen[b]
                sign = (c_i > c_j) - (c_i < c_j)
                rank = max(0.0, -sign * (max(p[i]) - max(p[j])) + abs(c_i - c_j))
            total.append(-math.log(p[i][labels[i]]) + rank)
        for i, sample in enumerate(ids):
            seen[sample] += 1
            correct[sample] += p[i].index(max(p[i])) == labels[i]
        losses.append(total)
    return losses


def test_crl_is_its_definition_over_epochs_with_repeated_samples():
    g = torch.Generator().manual_seed(0)
    batches = []
    for seed in range(12):
        logits, labels, _ = batch(b=6, seed=seed)
        batches.append((logits.detach(), labels, torch.randint(9, (6,), generator=g)))  # 9 samples, some twice
    loss = loss_of("crl", 9)
    found = [loss(*one).tolist() for one in batches]
    for ours, expected in zip(found, brute_force_crl(batches, 9), strict=True):
        assert ours == pytest.approx(expected)
    plain = loss_of("cross_entropy", 9)
    assert any(ours != pytest.approx(plain(*one).tolist()) for ours, one in zip(found, batches, strict=True))


def test_crl_takes_a_first_appearance_at_its_word():
    loss = loss_of("crl", 2, 3)
    labels, ids = torch.tensor([0, 0]), torch.arange(2)
    loss(torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), labels, ids)  # right and wrong: shares of 1 and 0
    logits = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    ranking = loss(logits, labels, ids) - F.cross_entropy(logits, labels, reduction="none")
    assert ranking.tolist() == pytest.approx([1, 1])  # equally confident: both are off by the whole difference


def test_crl_is_cross_entropy_while_no_sample_has_a_history():
    assert torch.equal(loss_of("crl")(*batch()), loss_of("cross_entropy")(*batch()))


def test_crl_pulls_confidence_towards_the_order_of_past_correctness():
    loss = loss_of("crl", 2, 3)
    labels, ids = torch.tensor([0, 0]), torch.arange(2)
    for _ in range(4):  # sample 0 is always right, sample 1 always wrong
        loss(torch.tensor([[4.0, 0.0, 0.0], [0.0, 4.0, 0.0]]), labels, ids)
    logits = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], requires_grad=True)
    ranking = loss(logits, labels, ids) - F.cross_entropy(logits, labels, reduction="none")
    (gradient,) = torch.autograd.grad(ranking.sum(), logits)
    assert gradient[0, 0] < 0 < gradient[1, 0]  # descending raises the confidence of 0 and lowers that of 1


@pytest.mark.parametrize("name", ["crl", "class_dro"])
def test_a_loss_learns_nothing_from_what_it_is_only_evaluated_on(name):
    loss = loss_of(name)
    loss(*batch(seed=1))
    history = {key: value.clone() for key, value in loss.state_dict().items()}
    evaluated = loss.eval()(*batch(seed=2))
    assert all(torch.equal(value, history[key]) for key, value in loss.state_dict().items())
    trained = loss.train()(*batch(seed=2))
    assert torch.equal(trained, evaluated) == (name == "crl"), "class_dro weighs a batch by its own losses, too"
    assert any(not torch.equal(value, history[key]) for key, value in loss.state_dict().items())


@pytest.mark.parametrize("name", ["crl", "class_dro"])
def test_a_loss_goes_on_where_its_saved_state_left_off(name):
    first, second = loss_of(name), loss_of(name)
    first(*batch(seed=1))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*batch(seed=2)), second(*batch(seed=2)))


def algorithm_1(batches, num_classes, step=0.01):
    """Sagawa et al. 2020, group by group: what each batch minimises, and the weights in the end."""
    q, found = np.full(num_classes, 1 / num_classes), []
    for logits, labels, _ in batches:
        p, labels, means = logits.softmax(1).numpy(), labels.numpy(), np.zeros(num_classes)
        for group in np.unique(labels):
            means[group] = np.mean([-np.log(p[i, group]) for i in np.flatnonzero(labels == group)])
            q[group] *= np.exp(step * means[group])
        q /= q.sum()
        found.append(q @ means)
    return found, q


def test_class_dro_is_algorithm_1_with_classes_as_groups():
    batches = [tuple(part.detach() for part in batch(b=12, k=7, seed=seed)) for seed in range(40)]
    assert any(len(labels.unique()) < 7 for _, labels, _ in batches), "some batches lack a class"
    loss = loss_of("class_dro", 12, 7)
    found = [loss(*one).mean().item() for one in batches]
    expected, weights = algorithm_1(batches, 7)
    assert found == pytest.approx(expected, rel=1e-5)
    assert loss.log_q.exp().tolist() == pytest.approx(list(weights), rel=1e-5)
    assert np.ptp(weights) > 0.02


def test_class_dro_weighs_the_samples_of_a_class_alike():
    logits, labels, ids = batch(b=64)
    loss = loss_of("class_dro", 64)
    ratio = loss(logits, labels, ids) / loss_of("cross_entropy", 64)(logits, labels, ids)
    expected = 64 * loss.log_q.exp() / torch.bincount(labels)
    assert torch.allclose(ratio, expected[labels].double())


def test_class_dro_is_cross_entropy_while_no_class_is_harder_and_then_moves_to_the_hardest(monkeypatch):
    monkeypatch.setattr(ClassDRO, "step", 10)
    loss, plain = loss_of("class_dro", 9, 3), loss_of("cross_entropy", 9, 3)
    labels, ids = torch.arange(9) % 3, torch.arange(9)
    learned = 2 * F.one_hot(labels, 3).float()
    assert torch.allclose(loss(learned, labels, ids), plain(learned, labels, ids))
    for hardest in (1, 2):  # although the others' weights have become too small for a float32, and must come back
        logits = learned * (labels != hardest)[:, None]
        for _ in range(100 * hardest):
            mean = loss(logits, labels, ids).mean().item()
        assert loss.log_q.exp()[hardest] > 0.999
        assert mean == pytest.approx(math.log(3)), "that class's mean"


# The entropy term


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_loss_with_a_memory_warns_that_each_of_several_ranks_has_its_own(ranks, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: ranks)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in LOSSES:
            loss_of(name)
    expected = [
        f"loss {name!r} remembers only what its own rank sees, so under DDP its memory is incomplete: train on one "
        "rank, or choose another loss"
        for name in ("crl", "class_dro")
    ]
    assert [str(warning.message) for warning in caught] == (expected if ranks == 2 else [])


def test_entropy_is_its_definition_from_certainty_to_ignorance():
    logits, _, _ = batch()
    p = logits.softmax(1)
    assert torch.allclose(entropy(logits), -(p * p.log()).sum(1))
    assert entropy(torch.zeros(1, 7)).item() == pytest.approx(math.log(7))
    assert entropy(torch.tensor([[1e4, 0.0, -1e4]])).item() == 0
    assert entropy(torch.zeros(1, 7, dtype=torch.bfloat16)).dtype == torch.float32


def test_a_class_that_is_masked_adds_no_entropy_and_no_gradient():
    logits = torch.tensor([[2.0, 1.0, -torch.inf]], requires_grad=True)
    masked = entropy(logits)
    np.testing.assert_allclose(masked.item(), entropy(logits[:, :2]).item())
    masked.sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 2] == 0


class Focused(Loss):
    """Weighs samples by where their loss is within the batch, and knows each by its number."""

    def __init__(self, num_samples, num_classes, device):
        super().__init__(num_samples, num_classes, device)
        self.register_buffer("seen", torch.zeros(num_samples, device=device))

    def forward(self, logits, labels, ids):
        assert len(self.seen) == 500
        losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
        return losses * ((losses - losses.mean()) / losses.std()).sigmoid() + 0 * losses.topk(8).values.sum()


def test_a_loss_that_looks_at_the_whole_batch_is_tried_on_one(monkeypatch):
    monkeypatch.setitem(LOSSES._entries, "mine", Focused)
    check_loss("mine", num_classes=3, num_samples=500, batch_size=64)


def test_without_weight_the_loss_is_cross_entropy_to_the_bit():
    logits, labels, ids = batch()
    per_sample = loss_of("cross_entropy")(logits, labels, ids)
    s = torch.rand(8, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, labels, reduction="none").mean()
    assert torch.equal(regularised(per_sample, logits, s, 0.0), expected)
    assert torch.equal(regularised(per_sample, logits, s, torch.tensor(0.0)), expected)


def test_with_all_weights_one_it_is_the_constant_entropy_penalty():
    logits, labels, ids = batch()
    per_sample = loss_of("cross_entropy")(logits, labels, ids)
    expected = F.cross_entropy(logits, labels) - 0.3 * entropy(logits).mean()
    assert torch.allclose(regularised(per_sample, logits, torch.ones(8), 0.3), expected)
    for weight in (torch.tensor(0.3), np.float32(0.3), Fraction(3, 10)):
        assert torch.allclose(regularised(per_sample, logits, torch.ones(8), weight), expected)


def test_the_gradient_is_the_closed_form():
    # ∂L_i/∂z_c = p_c - 1[c = y] + λ s_i p_c (log p_c + H), arXiv 2304.10127
    logits, labels, ids = batch()
    s, strength = torch.linspace(0, 1, 8, dtype=torch.float64), 0.7
    regularised(loss_of("cross_entropy")(logits, labels, ids), logits, s, strength).backward()
    p = logits.detach().softmax(1)
    h = -(p * p.log()).sum(1, keepdim=True)
    expected = p - F.one_hot(labels, 5) + strength * s[:, None] * p * (p.log() + h)
    assert (8 * logits.grad - expected).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("classes", "strength", "ceiling"),
    [(10, 0.2, 0.954), (10, 0.3, 0.849), (100, 0.1, 0.996), (100, 0.2, 0.819), (100, 0.3, 0.643)],
)
def test_minimising_stops_at_the_confidence_ceiling(classes, strength, ceiling):
    logits = torch.zeros(1, classes, dtype=torch.float64, requires_grad=True)
    labels, ids = torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long)
    loss, s = loss_of("cross_entropy", 1, classes), torch.full((1,), 0.5, dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def step():
        optimiser.zero_grad()
        total = regularised(loss(logits, labels, ids), logits, s, 2 * strength)
        total.backward()
        return total

    optimiser.step(step)
    p = float(logits.detach().softmax(1)[0, 0])
    assert p == pytest.approx(ceiling, abs=6e-4)
    assert p + (classes - 1) * p * np.exp(-1 / (strength * p)) == pytest.approx(1, abs=1e-6)


def test_a_weight_that_lies_on_the_device_is_never_looked_at():
    logits = torch.zeros(8, 5, device="meta")  # without values: to compare one with 0 would raise
    total = regularised(torch.zeros(8, device="meta"), logits, logits[:, 0], torch.zeros((), device="meta"))
    assert total.shape == ()


@pytest.mark.parametrize("shape", [(8, 1), (1,), ()])
def test_weights_that_would_broadcast_to_all_pairs_of_samples_are_an_error(shape):
    logits, labels, ids = batch()
    losses = loss_of("cross_entropy")(logits, labels, ids)
    with pytest.raises(InputError, match=r"needs losses \(B,\), logits \(B, K\) and weights \(B,\) of one batch, got"):
        regularised(losses, logits, torch.ones(shape), 0.1)
    with pytest.raises(InputError, match="of one batch"):
        regularised(losses.mean(), logits, torch.ones(8), 0.1)
    with pytest.raises(InputError, match=r"of one batch, got \(8,\), \(8,\), \(8,\)"):
        regularised(losses, logits[:, 0], torch.ones(8), 0.1)


@pytest.mark.parametrize("strength", [torch.full((8, 1), 0.1), torch.full((8,), 0.1), -1, math.nan, math.inf, "0.1"])
def test_an_entropy_weight_is_one_finite_number_of_at_least_0(strength):
    logits, labels, ids = batch()
    losses = loss_of("cross_entropy")(logits, labels, ids)
    with pytest.raises(InputError, match=r"entropy_weight must be a (number or a 0-d tensor|finite number)"):
        regularised(losses, logits, torch.ones(8), strength)


def test_weights_that_are_no_tensor_are_an_error():
    logits, labels, ids = batch()
    losses = loss_of("cross_entropy")(logits, labels, ids)
    with pytest.raises(InputError, match="must be tensors, and s is a ndarray"):
        regularised(losses, logits, np.ones(8), 0.1)


@every_loss
def test_no_label_is_ignored(name):
    logits, labels, ids = batch()
    labels[3] = -100
    with pytest.raises((IndexError, RuntimeError), match="out of bounds"):
        loss_of(name)(logits, labels, ids)


@every_loss
def test_labels_may_be_of_any_integer_type(name):
    logits, labels, ids = batch()
    expected = loss_of(name)(logits, labels, ids)
    for dtype in (torch.int32, torch.uint8):
        assert torch.equal(loss_of(name)(logits, labels.to(dtype), ids), expected)


@pytest.mark.parametrize("name", ["focal", "adaptive_focal", "crl", "class_dro"])
def test_a_loss_of_one_label_a_sample_says_that_soft_ones_are_not_for_it(name):
    logits, _, ids = batch()
    with pytest.raises(InputError, match=r"needs labels of whole numbers .*: soft labels are for 'cross_entropy' and"):
        loss_of(name)(logits, logits.detach().softmax(1), ids)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
def test_ids_may_be_of_any_integer_type(dtype):
    first, second = loss_of("crl"), loss_of("crl")
    for seed in range(3):
        logits, labels, ids = batch(seed=seed)
        assert torch.equal(first(logits, labels, ids.to(dtype)), second(logits, labels, ids))


@every_loss
def test_labels_that_are_no_tensor_are_an_error(name):
    logits, labels, ids = batch()
    for wrong in (labels.numpy(), labels.tolist()):
        with pytest.raises(InputError, match=f"labels and ids must be tensors, and one is a {type(wrong).__name__}"):
            loss_of(name)(logits, wrong, ids)


@every_loss
def test_complex_labels_are_not_taken_for_their_real_parts(name):
    logits, labels, ids = batch()
    with pytest.raises((InputError, RuntimeError), match=r"needs labels of whole numbers|expected target dtype"):
        loss_of(name)(logits, labels + 1j, ids)
