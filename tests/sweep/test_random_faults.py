"""A sweep over several nodes, struck at random: benchmarks/faults.py at its shortest; it checks all that must hold."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "faults.py"


@pytest.mark.slow
def test_random_faults_cost_a_sweep_nothing_but_the_networks_that_they_broke_off():
    flags = ["--faults", "3", "--seed", "3", "--every", "7", "--treatments", "3", "--nodes", "2"]
    done = subprocess.run([sys.executable, str(SCRIPT), *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 faults" in done.stdout
    assert "nothing lost, nothing twice" in done.stdout
