"""A Ray cluster of many nodes on this machine: real raylets with simulated GPUs."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

import psutil

FREE_GB = 5.0
"""Memory to leave for other programs."""

# Ray's processes read these on start: nobody looks at these nodes' metrics, and all share this machine's cores.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # else a process per CPU of a node before there is work
    "RAY_enable_metrics_collection": "0",
    "RAY_DASHBOARD_AGENT_CHECK_PARENT_INTERVAL_S": "10",
    "REPORTER_UPDATE_INTERVAL_MS": "600000",
    "RAY_raylet_start_wait_time_s": "120",
}


def free_gb() -> float:
    """Memory still available to programs."""
    return float(psutil.virtual_memory().available) / 2**30


def taken_gb() -> tuple[int, float]:
    """This process's descendants: how many, and their memory, counting shared parts once."""
    sizes = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            sizes.append(process.memory_full_info().pss)
    return len(sizes), sum(sizes) / 2**30


@contextlib.contextmanager
def cluster(nodes: int, gpus: int) -> Iterator[str]:
    """Start a head without resources and ``nodes`` nodes of ``gpus`` CPUs and GPUs, one by one; yields the address."""
    os.environ.update(QUIET)
    import ray._private.utils
    from ray.cluster_utils import Cluster

    # Each raylet starts two Python agents. They are small without the dashboard's packages, so pretend to lack these.
    ray._private.utils.get_dashboard_dependency_error = lambda: ImportError("not for simulated nodes")
    patience = {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 20}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": patience}
    started = time.perf_counter()
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for node in range(nodes):
            if free_gb() < FREE_GB:
                sys.exit(f"{node} of {nodes} nodes fit: less than {FREE_GB:g} GB of memory are left")
            made.add_node(num_cpus=gpus, num_gpus=gpus, object_store_memory=80 * 2**20)
        processes, memory = taken_gb()
        print(
            f"cluster: {nodes} nodes of {gpus} made-up GPUs in {time.perf_counter() - started:.0f} s; {processes} "
            f"processes, {memory:.1f} GB",
            flush=True,
        )
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()
