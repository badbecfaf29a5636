"""What a network is trained to minimise: one loss per sample, and the entropy term that is subtracted from it.

Every loss is a ``torch.nn.Module`` called as ``loss(logits (B, K), labels int64 (B,), ids int64 (B,))``; ``ids`` number
the samples 0 … N-1 of the training data. Any state of a loss is in buffers made at construction, so that
``state_dict`` saves it and a captured CUDA graph keeps updating it; no call waits for the device.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from numbers import Real

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from hardtune.errors import HardtuneWarning, InputError, blamed
from hardtune.registry import Registry

LOSSES: Registry[Callable[[int, int, torch.device | str], nn.Module]] = Registry("loss")
"""Factories ``(num_samples, num_classes, device)``; the loss maps (logits, labels, ids) to per-sample losses (B,).

A loss that depends on class sizes must know them by itself: resampling changes them, and a factory is not told.
"""


_IGNORED = -(2**62)
"""What no label is: torch ignores -100 by default, so that such a sample's loss is 0, but counts in the mean."""


def check_loss(name: str, num_classes: int, num_samples: int, batch_size: int) -> None:
    """Run a loss forward and backward on a batch of made-up logits, on the CPU.

    Raises:
        InputError: an unknown loss, one that raises, or one that does not give a finite loss for each.
    """
    make = LOSSES[name]
    ids = torch.arange(min(num_samples, batch_size))
    logits = torch.randn(len(ids), num_classes, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with blamed(f"loss {name!r} fails on {len(ids)} samples"):
        losses = make(num_samples, num_classes, "cpu")(logits, ids % num_classes, ids)
        losses.sum().backward()
        shape, finite = tuple(losses.shape), bool(losses.isfinite().all())
    if shape != (len(ids),):
        count = len(ids)
        raise InputError(f"loss {name!r} gives {shape} for {count} samples; it must give ({count},), a loss for each")
    if not finite or (logits.grad is not None and not logits.grad.isfinite().all()):
        raise InputError(f"loss {name!r} or its gradient is not finite for logits around 0")


class Loss(nn.Module):
    """A loss that keeps nothing from one batch to the next."""

    def __init__(self, num_samples: int, num_classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__()


@LOSSES.register("cross_entropy")
class CrossEntropy(Loss):
    """-log p_y."""

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        return cross_entropy(logits, labels)


@LOSSES.register("label_smoothing")
class LabelSmoothing(Loss):
    """Cross-entropy with 0.9 of the target on the label and 0.1 spread over all classes (Szegedy et al. 2016)."""

    smoothing = 0.1

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        return cross_entropy(logits, labels, self.smoothing)


@LOSSES.register("focal")
class Focal(Loss):
    """-(1 - p_y)^γ log p_y with γ = 3 (Lin et al. 2017; γ = 3 is Mukhoti et al. 2020's for calibration)."""

    gamma = 3.0

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        log_p = log_probability(logits, labels)
        # With γ below 1, the slope of 0^γ is infinite, and times log 1 it would be NaN.
        return -((1 - log_p.exp()).clamp(min=1e-12) ** self.gamma) * log_p


@LOSSES.register("adaptive_focal")
class AdaptiveFocal(Loss):
    """Focal loss with γ = 5 where p_y < 0.2 and 3 elsewhere: FLSD-53 of Mukhoti et al. 2020 (arXiv 2002.09437).

    Ghosh et al. 2022 (AdaFocal) adapt γ to calibration errors on validation data instead; that would use up the
    data on which objectives are measured, so it is not done here.
    """

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        log_p = log_probability(logits, labels)
        p = log_p.exp()
        return -torch.where(p < 0.2, (1 - p) ** 5, (1 - p) ** 3) * log_p


@LOSSES.register("crl")
class CorrectnessRanking(Loss):
    """Cross-entropy plus the Correctness Ranking Loss (Moon et al., ICML 2020, arXiv 2007.01458).

    Each sample i is paired with the next one j of its batch, and confidence should be ordered as past correctness:
    max(0, -sign(c_i - c_j) (κ_i - κ_j) + |c_i - c_j|), weight 1, κ the largest probability, c the share of i's
    earlier appearances in training that were predicted correctly. A pair with a sample that has not been seen yet
    has no order and adds nothing. In evaluation mode the history is read but not updated.

    Each process has a history of its own: under DDP, of only those samples that its rank has seen, whose correctness
    other ranks do not learn of. It warns with ``HardtuneWarning`` if there is more than one rank when it is made.
    """

    correct: Tensor
    seen: Tensor

    def __init__(self, num_samples: int, num_classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_samples, num_classes, device)
        _warn_of_other_ranks("crl")
        # Whole numbers below 2^24 are exact in float32, whatever order the device adds them in.
        self.register_buffer("correct", torch.zeros(num_samples, device=device))
        self.register_buffer("seen", torch.zeros(num_samples, device=device))

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        logits, labels, ids = at_least_float32(logits), of_one_class(labels), as_int64(ids)
        seen = self.seen[ids]
        history = self.correct[ids] / seen.clamp(min=1)
        confidence = logits.softmax(dim=1).amax(dim=1)
        difference = history - history.roll(-1)
        difference = difference * ((seen > 0) & (seen.roll(-1) > 0))
        ranking = F.relu(difference.abs() - difference.sign() * (confidence - confidence.roll(-1)))
        if self.training:
            with torch.no_grad():  # index_add_: a sample may appear twice in a batch
                self.correct.index_add_(0, ids, (logits.argmax(dim=1) == labels).to(self.correct.dtype))
                self.seen.index_add_(0, ids, torch.ones_like(seen))
        return cross_entropy(logits, labels) + ranking


@LOSSES.register("class_dro")
class ClassDRO(Loss):
    """Group DRO with classes as groups (Sagawa et al., ICLR 2020, arXiv 1911.08731, Algorithm 1): Σ_c q_c L_c.

    L_c is the mean cross-entropy of a batch's samples of class c. The weights q start equal; before each step, every
    q_c is multiplied by exp(η L_c), η = 0.01 as in the authors' code, and all are divided by their sum, so that they
    move to the classes with the largest losses. Each of B samples, n_c of them of class c, has B q_c / n_c times its
    cross-entropy, whose mean is that sum. As in the authors' code, a class that the batch has no sample of counts as
    one with a loss of 0: its weight changes by the division alone, and its part of Σ q_c is missing from the mean.

    Batches are those of the training data, where Algorithm 1 draws all groups equally often; the adjustment by
    C / sqrt(group size), which the paper has as an option, is left out. In evaluation mode the weights stay.

    Each process has weights of its own, and warns with ``HardtuneWarning`` as ``crl`` does.
    """

    step = 0.01

    log_q: Tensor

    def __init__(self, num_samples: int, num_classes: int, device: torch.device | str = "cpu") -> None:
        super().__init__(num_samples, num_classes, device)
        _warn_of_other_ranks("class_dro")
        # As logarithms: the weights of easy classes become too small for a float32, and may have to come back.
        self.register_buffer("log_q", torch.full((num_classes,), -math.log(num_classes), device=device))

    def forward(self, logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        labels = of_one_class(labels)
        losses = cross_entropy(logits, labels)
        # (B, K), to be summed over: a GPU's index_add_ adds fractions in any order.
        own = labels[:, None] == torch.arange(len(self.log_q), device=labels.device)
        sizes = own.sum(dim=0).clamp(min=1)
        if self.training:
            means = torch.where(own, losses.detach()[:, None], 0).sum(dim=0) / sizes
            self.log_q.add_(means, alpha=self.step)
            self.log_q.sub_(self.log_q.logsumexp(dim=0))
        return (self.log_q.exp() * len(labels) / sizes)[labels] * losses


def _warn_of_other_ranks(name: str) -> None:
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        warnings.warn(
            f"loss {name!r} remembers only what its own rank sees, so under DDP its memory is incomplete: train on one "
            "rank, or choose another loss",
            HardtuneWarning,
            stacklevel=3,
        )


def regularised(per_sample: Tensor, logits: Tensor, s: Tensor, entropy_weight: float | Tensor) -> Tensor:
    """mean_i (loss_i - λ s_i H(p_i)): the scalar that training minimises (RMD, arXiv 2304.10127, §3).

    λ·s caps the confidence: with cross-entropy the optimum solves p + (K-1) p exp(-1 / (λ s p)) = 1.

    Args:
        per_sample: (B,) losses.
        logits: (B, K).
        s: (B,) weights in [0, 1], larger = harder.
        entropy_weight: λ; a 0-d tensor where it changes without recompiling. A plain 0 skips the term.

    Raises:
        InputError: other shapes, such as (B, 1), which would broadcast to all pairs of samples, or a number λ that is
            not finite or below 0. A tensor's value is not looked at, which would wait for the device.
    """
    for name, given in (("per_sample", per_sample), ("logits", logits), ("s", s)):
        if not isinstance(given, Tensor):
            raise InputError(f"losses, logits and weights s must be tensors, and {name} is a {type(given).__name__}")
    if logits.ndim != 2 or not per_sample.shape == s.shape == logits.shape[:1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (per_sample, logits, s))
        raise InputError(f"needs losses (B,), logits (B, K) and weights (B,) of one batch, got {shapes}")
    if isinstance(entropy_weight, Tensor):
        if entropy_weight.ndim != 0:
            raise InputError(f"entropy_weight must be a number or a 0-d tensor, got {tuple(entropy_weight.shape)}")
    elif not isinstance(entropy_weight, Real) or not 0 <= entropy_weight < math.inf:
        raise InputError(f"entropy_weight must be a finite number of at least 0, got {entropy_weight!r}")
    elif entropy_weight == 0:
        return per_sample.mean()
    else:
        entropy_weight = float(entropy_weight)  # torch multiplies by no fraction
    return (per_sample - entropy_weight * s * entropy(logits)).mean()


def entropy(logits: Tensor) -> Tensor:
    """H(p) = -Σ p log p of softmax(logits (B, K)), in nats, (B,) in [0, log K], at least float32.

    >>> entropy(torch.tensor([[0.0, 0.0], [1000.0, 0.0]]))
    tensor([0.6931, 0.0000])
    """
    log_p = at_least_float32(logits).log_softmax(dim=1)
    # 0 log 0 is 0: a class may be masked by -inf.
    return (log_p.exp() * -log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(dim=1)


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """-log p_y of the given labels, (B,), at least float32; a label out of range is torch's error, -100 as well."""
    logits, labels = at_least_float32(logits), as_int64(labels)
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing, ignore_index=_IGNORED)


def log_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """log p_y of the given labels, (B,), at least float32."""
    return at_least_float32(logits).log_softmax(dim=1).gather(1, of_one_class(labels)[:, None]).squeeze(1)


def as_int64(labels: Tensor) -> Tensor:
    """Labels of another integer type as int64, which torch asks for; others are left to its own errors."""
    if not isinstance(labels, Tensor):
        raise InputError(f"labels and ids must be tensors, and one is a {type(labels).__name__}")
    return labels if labels.is_floating_point() or labels.is_complex() else labels.long()


def of_one_class(labels: Tensor) -> Tensor:
    """The same for losses of one label per sample; an ``InputError`` for soft labels."""
    if isinstance(labels, Tensor) and (labels.is_floating_point() or labels.is_complex()):
        raise InputError(
            f"this loss needs labels of whole numbers (B,), got {labels.dtype} {tuple(labels.shape)}: soft labels are "
            "for 'cross_entropy' and 'label_smoothing'"
        )
    return as_int64(labels)


def at_least_float32(logits: Tensor) -> Tensor:
    """Half-precision logits or gradients as float32: bf16's 8 bits of mantissa hold no log-sum-exp, nor a norm."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
