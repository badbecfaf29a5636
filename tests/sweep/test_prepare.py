"""What trials share is made on the cluster once, and its progress shows."""

import dataclasses
import errno
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray
from rich.console import Console

from hardtune import Recipe, Store, load
from hardtune.errors import HardtuneWarning, InputError
from hardtune.hardness.estimators import ESTIMATORS, estimator
from hardtune.needs import Needs
from hardtune.scoring import encoded
from hardtune.sweep.cluster import Share
from hardtune.sweep.counter import Counter, counter_in
from hardtune.sweep.live import View
from hardtune.sweep.prepare import _groups, prepare_on_cluster

RECIPE = Recipe(model="small_cnn", epochs=1, members=1, encoder="pixels", validation=0.5, crop_padding=1)


def test_images_are_encoded_once_and_one_is_told_how_far_it_is(ray_here, tmp_path):
    split = load("digits").subset(classes=10, train=20, test=5, seed=0).hold_out(RECIPE.validation, RECIPE.seed)
    store = Store(tmp_path / "store")
    needs = Needs(frozenset({"rmd"}), features=True)
    told = []
    for _ in range(2):
        prepared = prepare_on_cluster(
            split,
            RECIPE,
            needs,
            store,
            Share(1, 0),
            on_member=lambda done, of, cached: None,
            on_encoded=lambda done, of: told.append((done, of)),
        )
        assert prepared.features is not None
        assert len(prepared.scores["rmd"]) == len(split.train)
    assert told[-1] == (100, 100)
    assert told.count((100, 100)) == 1, "the second time there is nothing to encode"
    assert {entry.is_result for entry in store.entries()} == {True}


def test_progress_that_cannot_be_read_is_none_and_no_error(tmp_path, monkeypatch):
    counter = Counter(tmp_path / "it")
    assert counter.read() == 0
    counter.write(3)
    assert counter.read() == 3

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_text", stale)
    assert counter.read() == 0


def test_a_task_trains_some_members_beside_each_other_and_all_are_told(ray_here, tmp_path):
    split = load("digits").subset(classes=10, train=20, test=5, seed=0).hold_out(RECIPE.validation, RECIPE.seed)
    recipe, told = dataclasses.replace(RECIPE, scoring_members=3), []
    scores = [
        prepare_on_cluster(
            split,
            recipe,
            Needs(frozenset({"aum"})),
            Store(tmp_path / str(share.at_once)),
            share,
            on_member=lambda *progress: told.append(progress),
        ).scores["aum"]
        for share in (Share(1, 0), Share(1, 0, at_once=8))
    ]
    np.testing.assert_array_equal(*scores)
    assert told[:4] == [(done, 3, 0) for done in range(4)]
    assert told[4] == (0, 3, 0)
    assert told[-1] == (3, 3, 0)
    assert len(told) == 5 + -(-3 // -(-3 // Share(1, 0).slots(ray.cluster_resources())))


def test_what_is_damaged_in_the_store_is_made_again_by_the_workers(ray_here, tmp_path):
    split = load("digits").subset(classes=10, train=20, test=5, seed=0).hold_out(RECIPE.validation, RECIPE.seed)
    recipe, store, told = dataclasses.replace(RECIPE, members=3), Store(tmp_path), []

    def prepared():
        told.clear()
        on_member = lambda *progress: told.append(progress)  # noqa: E731
        return prepare_on_cluster(split, recipe, Needs(), store, Share(1, 0), on_member=on_member)

    hard = prepared().hard_classes
    for kind in ("member", "dynamics"):
        first = min((tmp_path / kind).glob("*.safetensors"))
        first.write_bytes(first.read_bytes()[:-1])
    with pytest.warns(HardtuneWarning, match="set aside .* which is damaged"):
        again = prepared().hard_classes
    np.testing.assert_array_equal(again, hard)
    assert told[0][0] < told[-1][0] == 3
    prepared()
    assert told == [(3, 3, 3)]


@pytest.mark.parametrize("features", ["there", "missing"])
def test_an_estimator_that_fails_does_so_before_the_ensemble_is_trained(ray_here, tmp_path, monkeypatch, features):
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))

    @estimator("mine")
    def mine(features, labels, num_classes, seed):
        raise KeyError("k")

    split = load("digits").subset(classes=10, train=20, test=5, seed=0).hold_out(RECIPE.validation, RECIPE.seed)
    recipe, store = dataclasses.replace(RECIPE, scoring_members=40), Store(tmp_path)
    if features == "there":
        encoded(split, recipe, store, device="cpu")
    needs, told = Needs(frozenset({"mine", "aum"}), features=True), []
    with pytest.raises(InputError, match=r"estimator 'mine' fails on features .*: KeyError: 'k'"):
        prepare_on_cluster(split, recipe, needs, store, Share(1, 0), on_member=lambda *progress: told.append(progress))
    assert told[-1][0] < 40


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("resolved_on_cluster(recipe, Share(1, 0))", {"RAY_task_oom_retries": "0"}),
        (
            "prepare_on_cluster(split, recipe, Needs(), Store(sys.argv[1]), Share(1, 0), on_member=lambda *_: None)",
            {"RAY_task_oom_retries": "2", "RAY_task_oom_retry_delay_base_ms": "1"},
        ),
    ],
    ids=["choices", "ensemble"],
)
def test_what_does_not_fit_in_memory_is_given_up_in_a_sentence(tmp_path, what, settings):
    code = f"""
import sys
from hardtune import Recipe, Store, load
from hardtune.errors import InputError
from hardtune.needs import Needs
from hardtune.sweep import cluster
from hardtune.sweep.cluster import Share
from hardtune.sweep.prepare import prepare_on_cluster, resolved_on_cluster
recipe = {RECIPE!r}
split = load("digits").subset(classes=10, train=20, test=5, seed=0).hold_out(recipe.validation, recipe.seed)
with cluster.connected(None):
    try:
        {what}
    except InputError as error:
        sys.exit(f"error: {{error}}")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "RAY_memory_usage_threshold": "0.001", **settings},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stderr.startswith("error: a worker died again and again at the same task, so it may need more memory")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("members", "at_once", "slots", "sizes"),
    [(8, 4, 1, [4, 4]), (8, 4, 8, [1] * 8), (8, 4, 3, [3, 3, 2]), (8, 1, 1, [1] * 8), (5, 4, 1, [4, 1]), (0, 4, 1, [])],
)
def test_groups_are_as_large_as_a_gpu_takes_and_no_larger_than_keeps_all_at_work(members, at_once, slots, sizes):
    groups = _groups(list(range(members)), Share(1, 1, at_once), slots)
    assert [len(group) for group in groups] == sizes
    assert [member for group in groups for member in group] == list(range(members))


def test_a_counter_starts_at_nought_says_what_was_written_last_and_leaves_nothing(tmp_path):
    with counter_in(tmp_path / "made") as counter:
        assert counter.read() == 0
        for done in (256, 512):
            pickle.loads(pickle.dumps(counter)).write(done)  # as a worker has it
            assert counter.read() == done
    assert not list((tmp_path / "made").iterdir())


def test_a_remark_stands_under_the_phase_until_it_is_taken_back():
    out = io.StringIO()
    view = View("title", {"final/ece": "min"}, Console(file=out, width=100))
    view.remark("8 of 30 images encoded by pixels")
    view.phase("control", 5, "members")
    assert "8 of 30 images encoded" in out.getvalue().splitlines()[-1]
    view.remark("")
    view.phase("trials", 5)
    assert "encoded" not in out.getvalue().splitlines()[-1]
