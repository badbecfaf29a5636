"""How ``-n 2`` shares the tests out: a module stays whole, and what takes longest starts first.

So a module's fixtures are made once. Tests of ``tests/cluster`` are one group, since a machine has one network of
hosts; those of ``tests/commands`` share what they look at.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # By default every process has a thread a core, and every sweep a worker a core. They would wait for each other, and
    # a quarter of what a small sweep costs is the start of workers. (OpenMP reads this once, as torch is imported.)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_OVERRIDE_RESOURCES", '{"CPU": 1}')

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

WHOLE = ("tests/cluster", "tests/commands")
LONGEST = (
    "tests/cluster",
    "tests/sweep/test_stopped_and_resumed.py",
    "tests/sweep/test_end_to_end.py",
    "tests/sweep/test_faults.py",
    "tests/sweep/test_random_faults.py",
    "tests/sweep/test_papers_sweeps.py",
    "tests/sweep/test_pruning_and_pool.py",
    "tests/sweep/test_member_racing.py",
    "tests/sweep/test_fixed_list.py",
)

if not torch.cuda.is_available():
    # Kernels for GPUs are tried on the CPU: Triton reads this as they are defined, and does itself what they would.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def group_of(test: str) -> str:
    """Its folder or its module."""
    module = test.partition("::")[0]
    return next((folder for folder in WHOLE if module.startswith(f"{folder}/")), module)


class InGroups(LoadScopeScheduling):
    """In the place of ``--dist loadgroup``, whose groups pytest 9.2 does not see."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> InGroups:
    config.option.loadscopereorder = False  # else the groups with most tests start first
    return InGroups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {group: place for place, group in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(group_of(item.nodeid), len(LONGEST)))


@pytest.hookimpl(optionalhook=True)
def pytest_handlecrashitem(crashitem: str) -> None:
    """End it all where a test took its process with it: pytest-xdist would try it again and again, or wait forever."""
    pytest.exit(f"{crashitem} ended its process", returncode=3)
