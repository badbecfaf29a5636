"""Treatments that mean the same are trained once, also when two processes ask for them at the same moment."""

import contextlib
import dataclasses
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
from hardtune.data import Samples, harder
from hardtune.hardness.encoders import ENCODERS, encode
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
    context = multiprocessing.get_context("forkserver")  # it imports once for all of them
    context.set_forkserver_preload(["hardtune.member", "hardtune.scoring", "sklearn.datasets"])
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


@pytest.fixture
def shown(monkeypatch):
    """The images that the encoders ``by_image`` and ``of_split`` are shown, in turn."""
    monkeypatch.setattr(ENCODERS, "_entries", dict(ENCODERS._entries))
    images = []

    class Mine:
        def __init__(self, kind):
            self.kind, self.by_image = kind, kind == "by_image"

        def identity(self):
            return {"kind": self.kind}

        def encode(self, split, **_):
            images.extend(split.train.images)
            return np.square(split.train.images.reshape(len(split.train), -1), dtype=np.float32)

    ENCODERS.register("by_image")(lambda rest: Mine("by_image"))
    ENCODERS.register("of_split")(lambda rest: Mine("of_split"))
    return images


@pytest.mark.parametrize("imbalance", [1, 10])
def test_no_image_is_encoded_again_for_another_seed_share_or_label_noise(tmp_path, shown, imbalance):
    recipe, needs = dataclasses.replace(RECIPE, encoder="by_image"), Needs(frozenset({"rmd"}), features=True)
    clean = harder(load("digits"), imbalance)
    noisy = harder(load("digits"), imbalance, label_noise=0.2)
    for data, share, seed in ((clean, 0.3, 0), (clean, 0.3, 1), (clean, 0.5, 0), (noisy, 0.3, 0), (noisy, "test", 0)):
        split = data.hold_out(share, seed)
        found = prepare(split, dataclasses.replace(recipe, seed=seed), needs, Store(tmp_path)).features
        assert len(shown) == len(clean.train), "once each, and never again"
        images = split.train.images.reshape(len(split.train), -1)
        np.testing.assert_array_equal(found, np.square(images, dtype=np.float32))
    np.testing.assert_array_equal(shown, clean.train.images)


def test_an_encoder_that_does_not_promise_it_is_shown_the_training_samples_of_each_split_alone(tmp_path, shown):
    recipe, sizes = dataclasses.replace(RECIPE, encoder="of_split"), []
    for seed in (0, 1, 0):
        split = load("digits").hold_out(0.3, seed)
        features = encoded(split, recipe, Store(tmp_path), device="cpu")
        np.testing.assert_array_equal(features, np.square(split.train.images.reshape(len(features), -1), dtype=float))
        sizes.append(len(shown))
    assert sizes == [len(split.train), 2 * len(split.train), 2 * len(split.train)]


def test_other_images_are_encoded_even_if_their_number_is_the_same(tmp_path, shown):
    recipe, digits = dataclasses.replace(RECIPE, encoder="by_image"), load("digits")
    inverted = dataclasses.replace(digits, train=Samples(255 - digits.train.images, digits.train.labels))
    one, other = (encoded(data.hold_out(0.3, 0), recipe, Store(tmp_path), device="cpu") for data in (digits, inverted))
    assert len(shown) == 2 * len(digits.train)
    assert not np.array_equal(one, other)


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
