"""A storage may be moved or copied, and its sweeps go on there."""

import collections
import dataclasses
import shutil

import pytest
from mlflow import MlflowClient
from mlflow.tracking._tracking_service import utils

from hardtune.report.records import Record
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import default_uri
from hardtune.treatment import Treatment

FINISHED = Record(0, Treatment(alpha=1.0), "finished", metrics={"final/accuracy": 0.8})


def files_of(storage):
    """What MLflow finds of each run, by its name."""
    client = MlflowClient(default_uri(storage))
    runs = client.search_runs([client.get_experiment_by_name("my test").experiment_id])
    return {run.info.run_name: sorted(file.path for file in client.list_artifacts(run.info.run_id)) for run in runs}


@pytest.fixture(autouse=True)
def another_process(monkeypatch):
    """MLflow remembers for a process where a run's files are."""
    monkeypatch.setattr(utils, "_artifact_repos_cache", Forgetful())


class Forgetful(collections.OrderedDict):
    def get(self, key, default=None):
        return default


def test_a_storage_that_was_copied_has_its_own_files_and_one_that_was_moved_finds_them(tmp_path):
    def say(storage, number):
        tracked = Tracker(default_uri(storage), "my test", "any", storage / "mlflow-artifacts")
        tracked.start({}, {})
        tracked.trial_ended(dataclasses.replace(FINISHED, number=number, per_class={"cat": {"size": number}}))
        tracked.sweep_ended([FINISHED], {"pareto": [{"trial": number}]}, [], "FINISHED", "**it**", [FINISHED])
        assert tracked.close(patience=60)

    def text(storage):
        return {str(path.relative_to(storage)): path.read_text() for path in storage.glob("mlflow-artifacts/**/*.json")}

    one, copy, moved = (tmp_path / name for name in ("one", "a copy", "moved"))
    one.mkdir()
    say(one, 0)
    shutil.copytree(one, copy)
    original = text(one)
    say(copy, 1)
    assert text(one) == original, "the copy writes to the original's files"
    assert len(text(copy)) == len(original) + 1
    copy.rename(moved)
    say(moved, 2)
    assert not copy.exists(), "the former place is made again"
    expected = {"any": ["pareto.json"], **{f"trial {number}": ["per_class.json"] for number in range(3)}}
    assert files_of(moved) == expected


def test_files_that_an_experiment_keeps_elsewhere_stay_there(tmp_path):
    storage, elsewhere = tmp_path / "one", tmp_path / "two" / "mlflow-artifacts"
    storage.mkdir()
    for artifacts in (elsewhere, storage / "mlflow-artifacts"):
        tracked = Tracker(default_uri(storage), "my test", "any", artifacts)
        tracked.start({}, {})
        tracked.trial_ended(dataclasses.replace(FINISHED, per_class={"cat": {"size": 1}}))
        assert tracked.close(patience=60)
    assert (
        MlflowClient(default_uri(storage))
        .get_experiment_by_name("my test")
        .artifact_location.startswith(elsewhere.as_uri())
    )
