"""Merging what the ranks of a distributed job saw in an epoch, so that each of them knows what all saw.

These are collective calls: every rank of the group must make them, in the same order.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hardtune.errors import HardtuneWarning, InputError, in_a_line

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def check_ranks(group: ProcessGroup, device: torch.device, **numbers: int) -> None:
    """Raise ``InputError`` unless all ranks were given the same ``numbers``, and a device that their group supports."""
    import torch.distributed as dist

    if dist.get_rank(group) < 0:
        raise InputError("this process is no rank of the group that it was given")
    own = torch.tensor(list(numbers.values()), device=device)
    bounds = torch.cat([own, -own])
    try:
        dist.all_reduce(bounds, dist.ReduceOp.MAX, group)
    except RuntimeError as error:  # NCCL does not support CPUs, say
        raise InputError(f"the group's ranks cannot exchange what is on {device}: {in_a_line(error)}") from error
    highest, lowest = bounds[: len(own)].tolist(), (-bounds[len(own) :]).tolist()
    for name, low, high in zip(numbers, lowest, highest, strict=True):
        if low != high:
            raise InputError(f"all ranks must be given the same {name}, got {low} to {high}")


def warn_of_a_part(labels: Tensor, epochs: int) -> None:
    """Warn of scores without a ``group`` in a job whose ranks each see part of the samples, after the first epoch.

    Args:
        labels: int64 (N,), -1 for samples that this rank has not seen.
        epochs: how many had ended before.
    """
    import torch.distributed as dist

    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if epochs == 0 and together and bool((labels < 0).any()):
        warnings.warn(
            f"rank {dist.get_rank()} of {dist.get_world_size()} saw only a part of the samples, and scores them by "
            "what it saw alone: create Dynamics with group=torch.distributed.group.WORLD, after init_process_group",
            HardtuneWarning,
            stacklevel=4,  # torch.no_grad adds one
        )


def merge(group: ProcessGroup, sums: Tensor, was_correct: Tensor, labels: Tensor, total: Tensor) -> None:
    """Merge, in place, what each rank saw since the last merge; afterwards all ranks have the same.

    Args:
        sums: float64 (N, S), what this rank summed since then; the first column is how often it saw each sample.
        was_correct: uint8 (N,), whether the sample was correct when last seen. If several ranks saw it, all must agree
            that it was, as for the views in a batch; what no rank saw is unchanged.
        labels: int64 (N,), each from a rank that saw the sample.
        total: float64 (), summed.
    """
    import torch.distributed as dist

    seen = sums[:, 0] > 0
    now = torch.where(seen, was_correct, 1)
    given = torch.where(seen, labels, -1)
    for tensor, how in (
        (sums, dist.ReduceOp.SUM),
        (total, dist.ReduceOp.SUM),
        (now, dist.ReduceOp.MIN),
        (given, dist.ReduceOp.MAX),
    ):
        dist.all_reduce(tensor, how, group)
    seen = sums[:, 0] > 0
    was_correct.copy_(torch.where(seen, now, was_correct))
    labels.copy_(torch.where(seen, given, labels))


@contextlib.contextmanager
def all_or_none(group: ProcessGroup | None, device: torch.device, what: str) -> Iterator[None]:
    """What may fail on some of the ranks, before an exchange in which the others would wait for them in vain.

    A rank on which it fails raises its own error; the others raise ``InputError``, which says that ``what`` failed.
    """
    if group is None:
        yield
        return
    import torch.distributed as dist

    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
    rank = torch.tensor(-1 if failed is None else dist.get_rank(group), device=device)
    try:
        dist.all_reduce(rank, dist.ReduceOp.MAX, group)
    except RuntimeError:
        if failed is None:
            raise  # its own error would say more
    if failed is not None:
        raise failed
    if int(rank) >= 0:
        raise InputError(f"{what} fails on rank {int(rank)} of the group, and no rank goes on without the others")


def first_ranks(group: ProcessGroup | None, tensor: Tensor) -> None:
    """Replace the tensor, in place, by that of the group's first rank, if there is a group."""
    if group is not None:
        import torch.distributed as dist

        dist.broadcast(tensor, group=group, group_src=0)
