"""One sweep that is stopped, killed and robbed of records in every way, and goes on each time.

The tests are the days of its life, in order, but each holds alone as well. What else may die: ``test_faults.py``.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import psutil
import pytest

# One trial at a time, each of several seconds: whoever stops it after a trial finds others left.
DIGITS = ("digits.py", "--concurrent", "1", "--recipe", "members=2", "scoring_members=2", "epochs=2", "--trials")


def start(script) -> subprocess.Popen:
    """The sweep goes on; one more trial has ended."""
    ended = len(script.records())
    process = script.start(*DIGITS, "10", *(["--resume"] if script.sweeps() else []))
    script.wait_for_records(ended + 1, process)
    return process


def trial_workers(driver: int) -> list[psutil.Process]:
    """The processes in which the sweep's trials run."""
    found = []
    for process in psutil.Process(driver).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("ray::Impl") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def kill_a_trial_worker(driver: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not (workers := trial_workers(driver.pid)):
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "no trial started"
        time.sleep(0.1)
    os.kill(workers[0].pid, signal.SIGKILL)


def assert_stopped(script, process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert "finished networks are kept: go on with python" in out + err
    assert "--resume" in out + err
    _, runs = script.runs("digits")
    assert "RUNNING" not in {run.info.status for run in runs}
    (folder,) = script.sweeps()
    *_, last = json.loads((folder / "starts.json").read_text())
    assert last["seconds"] > 0


def test_a_running_sweep_keeps_others_out_and_is_stopped_by_sigterm(shared_script):
    process = start(shared_script)
    process.send_signal(signal.SIGSTOP)  # it holds its lock for as long as this takes
    try:
        assert "is running in another process" in shared_script.here(*DIGITS, "10", "--resume", code=2)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)  # as `kill` and Slurm do
    assert_stopped(shared_script, process)


def test_ctrl_c_stops_it(shared_script):
    process = start(shared_script)
    process.send_signal(signal.SIGINT)
    assert_stopped(shared_script, process)


@pytest.mark.slow
def test_sigterm_to_all_of_its_processes_ends_a_sweep_that_rays_own_no_longer_answer(shared_script):
    process = start(shared_script)
    os.killpg(process.pid, signal.SIGTERM)  # as `timeout` does
    out, err = process.communicate(timeout=45)
    # Whatever notices first that Ray's own processes are dead: Ray's code in this one exits with 1, and no word.
    assert process.returncode in (130, 1), out + err
    if process.returncode == 130:
        assert "finished networks are kept: go on with python" in out + err
    assert "hardtune/" not in "".join(re.findall(r'File "(.*)"', out + err)), "no error of ours"


@pytest.mark.slow
def test_killed_drivers_and_workers_and_damaged_records_lose_nothing_and_the_resumed_sweep_can_be_extended(
    shared_script, assert_whole
):
    process = start(shared_script)
    kill_a_trial_worker(process)
    shared_script.wait_for_records(max(3, len(shared_script.records()) + 1), process)
    shared_script.kill(process)

    finished = len(shared_script.records())
    damaged = shared_script.records()[:3]  # the study knows of one at least
    texts = [path.read_text() for path in damaged]
    not_taken = json.dumps(json.loads(texts[0]) | {"state": "failed", "again": True, "metrics": {}})
    for path, left in zip(damaged, (not_taken, texts[1][:100], None), strict=True):
        path.unlink() if left is None else path.write_text(left)
    process = shared_script.start(*DIGITS, "11", "--resume")
    shared_script.wait_for_records(finished + 1, process)
    kill_a_trial_worker(process)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert "reusing 2 of 2" in out
    assert "making lost records again, of trials" in out
    assert [path.read_text() for path in damaged] == texts
    assert_whole(shared_script, 11, members=2)
    (folder,) = shared_script.sweeps()
    first, *later = (start["command"] for start in json.loads((folder / "starts.json").read_text()))
    assert "--resume" not in first
    assert all("--resume" in command for command in later)
