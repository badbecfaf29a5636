"""What becomes of a sweep when something fails, is read wrongly or is pressed while Tune schedules its trials."""

import errno
import io
import json
import os
import signal
import sys
from pathlib import Path

import optuna
import pytest
import ray
from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console

from hardtune import Treatment
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing
from hardtune.sweep import cluster
from hardtune.sweep import search as searching
from hardtune.sweep.live import View
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.search import FINISHED, StudySearch
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.trials import schedule

pytestmark = pytest.mark.usefixtures("ray_here")

# Workers do not have this module to import.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

OBJECTIVES = {"final/accuracy": "max"}


@pytest.fixture
def search(tmp_path):
    storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db")
    return StudySearch({"alpha": tune.uniform(0, 2)}, OBJECTIVES, study_name="any", storage=storage, seed=0)


@pytest.fixture
def recorder(search, tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path}/mlflow.db", "any", "any-1", tmp_path)  # not started: it only collects
    view = View("any", OBJECTIVES, Console(file=io.StringIO()))
    standing = Standing([Record(CONTROL, Treatment(), "finished", {"final/accuracy": 0.8})], OBJECTIVES, 1)
    return Recorder(tmp_path / "trials", tracker, view, standing, 0, waits_again=search.waits_again)


def interrupted(trial, search, folder, callback, trials=2):
    share = cluster.share(1, 0, cluster.nodes())
    return schedule(trial, search, folder, share, trials=trials, slots=1, recorder=callback)


def fine(config):
    tune.report({FINISHED: True, "final/accuracy": 0.5})


class Presses(tune.Callback):
    """Ctrl-C when a trial has ended and the next has not been proposed."""

    def on_trial_complete(self, iteration, trials, trial, **info):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("callback", "pressed", "ended"), [(Presses(), True, 1), (tune.Callback(), False, 2)])
def test_between_two_trials_ctrl_c_is_no_less_heard_than_within_one(search, tmp_path, callback, pressed, ended):
    before = signal.getsignal(signal.SIGINT)
    assert interrupted(fine, search, tmp_path, callback) is pressed
    assert (search.count_done(), search.count_open()) == (ended, 0)
    assert signal.getsignal(signal.SIGINT) is before, "the next Ctrl-C would be lost"


def test_the_error_is_told_from_the_death_of_a_worker(search, recorder, tmp_path, monkeypatch):
    def trial(config):
        with (tmp_path / "tries").open("a") as tries:
            tries.write(f"{config['number']}\n")
        if config["number"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            Path("/no/such/file").read_bytes()
        except OSError as error:
            raise RuntimeError("CUDA error: an illegal memory access\nFor debugging, do this.\n\nOr that.") from error

    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    assert not interrupted(trial, search, tmp_path, recorder)
    raised, died = records.read_all(tmp_path / "trials")
    assert (tmp_path / "tries").read_text().split() == ["0", "1"], "as often as the search hands it out"
    assert raised.reason == "RuntimeError: CUDA error: an illegal memory access"
    assert died.reason.startswith("its worker died: The actor died unexpectedly")
    assert {(record.state, record.again) for record in (raised, died)} == {("failed", True)}


def test_files_of_rays_own_that_a_full_disk_cut_off_are_nobodys_trouble(search, tmp_path, monkeypatch):
    def trial(config):
        raise RuntimeError("any")

    def cut_off(trial):
        raise EOFError("Ran out of input")

    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    monkeypatch.setattr(Trial, "get_pickled_error", cut_off)
    assert not interrupted(trial, search, tmp_path, tune.Callback())
    assert search.count_done() == 2


def test_a_record_that_cannot_be_read_for_a_moment_stays_what_it_is(search, recorder, tmp_path, monkeypatch):
    """As on a network's file system; else a trial that had finished were one that failed, for good."""

    def trial(config):
        number, treatment = config["number"], Treatment(alpha=config["alpha"])
        records.write(tmp_path / "trials", Record(number, treatment, "finished", {"final/accuracy": 0.5}))
        tune.report({FINISHED: True, "final/accuracy": 0.5})

    troubles = iter([OSError(errno.ESTALE, os.strerror(errno.ESTALE))])
    complete, read = recorder.on_trial_complete, records.read

    def troubled(*arguments):
        for trouble in troubles:
            raise trouble
        return read(*arguments)

    def on_trial_complete(*arguments, **named):
        with monkeypatch.context() as patch:
            patch.setattr(records, "read", troubled)
            complete(*arguments, **named)

    monkeypatch.setattr(recorder, "on_trial_complete", on_trial_complete)
    assert not interrupted(trial, search, tmp_path, recorder)
    assert next(troubles, None) is None, "one could not be read"
    assert {record.state for record in records.read_all(tmp_path / "trials")} == {"finished"}
    assert (search.count_done(), search.count_open()) == (2, 0)


def test_an_error_that_ends_rays_loop_is_raised(search, tmp_path):
    class Breaks(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            raise ZeroDivisionError("a mistake of the sweep's")

    with pytest.raises(Exception, match="a mistake of the sweep's"):
        interrupted(fine, search, tmp_path, Breaks())


def test_a_study_that_a_full_disk_keeps_from_being_told_leaves_the_trial_to_the_resumed_sweep(
    search, recorder, tmp_path, monkeypatch
):
    def full(self, trial, values=None, **_):
        raise optuna.exceptions.StorageInternalError("invalid data in the commit") from OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC)
        )

    monkeypatch.setattr(search.study, "tell", full.__get__(search.study))
    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    assert not interrupted(fine, search, tmp_path, recorder), "nobody pressed Ctrl-C"
    assert (search.count_done(), search.count_open()) == (2, 0)
    for path in sorted((tmp_path / "trials").iterdir()):
        record = json.loads(path.read_text())
        reason = "OSError: Optuna's study cannot be written: [Errno 28] No space left on device"
        assert (record["state"], record["again"], record["reason"]) == ("failed", True, reason)
