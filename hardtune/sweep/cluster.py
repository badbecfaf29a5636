"""Starting Ray quietly or joining a cluster, and what its nodes can run at once."""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import logging
import os
import shlex
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Ray reads these on import or start: no usage reports, no second progress display.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# It would retry for ever what does not fit in memory. Its delays double from 1 s to 60 s: these retries span 5 minutes.
os.environ.setdefault("RAY_task_oom_retries", "10")

import ray

import hardtune
from hardtune.errors import InputError, first_line
from hardtune.sweep.passwords import has_password, hidden
from hardtune.sweep.plug_ins import with_plug_ins

Resources = Mapping[str, float]
"""A node's resources, by Ray's names: ``CPU``, ``GPU``, …"""


@dataclass(frozen=True)
class Share:
    """The part of a node that one trial, or one scoring-ensemble member, gets."""

    cpus: float
    gpus: float
    at_once: int = 1
    """How many of its networks train in parallel."""

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    def slots(self, resources: Resources) -> int:
        """How many shares the resources hold, at least 1."""
        cpus = resources.get("CPU", 0.0) / self.cpus
        gpus = resources.get("GPU", 0.0) / self.gpus if self.gpus else cpus
        return max(1, int(min(cpus, gpus) + 1e-9))  # 7 CPUs hold 50 of 0.14, and 7 / 0.14 is below 50


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Join the cluster at ``address`` (``auto`` for the one on this machine), or start one here.

    Raises:
        InputError: nothing answers at the address, or Ray cannot start, or this process has started it already.
    """
    if ray.is_initialized():  # by a notebook's other cell, without hardtune and the sweep's plug-ins for its workers
        raise InputError("this process is connected to Ray already: call ray.shutdown() first")
    _retitle()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    with given_back(signal.SIGTERM):  # on which Ray would abort this process
        if address is None:
            # Never join a cluster by accident: RAY_ADDRESS is for those who ask for one.
            with _for_one_machine():
                try:
                    ray.init(address="local", include_dashboard=False, runtime_env=with_plug_ins(), **quiet)
                except OSError as error:  # the temporary folder is not writable, or its path is too long
                    raise InputError(f"Ray cannot start here, see RAY_TMPDIR: {first_line(error)}") from error
        else:
            _join(address, quiet)
    try:
        yield
    finally:
        _leave()


@contextlib.contextmanager
def given_back(number: signal.Signals) -> Iterator[None]:
    """Restore a signal's handler on exit; Ray and Tune replace some and leave theirs behind."""
    handler = signal.getsignal(number)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():  # only it can set one
            signal.signal(number, handler)


def _leave() -> None:
    """Leave the cluster, after freeing every Ray object that another thread might free meanwhile.

    Ray kills the whole process, without a traceback, if a reference to one of its objects is freed while it shuts
    down. Tune leaves such references in cycles, and Python frees those in whichever thread happens to run the garbage
    collector: the one that writes to MLflow, or the one that redraws the terminal.
    """

    class Canary:
        pass

    collecting = gc.isenabled()
    gc.disable()
    try:
        canary = Canary()
        canary.itself = canary  # type: ignore[attr-defined]
        alive = weakref.ref(canary)
        del canary
        while alive():  # `collect` does nothing while another thread runs it
            gc.collect()
            time.sleep(0.001)
        ray.shutdown()
    finally:
        if collecting:
            gc.enable()


@contextlib.contextmanager
def _for_one_machine() -> Iterator[None]:
    """Make a Ray that is started inside listen on 127.0.0.1 only, and start no processes that a sweep has no use for.

    On Linux, unlike macOS, it would listen on all interfaces. What is left out are the autoscaler's monitor, the one
    that forwards logs, and the dashboard's server, which would run without a dashboard, too: Ray starts and ends in
    half the time without them. Its agent takes any free port: by default it would wait 3.5 s for port 52365 if another
    Ray on this machine has it.
    """
    from ray._private import node, parameter, ray_constants

    former = ray_constants.ENABLE_RAY_CLUSTER, parameter.RayParams, node.Node.start_api_server
    ray_constants.ENABLE_RAY_CLUSTER = False
    parameter.RayParams = functools.partial(  # type: ignore[misc]
        parameter.RayParams, dashboard_agent_listen_port=0, no_monitor=True, include_log_monitor=False
    )
    node.Node.start_api_server = lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER, parameter.RayParams, node.Node.start_api_server = former  # type: ignore[misc]


def _retitle() -> None:
    """Remove passwords from this process's title, which Ray records as the job's entrypoint and `ps` shows."""
    from ray._raylet import setproctitle  # type: ignore[attr-defined]

    if any(map(has_password, sys.orig_argv)):
        setproctitle(shlex.join(hidden(sys.orig_argv)))


def _join(address: str, quiet: dict[str, Any]) -> None:
    _reach(address)
    # Ship the package with the sweep, so that all nodes run the driver's version; a job may already have shipped it.
    brought = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")).get("runtime_env", {})
    package = {} if "py_modules" in brought else {"py_modules": [str(Path(hardtune.__file__).parent)]}
    plugged = with_plug_ins()
    try:
        ray.init(address=address, runtime_env={**package, **plugged}, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = first_line(error)
        if "Failed to connect" in reason:  # although something listens there
            reason += " (one with a token is joined with RAY_AUTH_MODE=token and its ~/.ray/auth_token)"
        raise InputError(f"no Ray cluster answers at {address!r}: {reason}") from error


def _reach(address: str) -> None:
    """Try to connect to ``[ray://]host:port``, since Ray itself would retry for minutes; ``auto`` is skipped."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise InputError(f"no Ray cluster answers at {address!r}: {error}") from error


def nodes() -> list[Resources]:
    """The resources of each live node in the connected cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def nodes_with_workers(say: Callable[[str], None], patience: float = 1800.0) -> list[Resources]:
    """``nodes()``, once one of them has CPUs; an autoscaled cluster without any is asked for its first worker.

    Raises:
        InputError: none came within ``patience`` seconds.
    """
    found = nodes()
    if any(node.get("CPU", 0) for node in found):
        return found
    from ray.autoscaler.sdk import request_resources

    say("waiting for the cluster's first worker")
    request_resources(num_cpus=1)
    deadline = time.monotonic() + patience
    while not any(node.get("CPU", 0) for node in found):
        if time.monotonic() > deadline:
            raise InputError(f"no worker joined the cluster within {patience / 60:.0f} minutes: see `ray status`")
        time.sleep(1)
        found = nodes()
    request_resources(num_cpus=0)
    return found


def share(cpus: float, gpus: float | None, nodes: Sequence[Resources]) -> Share:
    """A trial's share of a cluster of these nodes; any lost by now do not matter, as others will replace them.

    Raises:
        InputError: no node is large enough for one.
    """
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
        raise InputError(
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs, and the largest node has "
            f"{largest.get('CPU', 0):g} and {largest.get('GPU', 0):g}"
        )
    return Share(cpus, gpus)


def members_at_once(share: Share, *, compiled: bool, racing: bool) -> int:
    """How many of a trial's networks train in parallel, as measured on an H200 (benchmarks/gpu.py).

    Four ResNet-18s in parallel train 1.4 times as fast as one alone, and eight no faster than four; if ``compiled``,
    eight train 1.8 times as fast. With ``racing`` it is two, since a stopped trial still finishes the members in
    training. Trials that share a GPU take turns on it anyway.
    """
    if share.gpus < 1:
        return 1
    if racing:
        return 2
    return 8 if compiled else 4
