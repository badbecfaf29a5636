"""Every training-dynamics score from one training run, read from its own forward passes.

Three lines add it to any training loop: create one, pass it each batch, end each epoch.

>>> import torch
>>> from hardtune.hardness.dynamics import Dynamics
>>> rng = torch.Generator().manual_seed(0)
>>> labels = torch.arange(60) % 2
>>> inputs = torch.randn(60, 4, generator=rng) + 6 * labels[:, None] - 3
>>> labels[0] = 1 - labels[0]  # one wrong label
>>> model = torch.nn.Linear(4, 2)
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
>>> dynamics = Dynamics(num_samples=60)  # 1
>>> for epoch in range(5):
...     for ids in torch.randperm(60, generator=rng).split(16):
...         logits = model(inputs[ids])
...         loss = torch.nn.functional.cross_entropy(logits, labels[ids])
...         optimizer.zero_grad()
...         loss.backward()
...         optimizer.step()
...         dynamics.update(ids, logits, labels[ids])  # 2
...     dynamics.end_epoch()  # 3
>>> scores = dynamics.scores()
>>> int(scores["aum"].argmax())  # the hardest sample is the one with the wrong label
0

A job that may be interrupted saves ``dynamics.state_dict()`` in its checkpoints. In a distributed job, whose ranks
each see part of the samples, every rank creates one with the same ``group`` and ends its epochs with the others:
``end_epoch`` merges what they saw, and then each rank has the scores, and the state, of all samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardtune.errors import InputError, blamed
from hardtune.hardness.batch import check_batch, check_fits, check_range, check_state
from hardtune.hardness.ranks import all_or_none, check_ranks, first_ranks, merge, warn_of_a_part
from hardtune.hardness.sums import (
    SEEN,
    SQUARE,
    check_finite,
    check_seen,
    early_el2n,
    scores_of,
    warn_of_other_labels,
    warn_of_probabilities,
)
from hardtune.numeric import whole

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_ROWS = 2048
"""Views that a CPU processes at once: between a small network's steps each operation's code drops out of the cache,
so that batches of 128 one by one would cost four times as much."""


class Dynamics:
    """Accumulates the training dynamics of ``num_samples`` samples; :meth:`scores` reads them.

    Everything stays on ``device`` in O(N) memory (89 bytes per sample), except predict's logits once, (N, K) or, if
    it yields parts, one of them at a time, and only :meth:`end_epoch` waits for the device while training. On a GPU
    :meth:`update` changes tensors in place and nothing else, so it may be captured in a CUDA graph; on a CPU it copies
    batches, and processes several at once. Averages are over the number of times each sample was seen, which may
    differ between samples.

    Args:
        num_samples: N; sample ids are 0..N-1.
        device: where the network trains. Ids and labels should be there too: each update waits for transfers from
            elsewhere.
        early_epoch: after how many epochs ``el2n`` is read by ``predict`` (HBR: 20 of 200); None skips it.
        group: the ranks that each see part of the samples, such as ``torch.distributed.group.WORLD`` (which is None
            before ``init_process_group``); ids are those of the whole data set. Whether a sample was forgotten depends
            on what the rank that had it an epoch ago saw, so ranks are merged in ``end_epoch``, not at the end of
            training. If several ranks see a sample in an epoch, as with ``DistributedSampler``'s padding, it counts
            as if their views were in one batch. This takes 169 bytes per sample; each epoch sends 89 of them.

    Raises:
        InputError: numbers that are not whole, below 1 or different between ranks, or a device that torch or their
            group does not support.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        device: torch.device | str = "cpu",
        early_epoch: int | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        num_samples = whole(num_samples, "num_samples")
        early_epoch = None if early_epoch is None else whole(early_epoch, "early_epoch")
        with blamed(f"dynamics cannot be kept on device {str(device)!r}, but on 'cpu' they can"):
            torch.empty(1, device=device)
        self.num_samples = num_samples
        self.device = torch.device(device)
        self.early_epoch = early_epoch
        self.group = group
        if group is not None:
            check_ranks(group, self.device, num_samples=num_samples, early_epoch=early_epoch or 0)
        self.epochs = 0
        """How many epochs have ended."""
        # float64: a variance taken from sums of squares needs it, and so does a mean over hundreds of epochs.
        self._sums = torch.zeros(num_samples, 10, dtype=torch.float64, device=self.device)
        self._was_correct = torch.zeros(num_samples, dtype=torch.uint8, device=self.device)
        self._labels = torch.full((num_samples,), -1, dtype=torch.int64, device=self.device)
        self._total = torch.zeros((), dtype=torch.float64, device=self.device)
        self._merged = torch.zeros_like(self._sums) if group is not None else None
        """Sums of all ranks up to the last epoch's end; ``_sums`` then has what this rank saw since."""
        self._waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self._views = 0
        """How many views wait: to add up the batches' each time would be quadratic."""
        self._classes: int | None = None
        """K of the last batch."""
        self._early_el2n: NDArray[np.float32] | None = None

    @torch.no_grad()
    def update(self, ids: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Record one training batch: the logits of the step's own forward pass.

        Args:
            ids: int (B,), in 0..N-1. An id that occurs twice in a batch is two views: for ``forgetting`` each wrong
                one counts if all views in the sample's previous batch were correct.
            logits: (B, K), any float type, K of at least 2. NaN and infinity spoil all that follows, as
                :meth:`end_epoch` and :meth:`scores` say: a loop that skips such batches calls this after its check.
            labels: int (B,), the given labels, in 0..K-1.

        Raises:
            InputError: types or shapes that do not fit; on a CPU also an id or a label out of range. On a GPU that is
                not checked, since it would have to wait.
        """
        check_batch(ids, logits, labels)
        ids = ids.to(self.device, torch.int64)
        labels = labels.to(self.device, torch.int64)
        logits = logits.detach().to(self.device, torch.float32)
        self._classes = logits.shape[1]
        if self.device.type != "cpu":
            self._take_in(ids, logits, labels, [len(ids)])
            return
        check_range(ids, self.num_samples, "ids")
        check_range(labels, logits.shape[1], "labels")
        if self._waiting and self._waiting[-1][1].shape[1] != logits.shape[1]:  # a network may learn more classes
            self._catch_up()
        self._waiting.append((ids.clone(), logits.clone(), labels.clone()))
        self._views += len(ids)
        if self._views >= _ROWS:
            self._catch_up()

    def _catch_up(self) -> None:
        """Process the waiting batches."""
        if self._waiting:
            ids, logits, labels = zip(*self._waiting, strict=True)
            self._waiting, self._views = [], 0
            self._take_in(torch.cat(ids), torch.cat(logits), torch.cat(labels), [len(batch) for batch in ids])

    def _take_in(self, ids: Tensor, logits: Tensor, labels: Tensor, sizes: list[int]) -> None:
        """Add the views of several batches, in order, to the sums."""
        self._total += logits.sum(dtype=torch.float64)  # finite as long as every logit is

        y = labels[:, None]
        margin = logits.gather(1, y).squeeze(1) - logits.scatter(1, y, -torch.inf).amax(1)
        # A tie with another class is not correct: an untrained network with equal outputs has learned nothing.
        correct = margin > 0
        forgotten = torch.empty_like(correct)
        views = correct.view(torch.uint8)
        for batch, now, lost in zip(ids.split(sizes), views.split(sizes), forgotten.split(sizes), strict=True):
            torch.gt(self._was_correct[batch], now, out=lost)
            # The minimum of its views if an id occurs twice: a copy would keep any of them.
            self._was_correct.scatter_reduce_(0, batch, now, "amin", include_self=False)
        log_p = logits.log_softmax(1)
        p = log_p.exp()
        p_y = p.gather(1, y)
        error = p.scatter_(1, y, p_y - 1)  # p - onehot(y), whose largest entry is the strongest rival's p
        p_y = p_y.squeeze(1)
        # In column order, and of one dtype until they are stacked, so that stacking is one operation on a GPU.
        columns = torch.stack(
            (
                torch.ones_like(margin),
                margin,
                p_y - error.amax(1),
                torch.linalg.vector_norm(error, dim=1),
                log_p.gather(1, y).squeeze(1),
                p_y,
                p_y,
                correct.float(),
                forgotten.float(),
                labels.float(),
            ),
            dim=1,
        ).double()
        columns[:, SQUARE].square_()
        self._sums.index_add_(0, ids, columns)
        self._labels.index_copy_(0, ids, labels)

    @torch.no_grad()
    def end_epoch(self, predict: Callable[[], Tensor | Iterable[Tensor]] | None = None) -> None:
        """End an epoch; in a ``group``, a collective call by all ranks.

        Args:
            predict: called at the early epoch only; returns the logits (N, K) of all samples in the order of their ids,
                in evaluation mode and without augmentation, or yields them in parts (b, K).
                Each rank of a ``group`` calls it, since a wrapped
                network may wait for the other ranks; the first rank's logits are used.

        Raises:
            InputError: a logit of this epoch was NaN or infinite, or ``predict`` is missing or fails, on any rank.
        """
        early = self.epochs + 1 == self.early_epoch
        with all_or_none(self.group if early else None, self.device, "end_epoch without predict"):
            if early and predict is None:  # said before anything changes
                raise InputError(f"el2n is read after epoch {self.early_epoch}, and end_epoch got no predict")
            if predict is not None and not callable(predict):
                kind = type(predict).__name__
                raise InputError(f"predict must be a function that returns logits, such as lambda: logits, got {kind}")
        self._catch_up()
        if self.group is None:
            warn_of_a_part(self._labels, self.epochs)
        elif self._merged is not None:
            merge(self.group, self._sums, self._was_correct, self._labels, self._total)
            self._merged += self._sums
            self._sums.zero_()
        sums = self._sums if self._merged is None else self._merged
        check_finite(self._total, sums, f"in epoch {self.epochs + 1}")
        warn_of_other_labels(sums, self._labels)
        if self.epochs == 0:
            warn_of_probabilities(sums, self._total)
        self._total.zero_()
        if early and predict is not None:
            with all_or_none(self.group, self.device, "predict"):
                norms = early_el2n(predict(), self._labels, self._classes)
            first_ranks(self.group, norms)
            if not bool(norms.isfinite().all()):
                raise InputError(f"the logits in evaluation mode were NaN or infinite after epoch {self.early_epoch}")
            norms[self._labels < 0] = torch.nan  # scores says what becomes of samples that were not seen until now
            self._early_el2n = norms.cpu().numpy()
        self.epochs += 1  # last: who mends predict may end the epoch again

    def scores(self, *, unseen: Literal["refuse", "nan"] = "refuse") -> dict[str, NDArray[np.float32]]:
        """Every score so far, float32 (N,), higher = harder; what each means is in ``ESTIMATORS``.

        Args:
            unseen: ``"nan"`` gives NaN to samples that were never seen, and as ``el2n`` to those that were not seen
                until the early epoch's end. By default both are errors.

        Raises:
            InputError: a sample was never seen, a logit was NaN or infinite, or ``early_epoch`` was asked for and not
                reached; in a ``group``, an epoch has begun and not ended.
        """
        if unseen not in ("refuse", "nan"):
            raise InputError(f"unseen must be 'refuse' or 'nan', got {unseen!r}")
        self._catch_up()
        if unseen == "refuse":
            check_seen(self._labels >= 0)
        check_finite(self._total, self._sums if self._merged is None else self._merged, "in training")
        sums = self._of_all().cpu().numpy()
        scores = scores_of(sums)
        if self.early_epoch is not None:
            if self._early_el2n is None:
                raise InputError(
                    f"el2n is read after epoch {self.early_epoch}, and only {self.epochs} epochs were trained"
                )
            if unseen == "refuse":
                check_seen(torch.from_numpy(self._early_el2n).isfinite(), self.early_epoch)
            scores["el2n"] = self._early_el2n
        return {name: score.astype(np.float32) for name, score in scores.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The whole state so far, copied into tensors that :meth:`load_state_dict` accepts.

        Save them with ``torch.save`` (and read with ``weights_only=True``) or as safetensors, at any time; in a
        ``group`` only between epochs, when the state is the same on all ranks: one rank saves it, and all load it.

        Raises:
            InputError: in a ``group``, an epoch has begun and not ended.
        """
        self._catch_up()
        state = {name: value.clone() for name, value in self._state().items()}
        state["sums"] = self._of_all().clone()
        state |= {"epochs": torch.tensor(self.epochs), "early_epoch": torch.tensor(self.early_epoch or 0)}
        if self._early_el2n is not None:
            state["early_el2n"] = torch.from_numpy(self._early_el2n.copy())
        return state

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a :meth:`state_dict`, which may come from another device or from other ranks.

        Raises:
            InputError: it is no such state, or has another ``num_samples`` or ``early_epoch``.
        """
        mine = self._state()
        check_state(state, {*mine, "epochs", "early_epoch"}, may={"early_el2n"})
        check_fits(state, mine, self.num_samples, self.early_epoch)
        for name, value in mine.items():
            value.copy_(state[name])
        if self._merged is not None:
            self._merged.copy_(self._sums)
            self._sums.zero_()
        self._waiting, self._views = [], 0
        self.epochs = int(state["epochs"])
        early = state.get("early_el2n")
        self._early_el2n = None if early is None else early.to("cpu", torch.float32, copy=True).numpy()

    def _state(self) -> dict[str, Tensor]:
        """The tensors that are changed in place."""
        return {
            "sums": self._sums,
            "was_correct": self._was_correct,
            "labels": self._labels,
            "total": self._total,
        }

    def _of_all(self) -> Tensor:
        """The sums of what all ranks saw."""
        if self._merged is None:
            return self._sums
        if bool(self._sums[:, SEEN].any()):
            raise InputError("the ranks know only of ended epochs what all of them saw: call end_epoch first")
        return self._merged
