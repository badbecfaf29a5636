"""Hosts of their own on one machine: a network, process and mount namespace each, with an ssh server inside.

They share this machine's file system, as the nodes of a cluster share theirs; home, ``/tmp/ray`` and ``/dev/shm`` are
private. Needs root, Debian's iproute2, openssh-server and rsync.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

NETWORK = "198.18.77"  # of the range that RFC 2544 sets aside for tests
BRIDGE = "hardtune0"
HOME = Path("/mnt")
"""Where every host has its own home; the folder that this hides is needed by nothing."""

INSIDE = """
set -e
mount --make-rprivate /
mount --bind {folder}/home /mnt
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/hosts /etc/hosts
mkdir -p /tmp/ray /run/sshd
mount --bind {folder}/ray /tmp/ray
mount -t tmpfs -o size=8g tmpfs /dev/shm
hostname {name}
exec /usr/sbin/sshd -D -e -f {folder}/sshd_config
"""


def missing() -> str:
    """What this machine lacks to make hosts, or nothing."""
    if os.geteuid() != 0:
        return "not root"
    for program in ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "unshare", "curl"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            return f"no {program} (Debian: iproute2 openssh-server openssh-client rsync util-linux curl)"
    name = f"hardtune-probe-{os.getpid()}"  # others may be probing, too
    probe = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if probe.returncode:
        return f"no network namespaces: {probe.stderr.strip()}"
    _run("ip", "netns", "del", name)
    return ""


@dataclass
class Host:
    """One running host."""

    name: str
    ip: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def kill(self) -> None:
        """Kill every process of the host at once, as a preempted machine goes down, and take its cable away."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(60)
        _remove_network(self.name)


class Hosts:
    """A network of hosts, and the key that opens them; a context manager that leaves nothing behind."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder = folder
        self.key = folder / "key"
        self._names = names
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Hosts:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts.values():
            host.kill()
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        subprocess.run(["ip", "link", "del", BRIDGE], capture_output=True, check=False)
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")
        known = "127.0.0.1 localhost\n" + "".join(f"{NETWORK}.{10 + n} {name}\n" for n, name in enumerate(self._names))
        for n, name in enumerate(self._names):
            self.hosts[name] = self._start_host(name, f"{NETWORK}.{10 + n}", known)
        for host in self.hosts.values():
            _wait_for_ssh(host.ip)

    def _start_host(self, name: str, ip: str, known: str) -> Host:
        folder = self.folder / name
        for part in ("home/.ssh", "ray"):
            (folder / part).mkdir(parents=True)
        passwd = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith("root:")]
        (folder / "passwd").write_text("\n".join([f"root:x:0:0:root:{HOME}:/bin/bash", *passwd]) + "\n")
        (folder / "hosts").write_text(known)
        # Workers are reached from the head with the same key.
        shutil.copy(f"{self.key}.pub", folder / "authorized_keys")
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
        (folder / "sshd_config").write_text(
            f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\nMaxStartups 100\n"
            "MaxSessions 100\n"
        )
        outside, inside = _cable(name)
        _remove_network(name)  # of a run that was killed
        _run("ip", "netns", "add", name)
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _run("ip", "link", "set", outside, "master", BRIDGE, "up")
        within = ("ip", "-n", name)
        _run(*within, "link", "set", "lo", "up")
        _run(*within, "addr", "add", f"{ip}/24", "dev", inside)
        _run(*within, "link", "set", inside, "up")
        _run(*within, "route", "add", "default", "via", f"{NETWORK}.1")
        with (folder / "sshd.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", name),
                    *("unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"),
                    *("bash", "-c", INSIDE.format(folder=folder, name=name)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Host(name, ip, folder, process)


def _cable(name: str) -> tuple[str, str]:
    return f"{name[-8:]}-o", f"{name[-8:]}-i"


def _remove_network(name: str) -> None:
    for command in (["ip", "link", "del", _cable(name)[0]], ["ip", "netns", "del", name]):
        subprocess.run(command, capture_output=True, check=False)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _wait_for_ssh(ip: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection((ip, 22), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"no ssh server answers at {ip}"
            time.sleep(0.1)
        else:
            return


def install(host: Host, requirements: Path) -> None:
    """Give the host what ``cluster.yaml`` would install: ``~/venv`` with ``~/hardtune`` in it, and the stamp.

    The packages are the running interpreter's; hardtune itself is what the launcher copies to the host.
    """
    venv = host.home / "venv"
    packages = sysconfig.get_path("purelib")
    _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    site = next(venv.glob("lib/python*/site-packages"))
    (site / "hardtune.pth").write_text(f"{HOME}/hardtune\n{packages}\n")
    for program in ("ray", "mlflow"):
        script = Path(sys.executable).with_name(program).read_text().splitlines()
        target = venv / "bin" / program
        target.write_text("\n".join([f"#!{HOME}/venv/bin/python", *script[1:]]) + "\n")
        target.chmod(0o755)
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    (host.home / ".installed").write_text(f"{digest}  requirements.txt\n")
