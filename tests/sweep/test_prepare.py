"""What trials share is made on the cluster once, and its progress shows."""

import io
import pickle

import pytest
from rich.console import Console

from hardtune import Recipe, Store, load
from hardtune.needs import Needs
from hardtune.sweep import cluster
from hardtune.sweep.cluster import Share
from hardtune.sweep.counter import counter_in
from hardtune.sweep.live import View
from hardtune.sweep.prepare import prepare_on_cluster

RECIPE = Recipe(model="small_cnn", epochs=1, members=1, encoder="pixels", validation=0.5, crop_padding=1)


@pytest.fixture
def ray_here():
    with cluster.connected(None):
        yield


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
    view.phase("trials", 5, "trials")
    assert "encoded" not in out.getvalue().splitlines()[-1]
