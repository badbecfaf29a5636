"""What a trial broke on is in its record, in a line; whether it is tried again, and what the exit code says."""

import io
import time

import optuna
import pytest
from ray import tune
from rich.console import Console

from hardtune import Recipe, Treatment
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing
from hardtune.sweep import Sweep, cluster, main, parser
from hardtune.sweep import search as searching
from hardtune.sweep.live import View
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.search import StudySearch
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.trials import schedule

OBJECTIVES = {"final/accuracy": "max"}


def test_a_trial_that_ray_kills_for_its_memory_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # of a Ray of its own
    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    search = StudySearch({"alpha": tune.uniform(0, 2)}, OBJECTIVES, study_name="any", storage=storage, seed=0)
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "any", "any-1", tmp_path)
    standing = Standing([Record(CONTROL, Treatment(), "finished", {"final/accuracy": 0.8})], OBJECTIVES, 1)
    view = View("any", OBJECTIVES, Console(file=io.StringIO()))
    recorder = Recorder(tmp_path / "trials", tracker, view, standing, 0, waits_again=search.waits_again)
    with cluster.connected(None):
        share = cluster.share(1, 0, cluster.nodes())
        sleep = lambda config: time.sleep(60)  # noqa: E731
        assert not schedule(sleep, search, tmp_path, share, trials=1, slots=1, recorder=recorder)
    (killed,) = records.read_all(tmp_path / "trials")
    assert killed.reason.startswith("its worker died: 1 worker(s) were killed due to the node running low on memory")
    assert (killed.state, killed.again) == ("failed", True)


def test_a_sweep_of_two_treatments_that_both_fail_is_no_success_has_nothing_to_try_again_and_repeats_itself(
    tmp_path, capsys
):
    recipe = Recipe(model="small_cnn", encoder="pixels", validation=0.25, crop_padding=1)
    pruned = {"prune": "class", "prune_rate": tune.choice([0.75, 0.8])}
    sweep = Sweep("bare", "digits", recipe, {"alpha": 1.0, "oversample": "smote", **pruned})
    with pytest.raises(SystemExit) as stop:
        main(sweep, parser("").parse_args(["--storage", str(tmp_path), "--smoke"]))
    assert stop.value.code == 1
    out = capsys.readouterr().out
    assert "the space has 2 treatments beside the control, so 2 of the 4 trials will repeat what was tried\n" in out
    assert "failed: " in out
    assert "--resume" not in out
