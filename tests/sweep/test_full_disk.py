"""A disk that is full ends a sweep in a sentence, not its results, and --resume goes on when there is room again."""

import errno
import os
import subprocess
import time

import pytest
from mlflow import MlflowClient
from ray import tune

from hardtune import Recipe
from hardtune.report import records
from hardtune.sweep import Sweep, engine, main, parser
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import make_database

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
    """Its exit code. MLflow's database is elsewhere, since it would be waited for."""
    kept = ["--storage", str(disk.results), "--tracking-uri", f"sqlite:///{disk.results.parent.parent}/mlflow.db"]
    with pytest.raises(SystemExit) as stop:
        main(SWEEP, parser("").parse_args([*kept, "--smoke", "--trials", "1", *flags]))
    return stop.value.code


def filled_before(monkeypatch, disk, name):
    """The disk is full from when the engine calls its function of this name."""
    function = getattr(engine, name)

    def full(*arguments, **named):
        disk.fill()
        return function(*arguments, **named)

    monkeypatch.setattr(engine, name, full)


@pytest.mark.slow
def test_a_sweep_that_it_ends_says_so_in_a_sentence_and_each_time_goes_on_once_there_is_room(disk, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        filled_before(patch, disk, "_prepare")
        assert run(disk) == 1
    sentence, again = capfd.readouterr().err.splitlines()
    assert sentence.startswith("error: the sweep cannot go on: [Errno 28] No space left on device: '")
    assert str(disk.results) in sentence
    assert again.startswith("go on with python ")
    assert again.endswith(" --resume")
    disk.free()

    with monkeypatch.context() as patch:  # what was found is shown although it cannot be drawn
        filled_before(patch, disk, "pareto_figure")
        assert run(disk, "--resume") == 1
    out, err = capfd.readouterr()
    assert err == ""
    assert "Pareto front of full" in out
    (folder,) = disk.results.glob("sweeps/*")
    for name in ("pareto.png", "pareto.json"):
        assert f"{folder / name} could not be written: OSError: [Errno 28] No space left on device" in out
        assert not (folder / name).exists()
    assert "to have them written, go on with python " in out
    assert len(records.read_all(folder / "trials")) == 2
    disk.free()

    assert run(disk, "--resume") == 0
    out, err = capfd.readouterr()
    assert "Pareto front of full" in out
    assert err == ""
    assert list(disk.results.glob("sweeps/*")) == [folder]
    assert {path.name for path in folder.glob("pareto.*")} == {"pareto.png", "pareto.json"}


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
