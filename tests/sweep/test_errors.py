"""What a trial broke on is in its record, in a line; whether it is tried again, and what the exit code says."""

import io
import os
import signal
import time
from pathlib import Path

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


def tried(tmp_path, monkeypatch, trial, trials):
    """The records of trials that are each tried once."""
    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    search = StudySearch({"alpha": tune.uniform(0, 2)}, OBJECTIVES, study_name="any", storage=storage, seed=0)
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "any", "any-1", tmp_path)
    view = View("any", OBJECTIVES, Console(file=io.StringIO()))
    control = Record(CONTROL, Treatment(), "finished", {"final/accuracy": 0.8})
    recorder = Recorder(
        tmp_path / "trials", tracker, view, Standing([control], OBJECTIVES, 3), 0, waits_again=search.waits_again
    )
    with cluster.connected(None):
        share = cluster.share(1, 0, cluster.nodes())
        interrupted = schedule(trial, search, tmp_path, share, trials=trials, slots=1, recorder=recorder)
    tracker.close(patience=0)
    assert not interrupted
    return records.read_all(tmp_path / "trials")


def test_the_error_is_told_from_the_death_of_a_worker(tmp_path, monkeypatch):
    def trial(config):
        with (tmp_path / "tries").open("a") as tries:
            tries.write(f"{config['number']}\n")
        if config["number"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            Path("/no/such/file").read_bytes()
        except OSError as error:
            raise RuntimeError("CUDA error: an illegal memory access\nFor debugging, do this.\n\nOr that.") from error

    raised, died = tried(tmp_path, monkeypatch, trial, trials=2)
    assert (tmp_path / "tries").read_text().split() == ["0", "1"], "as often as the search hands it out"
    assert raised.reason == "RuntimeError: CUDA error: an illegal memory access"
    assert died.reason.startswith("its worker died: The actor died unexpectedly")
    assert {(record.state, record.again) for record in (raised, died)} == {("failed", True)}


def test_a_trial_that_ray_kills_for_its_memory_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    (killed,) = tried(tmp_path, monkeypatch, lambda config: time.sleep(60), trials=1)
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
