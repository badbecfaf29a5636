"""Sweeps as a user runs them: a script in a process of its own, its results in a folder of the test's own."""

import contextlib
import io
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from hardtune.sweep import cluster
from hardtune.sweep.tracking_uri import make_database

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Script:
    """Runs sweep scripts with their results in ``storage``."""

    home: Path
    database: Path | None
    """MLflow's that the storage begins with; None for a storage that the sweep makes."""

    @property
    def storage(self) -> Path:
        return self.home / "results"

    def _make_storage(self) -> None:
        if self.database is not None and not self.storage.exists():
            self.storage.mkdir()
            shutil.copy(self.database, self.storage / "mlflow.db")

    def start(self, *arguments: str) -> subprocess.Popen:
        script, *flags = arguments
        self._make_storage()
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
        return subprocess.Popen(
            [sys.executable, str(ROOT / "sweeps" / script), "--storage", str(self.storage), *flags],
            cwd=self.home,
            env={**environment, "HOME": str(self.home), "COLUMNS": "100"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=400)
        assert process.returncode == code, out + err
        if code == 0:
            assert err == "", "a sweep that goes well has nothing to say on stderr"
        return out + err

    def here(self, *arguments: str, code: int = 0) -> str:
        """As ``run``, but in this process, where no signal has to reach it: a new one imports for 10 s and more."""
        script, *flags = arguments
        self._make_storage()
        path = str(ROOT / "sweeps" / script)
        said, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(err):
            patch.delenv("RAY_ADDRESS", raising=False)
            patch.setenv("COLUMNS", "100")
            patch.setattr(sys, "argv", [path, "--storage", str(self.storage), *flags])
            with pytest.raises(SystemExit) as stop:
                runpy.run_path(path, run_name="__main__")
        assert stop.value.code == code, said.getvalue() + err.getvalue()
        if code == 0:
            assert err.getvalue() == "", "a sweep that goes well has nothing to say on stderr"
        return said.getvalue() + err.getvalue()

    def sweeps(self) -> list[Path]:
        return sorted((self.storage / "sweeps").glob("*"))

    def records(self) -> list[Path]:
        """Those of the trials (beside the control) that have ended."""
        return sorted(self.storage.glob("sweeps/*/trials/0*.json"))

    def wait_for_records(self, count: int, process: subprocess.Popen) -> None:
        """Until that many trials (beside the control) have ended."""
        deadline = time.monotonic() + 300
        while len(self.records()) < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the sweep does not get on"
            time.sleep(0.05)

    def kill(self, process: subprocess.Popen) -> None:
        """Kill the driver as a power cut would; its cluster's processes notice by themselves."""
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def study(self) -> optuna.Study:
        (folder,) = self.sweeps()
        return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder}/study.db")

    def runs(self, experiment: str):
        client = MlflowClient(f"sqlite:///{self.storage}/mlflow.db")
        return client, client.search_runs([client.get_experiment_by_name(experiment).experiment_id], max_results=1000)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's, as a sweep makes it, once for all tests of something else: its migrations take 2 s and more."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    make_database(f"sqlite:///{path}")
    return path


@pytest.fixture
def script(tmp_path: Path, empty_database: Path) -> Script:
    return Script(tmp_path, empty_database)


@pytest.fixture(scope="module")
def shared_script(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Script:
    """One for a module's tests that look at the same sweep."""
    return Script(tmp_path_factory.mktemp("sweep"), empty_database)


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for a module's tests; sweeps that start their own are for other modules."""
    with cluster.connected(None):
        yield


@pytest.fixture
def assert_whole() -> Callable[[Script, int, int], None]:
    """The sweep ended with what an undisturbed one has: no trial lost, none twice, no run left open."""

    def check(script: Script, trials: int, members: int) -> None:
        records = sorted(path.name for path in script.storage.glob("sweeps/*/trials/*.json"))
        assert records == [f"{number:05d}.json" for number in range(trials)] + ["control.json"]
        assert [trial.state for trial in script.study().trials] == trials * [TrialState.COMPLETE]
        client, runs = script.runs("digits")
        numbers = Counter(run.data.tags["hardtune.trial"] for run in runs)
        assert numbers == Counter(["sweep", "control", *map(str, range(trials))])
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            if run.data.tags["hardtune.trial"] != "sweep":
                assert len(client.get_metric_history(run.info.run_id, "members/accuracy")) == members

    return check
