"""A cluster launched with the commands that ``cluster.yaml`` documents, from a laptop that is no part of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hosts import Hosts

ROOT = Path(__file__).parents[2]


def for_own_machines(text: str, head: str, workers: list[str], key: Path, shared: Path) -> str:
    """``cluster.yaml`` with the changes that its comments ask for."""
    text = re.sub(r"# --- AWS: from here.*?# --- AWS: to here -*\n", "", text, flags=re.DOTALL)
    mark = re.search(r"(# --- YOUR OWN MACHINES[^\n]*\n)(.*?)(# --- )", text, flags=re.DOTALL)
    assert mark is not None
    own = re.sub(r"^# ", "", mark[2], flags=re.MULTILINE)
    own = own.replace("192.0.2.10", head).replace("[192.0.2.11, 192.0.2.12]", json.dumps(workers))
    own = own.replace("ssh_user: you", "ssh_user: root").replace("~/.ssh/id_ed25519", str(key))
    return text.replace(mark[2], own).replace("/shared", str(shared))


class Laptop:
    """Where the commands are typed: its own home, the repository, and the ray command."""

    def __init__(self, folder: Path, hosts: Hosts) -> None:
        self.hosts = hosts
        self.shared = folder / "shared"
        self.config = folder / "cluster.yaml"
        home = folder / "laptop"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))},
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        home.mkdir()
        self.run("ray", "get-auth-token", "--generate")
        assert (home / ".ray" / "auth_token").exists()

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, code: int = 0, **environment: str) -> str:
        process = self.start(*command, **environment)
        out, _ = process.communicate(timeout=400)
        assert process.returncode == code, f"{' '.join(command)}\n{out}"
        return out

    @contextlib.contextmanager
    def tunnel(self, port: int) -> Iterator[str]:
        """A local port that leads to the head's loopback, as ``ray attach -p`` makes one."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local = free.getsockname()[1]
        head = next(iter(self.hosts.hosts.values()))
        options = [f"-o{option}" for option in ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")]
        forward = f"{local}:127.0.0.1:{port}"
        ssh = self.start("ssh", "-N", "-i", str(self.hosts.key), *options, "-L", forward, f"root@{head.ip}")
        try:
            wait_until(lambda: socket.create_connection(("127.0.0.1", local), timeout=1).close() is None, 60)
            yield f"http://127.0.0.1:{local}"
        finally:
            os.killpg(ssh.pid, signal.SIGKILL)
            ssh.wait()


def wait_until(happened: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if happened():
                return
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)
