"""A process that has settled in keeps its memory from one training step to the next."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import torch
from hardtune.training.worker import configure_process

if sys.argv[1] == "settled":
    configure_process(1)

def step():
    return torch.ones(16, 2**20).sum()  # 64 MB, freed at once

for _ in range(20):  # the heap grows until it has a place for it
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(how: str) -> int:
    """How many pages the system had to hand out for ten steps."""
    command = [sys.executable, "-c", STEPS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives memory back")
def test_a_settled_process_is_not_given_the_same_memory_again_at_each_step():
    assert pages("settled") < pages("as it is") / 10
