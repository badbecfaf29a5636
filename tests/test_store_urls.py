"""A trial, and the commands that look after its results, wherever fsspec can write; and many writers in one folder."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from hardtune import Recipe, Store, Treatment, load, run
from hardtune.commands import main

RECIPE = Recipe(model="small_cnn", epochs=1, members=1, scoring_members=1, encoder="pixels", precision="float32")
TREATMENT = Treatment(alpha=1.0, policy="shift", estimator="rmd", oversample="smote", entropy_weight=0.1)


def store_command(capsys, url, *arguments, code=0):
    with pytest.raises(SystemExit) as stop:
        main(["store", *arguments, "--storage", url])
    assert stop.value.code == code
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_a_trial_keeps_its_results_at_a_url_and_they_can_be_looked_after_there(capsys, tmp_path, kind):
    url = f"{kind}://{tmp_path}/results"
    few = load("digits").subset(classes=10, train=20, test=5, seed=0)
    trained = []
    results = [
        run(TREATMENT, few, RECIPE, Store(f"{url}/store"), on_member=lambda progress: trained.append(progress.trained))
        for _ in range(2)
    ]
    assert trained == [True, False], "the second time it is found"
    assert results[0].metrics() == results[1].metrics()

    assert [line.split()[:2] for line in store_command(capsys, url, "ls").splitlines()] == [
        ["features", "1"],
        ["member", "1"],
    ]
    store = Store(f"{url}/store")
    files, (entry, _) = store._files, store.entries()
    files.pipe_file(entry.path, files.cat_file(entry.path)[:-1])
    assert "1 of 2 results are whole" in store_command(capsys, url, "verify", code=1)
    assert "removed 1 of 2 files" in store_command(capsys, url, "prune")
    assert run(TREATMENT, few, RECIPE, store).metrics() == results[0].metrics()
    assert "2 of 2 results are whole" in store_command(capsys, url, "verify")


def write(root, worker):
    """Puts results under keys of its own and under keys that all share, until it is killed."""
    store = Store(root)
    for turn in range(10**9):
        for owner in (worker, "all"):
            store.put({"kind": "scores", "owner": owner, "turn": turn % 3}, {"x": np.full(200_000, float(turn % 3))})


def test_writers_of_one_folder_that_are_killed_in_the_middle_leave_no_broken_result(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write, args=(str(tmp_path), worker), daemon=True) for worker in range(3)]
    for writer in writers:
        writer.start()
    store = Store(tmp_path)
    deadline = time.monotonic() + 300
    while sum(entry.is_result for entry in store.entries()) < 12:
        assert time.monotonic() < deadline, "they do not write"
    for writer in writers:
        time.sleep(0.1)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    results = [entry for entry in store.entries() if entry.is_result]
    assert len(results) == 12
    assert [entry.path for entry in results if store.verify(entry)] == []
    for turn in range(3):
        found = store.get({"kind": "scores", "owner": "all", "turn": turn})
        assert found is not None
        assert set(found["x"]) == {float(turn)}
    leftovers = {Path(entry.path).suffix for entry in store.entries()} - {".safetensors"}
    assert leftovers <= {".tmp"}, "which `store prune` removes"
