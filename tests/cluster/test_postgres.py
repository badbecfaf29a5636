"""A team's databases: MLflow's server and Optuna's study on a real PostgreSQL."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from urllib.parse import quote

import postgres
import pytest

from hardtune.errors import InputError
from hardtune.sweep.databases import study_database

ROOT = Path(__file__).parents[2]
SMOKE = (str(ROOT / "sweeps" / "digits.py"), "--smoke", "--trials", "2")

needs_postgres = pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL (Debian: postgresql)")


@pytest.fixture(scope="module")
def server():
    with postgres.running("mlflow", "optuna", "dropped") as server:
        yield server


@pytest.fixture
def mlflow_server(server, tmp_path):
    port = server.port + 1 if server.port < 65000 else server.port - 1
    program = Path(sys.executable).with_name("mlflow")
    process = subprocess.Popen(
        [
            *(program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", server.url("mlflow"), "--artifacts-destination", str(tmp_path / "artifacts")),
        ],
        env={**os.environ, "PGPASSFILE": str(server.passwords), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.3)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(60)


@pytest.fixture
def short_path():
    """Ray's sockets lie in it, whose paths must not be long."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


def sweep(tmp_path, short_path, *flags, code=0):
    done = subprocess.run(
        [sys.executable, *SMOKE, "--storage", str(tmp_path / "results"), *flags],
        env={**os.environ, "HOME": str(tmp_path), "RAY_TMPDIR": str(short_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def secrets_in(said, *folders):
    """Where a password or Ray's token can be read, but for the token's own file."""
    (token,) = (folder / ".ray" / "auth_token" for folder in folders if (folder / ".ray" / "auth_token").exists())
    secrets = [token.read_text().strip(), "hunter2", *postgres.PASSWORD.split()]
    places = {"the terminal": said}
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_file() and path != token:
            places[str(path)] = path.read_bytes().decode("latin-1")
    assert len(places) > 50, "results, Ray's logs and all"
    return [place for place, text in places.items() if any(secret in text for secret in secrets)]


@pytest.mark.slow
@needs_postgres
def test_a_sweep_is_kept_in_postgresql_goes_on_from_it_and_leaves_its_passwords_nowhere(
    tmp_path, short_path, server, mlflow_server, monkeypatch
):
    tracking = ("--tracking-uri", mlflow_server.replace("http://", "http://me:hunter2@"))
    login = f"hardtune:{quote(postgres.PASSWORD)}@"
    study = ("--study-storage", server.url("optuna").replace("hardtune@", login))
    said = sweep(tmp_path, short_path, *tracking, *study)
    refused = sweep(tmp_path, short_path, *tracking, "--resume", "--trials", "3", code=2)
    assert "name the database that it was begun in (--study-storage)" in refused
    said += sweep(tmp_path, short_path, *tracking, *study, "--resume", "--trials", "3")
    assert not secrets_in(said + refused, tmp_path, short_path)

    import optuna
    from mlflow import MlflowClient

    monkeypatch.setenv("PGPASSFILE", str(server.passwords))
    (name,) = optuna.get_all_study_names(server.url("optuna"))
    states = [trial.state.name for trial in optuna.load_study(study_name=name, storage=server.url("optuna")).trials]
    assert states == ["COMPLETE"] * 3
    # The server's view, and the database's own.
    for client in (MlflowClient(mlflow_server), MlflowClient(server.url("mlflow"))):
        experiment = client.get_experiment_by_name("digits-smoke")
        runs = client.search_runs([experiment.experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 5
        assert "hunter2" not in str([run.to_dictionary() for run in runs])


@needs_postgres
def test_a_wrong_database_is_refused_without_showing_the_password(server):
    url = f"postgresql+psycopg://hardtune:secret@127.0.0.1:{server.port}/optuna"
    with pytest.raises(InputError, match=r"hardtune:…@127.0.0.1.*password authentication failed") as wrong:
        study_database(url, "any")
    assert "secret" not in str(wrong.value)


@needs_postgres
def test_a_study_whose_connections_the_server_dropped_meanwhile_is_used_as_before(server, monkeypatch):
    import optuna
    import psycopg

    monkeypatch.setenv("PGPASSFILE", str(server.passwords))
    study = optuna.create_study(storage=study_database(server.url("dropped"), "any"))
    with psycopg.connect(server.url("postgres").replace("+psycopg", "")) as other:
        drop = "select pg_terminate_backend(pid, 60000) from pg_stat_activity where datname = 'dropped'"
        assert (True,) in other.execute(drop).fetchall()
    study.tell(study.ask(), 1.0)
    assert [trial.value for trial in study.trials] == [1.0]


def test_a_database_that_nobody_serves_is_refused():
    with pytest.raises(InputError, match=r"Optuna cannot keep its study in postgresql://127.0.0.1:9/none"):
        study_database("postgresql://127.0.0.1:9/none", "any")


def test_a_study_that_was_begun_elsewhere_is_missed(tmp_path):
    url = f"sqlite:///{tmp_path}/study.db"
    study_database(url, "sweep-1")
    with pytest.raises(InputError, match="the study of sweep-1 is not in sqlite"):
        study_database(url, "sweep-1", begun=True)
