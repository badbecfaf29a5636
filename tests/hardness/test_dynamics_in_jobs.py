"""Training dynamics in jobs that are interrupted, and in those whose ranks see a part of the samples each."""

import math
import multiprocessing
import os
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.utils.data import DistributedSampler

from hardtune.errors import InputError
from hardtune.hardness.dynamics import Dynamics

CLASSES, EPOCHS, EARLY = 3, 8, 3


def stream(samples):
    """Logits (EPOCHS, 2, N, K) by epoch and by the rank that looks, and labels (N,)."""
    generator = torch.Generator().manual_seed(samples)
    logits = torch.randn(EPOCHS, 2, samples, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (samples,), generator=generator)


def parts_of(samples, epoch):
    """The ids that each of two ranks sees in an epoch, in its order; the last of an odd number is seen twice."""
    parts = []
    for rank in range(2):
        sampler = DistributedSampler(range(samples), num_replicas=2, rank=rank, seed=1)
        sampler.set_epoch(epoch)
        parts.append(torch.tensor(list(sampler)))
    return parts


def end(dynamics, logits, rank=0):
    """End an epoch; at the early one, ranks answer differently, as their running statistics may."""
    dynamics.end_epoch(lambda: logits[-1, rank])


def watched_alone(samples, batch=None):
    logits, labels = stream(samples)
    dynamics = Dynamics(samples, early_epoch=EARLY)
    for epoch in range(EPOCHS):
        parts = parts_of(samples, epoch)
        ids, rank = torch.cat(parts), torch.tensor([0, 1]).repeat_interleave(len(parts[0]))
        for views in torch.arange(len(ids)).split(batch or len(ids)):
            dynamics.update(ids[views], logits[epoch, rank[views], ids[views]], labels[ids[views]])
        end(dynamics, logits)
    return dynamics.scores()


def see_part(dynamics, epoch, rank, logits, labels):
    part = parts_of(dynamics.num_samples, epoch)[rank]
    for ids in part.split(7 + rank):  # ranks need not agree on their batches
        dynamics.update(ids, logits[epoch, rank, ids], labels[ids])


def watched_by_ranks(rank, samples, resumed_after=None):
    logits, labels = stream(samples)
    dynamics = Dynamics(samples, early_epoch=EARLY, group=dist.group.WORLD)
    for epoch in range(EPOCHS):
        see_part(dynamics, epoch, rank, logits, labels)
        end(dynamics, logits, rank)
        if epoch == resumed_after:
            state = [dynamics.state_dict()]
            dist.broadcast_object_list(state, 0)  # the first rank's, read by all
            dynamics = Dynamics(samples, early_epoch=EARLY, group=dist.group.WORLD)
            dynamics.load_state_dict(state[0])
    return dynamics.scores()


def refused(call, *arguments, **given):
    with pytest.raises(InputError) as error:
        call(*arguments, **given)
    return str(error.value)


def within_an_epoch(rank):
    logits, labels = stream(10)
    dynamics = Dynamics(10, group=dist.group.WORLD)
    for epoch in range(2):  # in the second it has seen all of them
        see_part(dynamics, epoch, rank, logits, labels)
        if epoch == 0:
            end(dynamics, logits)
    return refused(dynamics.scores), refused(dynamics.state_dict)


def one_diverges(rank):
    dynamics = Dynamics(2, group=dist.group.WORLD)
    dynamics.update(torch.tensor([rank]), torch.tensor([[0.0, math.nan if rank else 1.0]]), torch.tensor([0]))
    return refused(dynamics.end_epoch)


def predicted_by_the_first_alone(rank):
    """What a rank is told by several mistakes, and the scores after it ends the epoch again without them."""
    dynamics = Dynamics(2, early_epoch=1, group=dist.group.WORLD)
    dynamics.update(torch.tensor([rank]), torch.tensor([[0.0, 1.0 + rank]]), torch.tensor([0]))

    def ours():
        return torch.eye(2) + 1

    said = [refused(dynamics.end_epoch, ours if rank == 0 else None)]
    said.append(refused(dynamics.end_epoch, ours if rank == 0 else lambda: None))
    try:
        dynamics.end_epoch(ours if rank == 1 else lambda: 1 / 0)
    except (ZeroDivisionError, InputError) as error:
        said.append(str(error))
    dynamics.end_epoch(ours)
    return said, dynamics.scores()["el2n"]


def some_never_seen(rank):
    """What ranks that see 8 of 10 samples are told, and their scores after one of them resumed all."""
    logits, labels = stream(10)
    dynamics = Dynamics(10, early_epoch=1, group=dist.group.WORLD)
    mine = torch.arange(8)[rank::2]
    dynamics.update(mine, logits[0, 0, mine], labels[mine])
    dynamics.end_epoch(lambda: logits[-1, 0])
    resumed = Dynamics(10, early_epoch=1, group=dist.group.WORLD)
    resumed.load_state_dict(dynamics.state_dict())
    return refused(dynamics.scores), dynamics.scores(unseen="nan"), resumed.scores(unseen="nan")


def without_a_group(samples):
    """What is said at the end of each epoch to a rank that saw these of 10 samples, and tells nobody."""
    dynamics = Dynamics(10)
    said = []
    for _ in range(2):
        dynamics.update(samples, torch.randn(len(samples), 2), samples % 2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            dynamics.end_epoch()
        said.append([str(warning.message) for warning in caught])
    return said


def ranks_job(rank, folder):
    """What a rank does: everything that is tested of two ranks, since they take seconds to start."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {
        "even": watched_by_ranks(rank, 100),
        "odd": watched_by_ranks(rank, 33),
        "resumed": watched_by_ranks(rank, 33, resumed_after=4),
        "within": within_an_epoch(rank),
        "diverged": one_diverges(rank),
        "never seen": some_never_seen(rank),
        "first alone": predicted_by_the_first_alone(rank),
        "apart": [without_a_group(torch.arange(rank, 10, 2)), without_a_group(torch.arange(10))],
        "unlike": refused(Dynamics, 10 + rank, group=dist.group.WORLD),
        "early": refused(Dynamics, 10, early_epoch=rank + 1, group=dist.group.WORLD),
    }
    outside = dist.new_group([0])
    if rank == 1:
        found["outside"] = refused(Dynamics, 10, group=outside)
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
    os._exit(0)  # with what torch's threads do to a Python that shuts down we have nothing to do


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=ranks_job, args=(rank, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("batch", [None, 16])
def test_ranks_that_share_the_samples_have_the_scores_of_one_process_that_sees_them_all(ranks, batch):
    alone = watched_alone(100, batch)
    assert alone["forgetting"].max() > 2
    for found in ranks:
        assert found["even"].keys() == alone.keys()
        for name, scores in alone.items():
            np.testing.assert_array_equal(found["even"][name], scores, err_msg=name)


def test_a_sample_that_both_ranks_see_in_an_epoch_is_two_views_of_one_batch(ranks):
    alone = watched_alone(33)
    for found in ranks:
        np.testing.assert_array_equal(found["odd"]["forgetting"], alone["forgetting"])
        for name, scores in alone.items():
            np.testing.assert_allclose(found["odd"][name], scores, rtol=1e-6, err_msg=name)


def test_a_job_of_ranks_goes_on_from_what_one_of_them_kept(ranks):
    for found in ranks:
        for name, scores in found["odd"].items():
            np.testing.assert_array_equal(found["resumed"][name], scores, err_msg=name)


def test_within_an_epoch_no_rank_knows_what_all_saw(ranks):
    for found in ranks:
        assert all("call end_epoch first" in said for said in found["within"])


def test_a_rank_that_sees_a_part_and_has_no_group_is_warned_once_and_one_that_sees_all_is_not(ranks):
    for rank, found in enumerate(ranks):
        part, whole = found["apart"]
        assert [len(said) for said in part] == [1, 0]
        assert part[0][0].startswith(f"rank {rank} of 2 saw only a part of the samples")
        assert whole == [[], []]


def test_all_ranks_are_told_that_one_of_them_diverged(ranks):
    assert {found["diverged"].partition(":")[0] for found in ranks} == {
        "the network's logits, or their differences, became NaN or infinite in epoch 1"
    }


def test_if_predict_fails_on_one_rank_none_waits_for_it_and_the_epoch_may_be_ended_again(ranks):
    (first, scores), (second, same) = (found["first alone"] for found in ranks)
    assert first == [
        "end_epoch without predict fails on rank 1 of the group, and no rank goes on without the others",
        "predict fails on rank 1 of the group, and no rank goes on without the others",
        "division by zero",
    ]
    assert second == [
        "el2n is read after epoch 1, and end_epoch got no predict",
        "predict must return logits (2, K) in a tensor, or in parts (b, K) in the order of ids, got NoneType",
        "predict fails on rank 0 of the group, and no rank goes on without the others",
    ]
    np.testing.assert_array_equal(scores, same)


def test_samples_that_no_rank_saw_are_nan_on_all_of_them_if_that_is_asked_for(ranks):
    logits, labels = stream(10)
    alone = Dynamics(8, early_epoch=1)
    alone.update(torch.arange(8), logits[0, 0, :8], labels[:8])
    alone.end_epoch(lambda: logits[-1, 0, :8])
    for found in ranks:
        said, *all_scores = found["never seen"]
        assert said.startswith("2 of 10 samples were never in a training batch (sample 8 for one)")
        for scores in all_scores:
            for name, expected in alone.scores().items():
                np.testing.assert_array_equal(scores[name], [*expected, np.nan, np.nan], err_msg=name)


def test_ranks_must_be_given_the_same_numbers_and_be_of_the_group(ranks):
    assert {found["unlike"] for found in ranks} == {"all ranks must be given the same num_samples, got 10 to 11"}
    assert {found["early"] for found in ranks} == {"all ranks must be given the same early_epoch, got 1 to 2"}
    assert ranks[1]["outside"] == "this process is no rank of the group that it was given"


def kept_by_torch(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


def kept_as_safetensors(state, path):
    save_file(state, path)
    return load_file(path)


@pytest.mark.parametrize("kept", [kept_by_torch, kept_as_safetensors])
@pytest.mark.parametrize("stopped", [(1, 10), (2, 33), (5, 20)])
def test_a_job_that_was_interrupted_ends_as_one_that_was_not(tmp_path, kept, stopped):
    logits, labels = stream(33)
    dynamics = Dynamics(33, early_epoch=EARLY)
    for epoch in range(EPOCHS):
        for part in torch.arange(33).split(10):
            dynamics.update(part, logits[epoch, 0, part], labels[part])
            if (epoch, int(part[-1]) + 1) == stopped:
                state = kept(dynamics.state_dict(), tmp_path / "state")
                dynamics = Dynamics(33, early_epoch=EARLY)
                dynamics.update(torch.tensor([0]), torch.ones(1, 3), torch.tensor([0]))  # which the state replaces
                dynamics.load_state_dict(state)
        end(dynamics, logits)
    assert dynamics.epochs == EPOCHS
    undisturbed = Dynamics(33, early_epoch=EARLY)
    for epoch in range(EPOCHS):
        undisturbed.update(torch.arange(33), logits[epoch, 0], labels)
        end(undisturbed, logits)
    for name, scores in undisturbed.scores().items():
        np.testing.assert_array_equal(dynamics.scores()[name], scores, err_msg=name)


def test_a_state_that_was_kept_does_not_change_as_training_goes_on_and_is_loaded_into_the_same_memory():
    logits, labels = stream(33)
    dynamics, other = Dynamics(33), Dynamics(33)
    dynamics.update(torch.arange(33), logits[0, 0], labels)
    state, before = dynamics.state_dict(), dynamics.scores()
    dynamics.update(torch.arange(33), logits[1, 0], labels)
    where = {name: value.data_ptr() for name, value in vars(other).items() if isinstance(value, torch.Tensor)}
    other.load_state_dict(state)
    assert {name: getattr(other, name).data_ptr() for name in where} == where
    other.end_epoch()
    for name, scores in before.items():
        np.testing.assert_array_equal(other.scores()[name], scores)


def test_a_state_remembers_that_training_diverged():
    dynamics, other = Dynamics(1), Dynamics(1)
    dynamics.update(torch.tensor([0]), torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))
    other.load_state_dict(dynamics.state_dict())
    with pytest.raises(InputError, match="NaN or infinite"):
        other.scores()


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (Dynamics(4, early_epoch=2), "the state is of num_samples=4, and this is of num_samples=3"),
        (Dynamics(3), "the state is of early_epoch=None, and this is of early_epoch=2"),
        (None, "that is no state of Dynamics: it lacks early_epoch, epochs, labels, sums"),
        (torch.nn.Linear(2, 2), "that is no state of Dynamics: it lacks early_epoch, epochs, labels, sums"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(other, says):
    with pytest.raises(InputError, match=says):
        Dynamics(3, early_epoch=2).load_state_dict(other and other.state_dict())


@pytest.mark.parametrize("name", ["sums", "labels", "epochs", "early_epoch", "early_el2n"])
def test_a_state_that_became_lists_is_refused(name):
    state = {"early_el2n": torch.zeros(3), **Dynamics(3).state_dict()}
    with pytest.raises(InputError, match=f"that is no state of Dynamics: its {name} is no tensor, but a list"):
        Dynamics(3).load_state_dict({**state, name: [state[name].tolist()]})
