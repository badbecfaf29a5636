"""How long a Ray on this machine takes to start, run one task and stop: as a sweep starts it, and as ray.init would.

    python benchmarks/ray_start.py

By the wall's clock, since most of it is waiting for Ray's own processes. Other work on the machine makes both slower.
"""

from __future__ import annotations

import logging
import time

from interleaved import compare, describe_machine, take_no_flags

from hardtune.sweep import cluster  # before Ray, which reads on import what this sets

import ray  # isort: skip


def ours() -> None:
    with cluster.connected(None):
        one_task()


def theirs() -> None:
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    one_task()
    ray.shutdown()


def one_task() -> None:
    ray.get(ray.remote(lambda: None).remote())


if __name__ == "__main__":
    take_no_flags(__doc__)
    describe_machine()
    compare("start, one task, stop", ours, theirs, clock=time.monotonic)
