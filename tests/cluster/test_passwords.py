"""A sweep whose databases are named with their passwords, looked through for them afterwards."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import postgres
import pytest

ROOT = Path(__file__).parents[2]
WORDS = postgres.PASSWORD.split()


@pytest.fixture
def short_path():
    """Ray's sockets lie in it, whose paths must not be long."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.skipif(postgres.programs() is None, reason="no PostgreSQL (Debian: postgresql)")
def test_a_sweep_leaves_the_passwords_of_its_databases_nowhere(tmp_path, short_path):
    with postgres.running("mlflow", "optuna") as server:
        login = f"hardtune:{quote(postgres.PASSWORD)}@"
        mlflow, optuna = (server.url(name).replace("hardtune@", login) for name in ("mlflow", "optuna"))
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    str(ROOT / "sweeps" / "digits.py"),
                    "--smoke",
                    "--storage",
                    str(tmp_path / "results"),
                ),
                *("--tracking-uri", mlflow, "--study-storage", optuna),
            ],
            env={**os.environ, "HOME": str(tmp_path), "RAY_TMPDIR": str(short_path), "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        dump = subprocess.run(
            [postgres.programs() / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "hardtune", "mlflow"],
            env={**os.environ, "PGPASSFILE": str(server.passwords)},
            capture_output=True,
            text=True,
            check=True,
        )
    token = (tmp_path / ".ray" / "auth_token").read_text().strip()
    places = {"the terminal": done.stdout + done.stderr, "MLflow's database": dump.stdout}
    for path in (*tmp_path.rglob("*"), *short_path.rglob("*")):
        if path.is_file() and path != tmp_path / ".ray" / "auth_token":
            places[str(path)] = path.read_bytes().decode("latin-1")
    assert len(places) > 50, "results, Ray's logs and all"
    told = [place for place, text in places.items() if token in text or any(word in text for word in WORDS)]
    assert not told
