"""A disk that is full ends a sweep in a sentence, not its results, and --resume goes on when there is room again."""

import errno
import io
import json
import os
import subprocess
import time

import optuna
import pytest
from mlflow import MlflowClient
from ray import tune
from ray.tune.experiment import Trial
from rich.console import Console

from hardtune import Recipe, Treatment
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing
from hardtune.sweep import Sweep, cluster, engine, main, parser
from hardtune.sweep import search as searching
from hardtune.sweep.live import View
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.search import FINISHED, StudySearch
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import make_database
from hardtune.sweep.trials import schedule

OBJECTIVES = {"final/accuracy": "max"}
RECIPE = Recipe(model="small_cnn", encoder="pixels", validation=0.25, crop_padding=1)
SWEEP = Sweep("full", "digits", RECIPE, {"alpha": tune.uniform(0, 1), "policy": "shift"})


class Disk:
    """A file system of its own, of a few MB."""

    def __init__(self, folder):
        self.results = folder / "results"
        self._filler = folder / "filler"

    def fill(self, but=0):
        """With everything ``but`` so many bytes, in pages of the system's."""
        with self._filler.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError:
                    size //= 2
            if but:
                file.truncate(file.tell() - but)

    def free(self):
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this process may not mount: {mounted.stderr.decode().strip()}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


def run(disk, *flags):
    with pytest.raises(SystemExit) as stop:
        main(SWEEP, parser("").parse_args(["--storage", str(disk.results), "--smoke", "--trials", "1", *flags]))
    return stop.value.code


def filled_before(monkeypatch, disk, name):
    """The disk is full from when the engine calls its function of this name."""
    function = getattr(engine, name)

    def full(*arguments, **named):
        disk.fill()
        return function(*arguments, **named)

    monkeypatch.setattr(engine, name, full)


@pytest.mark.slow
def test_a_sweep_that_it_ends_says_so_in_a_sentence_and_is_resumed_once_there_is_room(disk, monkeypatch, capfd):
    filled_before(monkeypatch, disk, "_prepare")
    assert run(disk) == 1
    sentence, again = capfd.readouterr().err.splitlines()
    assert sentence.startswith("error: the sweep cannot go on: [Errno 28] No space left on device: '")
    assert str(disk.results) in sentence
    assert again.startswith("go on with python ")
    assert again.endswith(" --resume")
    monkeypatch.undo()
    disk.free()
    assert run(disk, "--resume") == 0
    out, err = capfd.readouterr()
    assert "Pareto front of full" in out
    assert err == ""
    assert len(list(disk.results.glob("sweeps/*"))) == 1


@pytest.mark.parametrize("room", [100_000, 600_000, 900_000])
def test_an_mlflow_database_that_it_broke_off_while_it_was_made_is_made_anew(disk, room):
    disk.results.mkdir()
    disk.fill(but=room)
    tracker = Tracker(f"sqlite:///{disk.results}/mlflow.db", "any", "any-1", disk.results)
    tracker.start({"model": "small_cnn"}, {})
    deadline = time.monotonic() + 60
    while "disk is full" not in tracker.trouble:
        assert time.monotonic() < deadline, tracker.trouble
        time.sleep(0.05)
    disk.free()
    assert tracker.close(patience=60), tracker.shortfall
    client = MlflowClient(f"sqlite:///{disk.results}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("any").experiment_id])
    assert run.data.params == {"model": "small_cnn"}
    assert [path.name for path in disk.results.iterdir()] == ["mlflow.db"], "no draft is left"


def test_a_database_is_made_where_files_cannot_be_linked_too(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    make_database(f"sqlite:///{tmp_path}/mlflow.db")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_experiment("0").name == "Default"


def test_what_was_found_is_shown_although_it_cannot_be_drawn(disk, monkeypatch, capfd, tmp_path):
    filled_before(monkeypatch, disk, "pareto_figure")
    assert run(disk, "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db") == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "Pareto front of full" in out
    (folder,) = disk.results.glob("sweeps/*")
    for name in ("pareto.png", "pareto.json"):
        assert f"{folder / name} could not be written: OSError: [Errno 28] No space left on device" in out
        assert not (folder / name).exists()
    assert "to have them written, go on with python " in out
    assert len(records.read_all(folder / "trials")) == 2


def scheduled(trial, folder, callback):
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/study.db")
    search = StudySearch({"alpha": tune.uniform(0, 2)}, OBJECTIVES, study_name="any", storage=storage, seed=0)
    recorder = callback(search)
    with cluster.connected(None):
        share = cluster.share(1, 0, cluster.nodes())
        return schedule(trial, search, folder, share, trials=2, slots=1, recorder=recorder), search


def recorder_of(search, folder):
    tracker = Tracker(f"sqlite:///{folder}/mlflow.db", "any", "any-1", folder)
    view = View("any", OBJECTIVES, Console(file=io.StringIO()))
    control = Record(CONTROL, Treatment(), "finished", {"final/accuracy": 0.8})
    standing = Standing([control], OBJECTIVES, 1)
    return Recorder(folder / "trials", tracker, view, standing, 0, waits_again=search.waits_again)


def test_files_of_rays_own_that_it_cut_off_are_nobodys_trouble(tmp_path, monkeypatch):
    def trial(config):
        raise RuntimeError("any")

    def cut_off(trial):
        raise EOFError("Ran out of input")

    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    monkeypatch.setattr(Trial, "get_pickled_error", cut_off)
    interrupted, search = scheduled(trial, tmp_path, lambda search: tune.Callback())
    assert not interrupted
    assert search.count_done() == 2


def test_a_record_that_cannot_be_read_for_a_moment_stays_what_it_is(tmp_path, monkeypatch):
    """As on a network's file system; else a trial that had finished were one that failed, for good."""

    def trial(config):
        number, treatment = config["number"], Treatment(alpha=config["alpha"])
        records.write(tmp_path / "trials", Record(number, treatment, "finished", {"final/accuracy": 0.5}))
        tune.report({FINISHED: True, "final/accuracy": 0.5})

    troubles = iter([OSError(errno.ESTALE, os.strerror(errno.ESTALE))])

    def recorder(search):
        made, read = recorder_of(search, tmp_path), made_to_fail(records.read, troubles)
        complete = made.on_trial_complete

        def on_trial_complete(*arguments, **named):
            with monkeypatch.context() as patch:
                patch.setattr(records, "read", read)
                complete(*arguments, **named)

        monkeypatch.setattr(made, "on_trial_complete", on_trial_complete)
        return made

    interrupted, search = scheduled(trial, tmp_path, recorder)
    assert not interrupted
    assert next(troubles, None) is None, "one could not be read"
    assert {record.state for record in records.read_all(tmp_path / "trials")} == {"finished"}
    assert (search.count_done(), search.count_open()) == (2, 0)


def made_to_fail(function, troubles):
    def call(*arguments):
        for trouble in troubles:
            raise trouble
        return function(*arguments)

    return call


def test_an_error_that_ends_rays_loop_is_raised(tmp_path):
    class Breaks(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info):
            raise ZeroDivisionError("a mistake of the sweep's")

    def trial(config):
        tune.report({FINISHED: True, "final/accuracy": 0.5})

    with pytest.raises(Exception, match="a mistake of the sweep's"):
        scheduled(trial, tmp_path, lambda search: Breaks())


def test_a_study_that_it_keeps_from_being_told_leaves_the_trial_to_the_resumed_sweep(tmp_path, monkeypatch):
    def trial(config):
        tune.report({FINISHED: True, "final/accuracy": 0.5})

    def full(self, trial, values=None, **_):
        raise optuna.exceptions.StorageInternalError("invalid data in the commit") from OSError(
            errno.ENOSPC, os.strerror(errno.ENOSPC)
        )

    def recorder(search):
        monkeypatch.setattr(search.study, "tell", full.__get__(search.study))
        return recorder_of(search, tmp_path)

    monkeypatch.setattr(searching, "MAX_ERRORS", 1)
    interrupted, search = scheduled(trial, tmp_path, recorder)
    assert not interrupted, "nobody pressed Ctrl-C"
    assert (search.count_done(), search.count_open()) == (2, 0)
    for path in sorted((tmp_path / "trials").iterdir()):
        record = json.loads(path.read_text())
        reason = "OSError: Optuna's study cannot be written: [Errno 28] No space left on device"
        assert (record["state"], record["again"], record["reason"]) == ("failed", True, reason)
