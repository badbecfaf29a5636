"""The batch script of docs/cluster.md, run by bash, with stand-ins for what only a Slurm cluster has."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
(BATCH,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH.*?)```", PAGE, re.DOTALL)

STAND_INS = {
    "srun": 'while [[ $1 == -* ]]; do [[ $1 == -w ]] && shift; shift; done; exec "$@"',
    "scontrol": "echo first; echo second",
    "ray": "exit 0",
    "sleep": "exit 0",
    "python": """
if [[ $* == *doctor* ]]; then exit $FOUND; fi
trap 'echo the sweep stopped; exit 130' TERM
echo the sweep runs
for _ in {1..300}; do /bin/sleep 0.1; done
""",
}


@pytest.fixture
def start(tmp_path):
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def start(found):
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "2", "FOUND": str(found)}
        return subprocess.Popen(["bash", "-c", BATCH], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    return start


def test_the_sweep_is_told_that_the_time_is_nearly_up_and_waited_for(start):
    batch = start(found=0)
    assert batch.stdout.readline() == "the sweep runs\n"
    batch.send_signal(signal.SIGTERM)
    batch.wait(timeout=20)
    assert batch.stdout.read() == "the sweep stopped\n"


def test_where_the_doctor_finds_something_no_sweep_starts(start):
    batch = start(found=1)
    assert batch.wait(timeout=20) == 1
    assert batch.stdout.read() == ""
