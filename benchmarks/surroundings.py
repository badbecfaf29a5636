"""A cluster, a tracking server and a sweep as processes of this machine that can be killed one by one."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent


class Surroundings:
    """A Ray head without CPUs, worker nodes of one CPU each, an MLflow server with a database; all in ``folder``."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder, self._nodes = folder, nodes
        self.trainings = folder / "trainings"
        self.trainings.touch()
        self._port, self._mlflow_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self._port}"
        self.tracking_uri = f"http://127.0.0.1:{self._mlflow_port}"
        self.head: subprocess.Popen[bytes] | None = None
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.server: subprocess.Popen[bytes] | None = None
        self.driver: subprocess.Popen[bytes] | None = None
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        self._environment = {
            **kept,
            "HOME": str(folder),  # Ray keeps its token there
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'benchmarks' / 'counting'}:{ROOT}",
            "COUNT_TRAININGS": str(self.trainings),
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": "120",  # a busy machine starts them slowly
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        subprocess.run(["ray", "get-auth-token", "--generate"], env=self._environment, capture_output=True, check=True)

    def _answers(self) -> bool:
        socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        return True

    def start_cluster(self) -> None:
        """Start the head, which the driver connects to and which trains nothing, and all worker nodes."""
        places = ["--port", str(self._port), "--temp-dir", str(self.folder / "ray")]
        self.head = self._node("--head", *places, "--num-cpus=0", "--include-dashboard=false")
        wait_until(self._answers, 60)
        for _ in range(self._nodes):
            self.add_node()

    def kill_cluster(self) -> None:
        """Kill the head and everything that belongs to it."""
        for process in (self.head, *self.nodes):
            if process is not None:
                kill(process)
        self.head, self.nodes = None, []

    def add_node(self) -> None:
        """Start one more worker node; it joins within some seconds."""
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        self.nodes.append(self._node("--address", self.address, "--num-cpus=1", *ports))

    def replace_failed(self) -> None:
        """Restart nodes that ended by themselves: a busy machine fails to start some.

        Without its head a cluster is gone; a new one is started once the sweep has noticed.
        """
        if self.head is not None and self.head.poll() is not None:
            self.kill_cluster()
        for node in [node for node in self.nodes if node.poll() is not None]:
            self.nodes.remove(node)
            self.add_node()

    def described(self) -> str:
        """The state and last output of each process, to find out why nothing happens."""
        there = {"head": self.head, "server": self.server, "driver": self.driver}
        codes = {name: "not there" if it is None else it.poll() for name, it in there.items()}
        states = [f"{name}: {'runs' if code is None else code}" for name, code in codes.items()]
        logs = [f"-- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log"))]
        return "\n".join([*states, f"nodes: {len(self.nodes)}", *logs])

    def start_server(self) -> None:
        """Start the MLflow server, or restart it at the same address; it answers within some seconds."""
        self.server = self._start(
            *("mlflow", "server", "--host", "127.0.0.1", "--port", str(self._mlflow_port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self.folder}/server.db"),
            *("--artifacts-destination", str(self.folder / "artifacts")),
            output="server.log",
        )

    def server_answers(self) -> bool:
        """Whether the MLflow server is up."""
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{self.tracking_uri}/health", timeout=2).close()
            return True
        return False

    def wait_for_server(self) -> None:
        """Wait until the MLflow server, once started, is up."""
        wait_until(self.server_answers, 120)

    def start_driver(self, storage: Path, *flags: str) -> None:
        """Start the sweep on this cluster."""
        where = ["--storage", str(storage), "--address", self.address, "--tracking-uri", self.tracking_uri]
        sweep = str(ROOT / "benchmarks" / "struck_sweep.py")
        self.driver = self._start(sys.executable, sweep, *where, *flags, output="driver.log")

    def said(self) -> str:
        """What the drivers printed so far."""
        return (self.folder / "driver.log").read_text()

    def busy_workers(self) -> list[psutil.Process]:
        """The processes of the cluster in which tasks and trials run."""
        found = []
        for node in self.nodes:
            for process in descendants(node.pid):
                with contextlib.suppress(psutil.Error, IndexError):
                    title = process.cmdline()[0]
                    if title.startswith("ray::") and not title.startswith(
                        ("ray::IDLE", "ray::Dash", "ray::RuntimeEnv")
                    ):
                        found.append(process)
        return found

    def stop(self) -> None:
        """Kill everything that was started here."""
        for process in (self.driver, *self.nodes, self.head, self.server):
            if process is not None:
                kill(process)

    def _node(self, *flags: str) -> subprocess.Popen[bytes]:
        memory = ["--object-store-memory=80000000", "--node-ip-address=127.0.0.1"]
        return self._start("ray", "start", "--block", *memory, *flags, output="ray.log")

    def _start(self, *command: str, output: str) -> subprocess.Popen[bytes]:
        with open(self.folder / output, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@contextlib.contextmanager
def surroundings(nodes: int) -> Iterator[Surroundings]:
    """Run all of it, with ``nodes`` worker nodes; in the end, kill it and remove its folder."""
    folder = Path(tempfile.mkdtemp(prefix="struck-"))  # a short path: it holds sockets
    place = Surroundings(folder, nodes)
    try:
        place.start_server()
        place.start_cluster()
        place.wait_for_server()
        yield place
    finally:
        place.stop()
        shutil.rmtree(folder, ignore_errors=True)


def descendants(pid: int) -> Sequence[psutil.Process]:
    """The living descendants of a process."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL it and its descendants, as if a machine died."""
    for each in (*descendants(process.pid), process):
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()


def free_port() -> int:
    """A free port on the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(happened: Callable[[], object], seconds: float) -> None:
    """Wait until ``happened()`` is true; a refused connection counts as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if happened():
                return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain")
        time.sleep(0.1)
