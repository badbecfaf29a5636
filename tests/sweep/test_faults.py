"""Things die in the middle of a sweep; the sweep ends with what an undisturbed one has."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

SMALL = ("--concurrent", "1", "--recipe", "members=2", "scoring_members=2", "epochs=2")


@pytest.mark.slow
def test_trials_that_a_lost_folder_failed_say_so_and_are_tried_again_when_it_is_back(script, assert_whole):
    """A mount that goes away, a disk that is full: none of the trials' doing."""
    digits = ("digits.py", "--trials", "3", *SMALL)
    process = script.start(*digits)
    script.wait_for_records(2, process)  # one is left, and is tried six times
    member, away = script.storage / "store" / "member", script.storage / "away"
    member.rename(away)
    member.write_text("no folder")
    out, err = process.communicate(timeout=400)
    assert process.returncode == 1, out + err
    failed = [record for record in map(json.loads, map(Path.read_text, script.records())) if record["again"]]
    assert failed
    assert {record["state"] for record in failed} == {"failed"}
    assert all("[Errno 20] Not a directory" in record["reason"] for record in failed), failed
    assert f"trial {failed[0]['number']} " in out
    assert "ended in errors: go on with python" in out
    broken = {str(record["number"]): ("FAILED", record["reason"]) for record in failed}
    _, runs = script.runs("digits")
    of_trials = {run.data.tags["hardtune.trial"]: (run.info.status, run.data.tags.get("reason")) for run in runs}
    assert broken.items() <= of_trials.items()
    done = 3 - len(failed)

    member.unlink()
    away.rename(member)
    assert f"trials {done}/3 · " in script.here(*digits, "--resume")
    assert_whole(script, 3, members=2)


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int):
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/artifacts"),
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.3)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_a_tracking_server_that_goes_away_delays_records_and_loses_none(script, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(tmp_path, port):
        process = script.start(
            "entropy_weight.py", "--objective", "ece", "--trials", "4", *SMALL, "--tracking-uri", uri
        )
        script.wait_for_records(1, process)
    script.wait_for_records(3, process)  # the sweep goes on without the server
    with mlflow_server(tmp_path, port):
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, out + err
        assert "Best of entropy_weight-digits-ece" in out
        assert "did not take every record" not in out
        client = MlflowClient(uri)
        (experiment,) = client.search_experiments(filter_string="name = 'entropy_weight-digits-ece'")
        runs = client.search_runs([experiment.experiment_id])
        assert sorted(run.data.tags["hardtune.trial"] for run in runs) == [*"0123", "control", "sweep"]
        assert {run.info.status for run in runs} == {"FINISHED"}
        for run in runs:
            if run.data.tags["hardtune.trial"] != "sweep":
                assert "final/accuracy" in run.data.metrics
                assert len(client.get_metric_history(run.info.run_id, "members/accuracy")) == 2
