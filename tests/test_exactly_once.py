"""Treatments that mean the same are trained once, also when two processes ask for them at the same moment."""

import contextlib
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hardtune import Recipe, Store, Treatment, load
from hardtune import member as member_module
from hardtune import scoring as scoring_module
from hardtune.hardness.encoders import encode
from hardtune.member import stored_member, train_member
from hardtune.needs import Needs
from hardtune.scoring import encoded, prepare
from hardtune.scoring_member import score_member

RECIPE = Recipe(
    model="small_cnn", epochs=4, batch_size=64, members=3, scoring_members=1, precision="float32", encoder="pixels"
)
# At alpha = 0 nothing is resampled, so the estimator does not matter.
EQUAL = [
    Treatment(entropy_weight=0.1, entropy_target="constant", estimator=estimator) for estimator in ("aum", "forgetting")
]


def train(root, treatment, together, news):
    torch.set_num_threads(1)
    prepared = prepare(load("digits").hold_out(0.3, 0), RECIPE, Needs(), Store(root))
    member_module.train_member = lambda *them, **more: news.put("it trains") or train_member(*them, **more)
    together.wait(60)
    for member in range(RECIPE.members):
        _, mine = stored_member(prepared, RECIPE, treatment, member, Store(root), device="cpu")
        news.put((member, mine))


def score(root, together, news):
    torch.set_num_threads(1)
    split = load("digits").hold_out(0.3, 0)
    together.wait(60)
    news.put(score_member(split, RECIPE, Needs(), 0, Store(root), device="cpu"))


def encode_slowly(root, together, news):
    split = load("digits").hold_out(0.3, 0)
    scoring_module.encode = lambda *them, **more: time.sleep(1) or news.put("it encodes") or encode(*them, **more)
    together.wait(60)
    encoded(split, RECIPE, Store(root), device="cpu")
    news.put("done")


@contextlib.contextmanager
def running(target, *arguments):
    """Processes that run ``target``, each with one of the ``arguments``; and what each of them says."""
    context = multiprocessing.get_context("spawn")
    together, news = context.Barrier(len(arguments)), [context.Queue() for _ in arguments]
    processes = [
        context.Process(target=target, args=(*own, together, say), daemon=True)
        for own, say in zip(arguments, news, strict=True)
    ]
    for process in processes:
        process.start()
    yield processes, news
    for process in processes:
        process.join(60)


def members(news) -> list[tuple[int, bool]]:
    """What a process says of its members: which, and whether it trained it itself."""
    said = []
    while len(said) < RECIPE.members:
        if (word := news.get(timeout=300)) != "it trains":
            said.append(word)
    return said


def files(root: Path) -> list[str]:
    return sorted(path.suffix for path in root.rglob("*") if path.is_file())


def test_equal_treatments_of_two_processes_share_every_network(tmp_path):
    with running(train, *((tmp_path, one) for one in EQUAL)) as (_, news):
        first, second = map(members, news)
    for (_, mine), (_, others) in zip(first, second, strict=True):
        assert mine != others
    assert files(tmp_path) == [".safetensors"] * RECIPE.members, "locks go with what they were for"


def test_one_member_of_the_scoring_ensemble_is_trained_by_one_of_two_sweeps(tmp_path):
    with running(score, (tmp_path,), (tmp_path,)) as (_, news):
        assert sorted(each.get(timeout=300) for each in news) == [False, True]


def test_images_are_encoded_by_one_of_two_sweeps(tmp_path):
    with running(encode_slowly, (tmp_path,), (tmp_path,)) as (_, news):
        said = [each.get(timeout=300) for each in news]
    assert sorted(said) == ["done", "it encodes"]


def test_who_waits_for_a_process_that_is_killed_trains_in_its_stead(tmp_path):
    with running(train, (tmp_path, EQUAL[0])) as ([killed], [said]):
        assert said.get(timeout=300) == "it trains"
        os.kill(killed.pid, signal.SIGSTOP)  # it holds the first member's lock, and gets no further
        with running(train, (tmp_path, EQUAL[1])) as ([waiting], [news]):
            deadline = time.monotonic() + 300
            while not waits_for_a_lock(waiting.pid, tmp_path):
                assert time.monotonic() < deadline, "it never waited"
                time.sleep(0.05)
            assert news.empty()
            killed.kill()
            assert members(news) == [(0, True), (1, True), (2, True)]
    assert files(tmp_path) == [".safetensors"] * RECIPE.members


def waits_for_a_lock(pid: int, root: Path) -> bool:
    """Whether the kernel has the process waiting for a lock under ``root``."""
    inodes = {str(path.stat().st_ino) for path in root.rglob("*.lock")}
    # "1: -> FLOCK ADVISORY WRITE pid device:inode 0 EOF"
    waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(words[5] == str(pid) and words[6].rpartition(":")[2] in inodes for words in waiting)


def test_a_store_at_a_url_has_no_locks_and_works_all_the_same():
    store, key = Store("memory://exactly-once"), {"kind": "scores"}
    with store.alone(key), store.alone(key):
        store.put(key, {"x": np.zeros(3)})
    assert key in store


def test_a_computation_that_fails_leaves_no_lock_behind(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError), store.alone({"kind": "scores"}):
        _ = 1 / 0
    assert files(tmp_path) == []
