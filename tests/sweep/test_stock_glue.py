"""What Ray Tune, Optuna and MLflow do when they are merely plugged together, and what happens here instead.

Each test springs the trap with the stock part and then goes round it. Where the first half fails one day, the trap is
gone, and so may be what avoids it; docs/faults.md has the whole list.
"""

import math
import subprocess
import sys
from pathlib import Path

import mlflow
import optuna
import pytest
import ray
from mlflow import MlflowClient
from optuna.trial import TrialState
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.experiment import Trial
from ray.tune.search.optuna import OptunaSearch

from hardtune.report.records import Record
from hardtune.sweep import cluster
from hardtune.sweep.search import FINISHED, StudySearch
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import default_uri
from hardtune.sweep.trials import schedule
from hardtune.treatment import Treatment

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}
SPACE = {"alpha": tune.uniform(0, 2), "policy": "shift"}
GOOD = {FINISHED: True, "final/recall_gap": 0.1, "final/accuracy": 0.9}


@pytest.fixture
def storage(tmp_path):
    return optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")


def stock(storage, space=None, **options):
    return OptunaSearch(
        space or {"alpha": SPACE["alpha"]}, metric=list(OBJECTIVES), mode=["min", "max"], storage=storage, **options
    )


def ours(storage, name="ours", **options):
    return StudySearch(SPACE, OBJECTIVES, study_name=name, storage=storage, seed=0, **options)


def states(searcher):
    return [trial.state for trial in searcher._ot_study.trials]


def test_a_figure_that_is_not_a_number_leaves_the_stock_trial_running_for_ever(storage):
    diverged = {**GOOD, "final/accuracy": math.nan}
    theirs = stock(storage)
    theirs.suggest("a")
    theirs.on_trial_complete("a", diverged)
    assert states(theirs) == [TrialState.RUNNING]

    mine = ours(storage)
    mine.suggest("a")
    mine.on_trial_complete("a", diverged)
    assert states(mine) == [TrialState.FAIL]


def test_a_report_without_all_figures_leaves_the_stock_trial_running_for_ever(storage):
    half = {FINISHED: False, "final/recall_gap": 0.1}
    theirs = stock(storage)
    theirs.suggest("a")
    theirs.on_trial_complete("a", half)
    assert states(theirs) == [TrialState.RUNNING]

    mine = ours(storage)
    mine.suggest("a")
    mine.on_trial_complete("a", half)
    assert states(mine) == [TrialState.PRUNED]


def test_a_killed_driver_leaves_the_stock_study_a_zombie(storage):
    stock(storage, study_name="theirs").suggest("a")
    resumed = stock(storage, study_name="theirs")
    resumed.suggest("b")
    resumed.on_trial_complete("b", GOOD)
    assert states(resumed) == [TrialState.RUNNING, TrialState.COMPLETE]

    ours(storage).suggest("a")
    resumed = ours(storage, adopt=True)
    resumed.suggest("b")
    resumed.on_trial_complete("b", GOOD)
    assert states(resumed) == [TrialState.COMPLETE]


def test_two_stock_sweeps_of_one_database_are_silently_one(storage):
    for _ in range(2):
        stock(storage).suggest("a")
    assert optuna.get_all_study_names(storage) == ["optuna"]
    assert len(optuna.load_study(study_name="optuna", storage=storage).trials) == 2

    for name in ("sweep-1", "sweep-2"):
        ours(storage, name).suggest("a")
        assert len(optuna.load_study(study_name=name, storage=storage).trials) == 1


def test_the_stock_search_drops_what_a_space_holds_fixed(storage):
    theirs = stock(storage, dict(SPACE))
    assert "policy" not in theirs.suggest("a")
    assert ours(storage).suggest("a")["policy"] == "shift"


def test_a_resumed_stock_sweep_has_each_run_in_mlflow_twice_and_no_parent(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    trial = Trial("any", config={"alpha": 1.0}, stub=True)
    for _ in range(2):  # the second one is after a kill
        theirs = MLflowLoggerCallback(tracking_uri=uri, experiment_name="theirs")
        theirs.setup()
        theirs.log_trial_start(trial)
    mine = Record(0, Treatment(alpha=1.0), "finished", {"final/accuracy": 0.9})
    for _ in range(2):
        tracker = Tracker(uri, "ours", "sweep", None)
        tracker.start({}, {})
        tracker.trial_ended(mine)
        assert tracker.close(patience=60)

    def runs(name):
        return client.search_runs([client.get_experiment_by_name(name).experiment_id])

    assert len(runs("theirs")) == 2
    assert not any("mlflow.parentRunId" in run.data.tags for run in runs("theirs"))
    assert sorted(run.data.tags["hardtune.trial"] for run in runs("ours")) == ["0", "sweep"]


def test_where_stock_runs_go_depends_on_the_folder_that_a_worker_is_in(tmp_path, monkeypatch):
    mlflow.set_tracking_uri(None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    theirs, mine = set(), set()
    for folder in (tmp_path / "driver", tmp_path / "worker"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        theirs.add(mlflow.get_tracking_uri())
        mine.add(default_uri(tmp_path))
    assert len(theirs) == 2
    assert len(mine) == 1


TOUCH = """
import logging, os, sys
from mlflow import MlflowClient
from hardtune.sweep.tracking import Tracker
logging.disable(logging.CRITICAL)
uri, ours = sys.argv[1:]
if ours == "ours":
    tracker = Tracker(uri, "any", "sweep", None)
    tracker.start({}, {})
    assert tracker.close(patience=60)
waiting, start = os.pipe()
processes = []
for _ in range(8):
    if (process := os.fork()) == 0:
        os.close(start)
        os.read(waiting, 1)
        try:
            MlflowClient(uri).search_experiments()
        except Exception:
            os._exit(1)
        os._exit(0)
    processes.append(process)
os.close(start)
print(sum(os.waitpid(process, 0)[1] != 0 for process in processes))
"""


@pytest.mark.parametrize(("whose", "breaks"), [("theirs", True), ("ours", False)])
def test_a_fresh_database_breaks_when_stock_trials_open_it_at_once(tmp_path, whose, breaks):
    command = [sys.executable, "-c", TOUCH, f"sqlite:///{tmp_path}/mlflow.db", whose]
    failed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (int(failed) > 0) == breaks


def test_stock_trials_have_the_drivers_aws_keys_written_into_rays_logs(storage, tmp_path, monkeypatch):
    def trial(config):
        tune.report(GOOD)

    with cluster.connected(None):
        logs = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "their-hunter2")
        tune.Tuner(trial, run_config=tune.RunConfig(storage_path=str(tmp_path / "theirs"), verbose=0)).fit()
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "our-hunter2")
        search = ours(storage)
        schedule(
            trial, search, tmp_path, cluster.share(1, 0, cluster.nodes()), trials=1, slots=1, recorder=tune.Callback()
        )
        assert states(search) == [TrialState.COMPLETE]
        written = "".join(path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file())
    assert "their-hunter2" in written
    assert "our-hunter2" not in written
