"""What a sweep's folder keeps of each of its starts, for a paper's appendix: command, machines, code, versions, hours.

``starts.json`` is a list with an entry for each start. Nothing of it decides a figure, and nothing reads it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hardtune
from hardtune import durable
from hardtune.code import is_installed
from hardtune.sweep.passwords import hidden
from hardtune.sweep.versions import ALL, versions

FILE = "starts.json"
_PATIENCE = 5.0
"""Seconds that git may take for one answer."""


@contextlib.contextmanager
def kept_start(folder: Path, nodes: Sequence[Mapping[str, float]], began: float) -> Iterator[None]:
    """Add this start to the sweep's folder, and on exit how long it took; a killed one stays without ``seconds``.

    Args:
        folder: the sweep's, which this process holds.
        nodes: the resources of the cluster's nodes, by Ray's names.
        began: when, by ``time.time()``.
    """
    path = folder / FILE
    former = json.loads(path.read_text()) if path.exists() else []
    start = _described(nodes, began)
    durable.write(path, json.dumps([*former, start], indent=1))
    try:
        yield
    finally:
        start["seconds"] = round(time.time() - began, 1)
        with contextlib.suppress(OSError):  # a full disk does not withhold the results
            durable.write(path, json.dumps([*former, start], indent=1))


def state_of(path: Path) -> dict[str, Any]:
    """Which code a script, or a package's folder, is, as plain JSON.

    ``commit``: its git checkout's; None if git does not track it or does not answer. ``changed``: whether its sources
    differ from that commit's. ``sources``: half of their SHA-256, by which a copy without a checkout is known.
    """
    folder = path if path.is_dir() else path.parent
    tracked = "__init__.py" if path.is_dir() else path.name
    commit = None
    # A package in an environment within somebody's checkout is not of its commit.
    if _git(folder, "ls-files", "--error-unmatch", "--", f":(literal){tracked}") is not None:
        commit = (_git(folder, "rev-parse", "--verify", "HEAD") or "").strip() or None
    differs = _git(folder, "status", "--porcelain", "--", "*.py" if path.is_dir() else f":(literal){path.name}")
    changed = None if commit is None or differs is None else bool(differs)
    return {"commit": commit, "changed": changed, "sources": _digest(path)}


def _described(nodes: Sequence[Mapping[str, float]], began: float) -> dict[str, Any]:
    """This start, without the passwords of URLs in its command."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    own = script is not None and Path(script).is_file() and not is_installed(script)  # not so in a notebook
    return {
        "command": shlex.join(hidden(sys.argv)),
        "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began)),
        "cpu": _cpu(),
        "nodes": _kinds(nodes),
        "code": {
            "hardtune": state_of(Path(hardtune.__file__).parent),
            "script": state_of(Path(script)) if own and script is not None else None,
        },
        "versions": versions(ALL),
    }


def _cpu() -> str:
    """The driver's; empty where the system does not say."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open(errors="replace") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _kinds(nodes: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """How many nodes of each kind the cluster had as the sweep began; an autoscaled one may have had more later."""
    prefix = "accelerator_type:"
    kinds = Counter(
        (
            node.get("CPU", 0.0),
            node.get("GPU", 0.0),
            " ".join(sorted(name.removeprefix(prefix) for name in node if name.startswith(prefix))),
        )
        for node in nodes
    )
    return [{"nodes": count, "cpus": cpus, "gpus": gpus, "gpu": gpu} for (cpus, gpus, gpu), count in kinds.items()]


def _git(folder: Path, *words: str) -> str | None:
    """What git says there; None if it is not installed, too slow, or refuses."""
    # Without the lock that would refresh its index: the checkout may be read-only, or somebody is at work there.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace")


def _digest(path: Path) -> str | None:
    """Of a file, or of a folder's Python files and their places in it; None if they cannot be read."""
    found = hashlib.sha256()
    try:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            content = file.read_bytes()
            place = file.relative_to(path).as_posix()
            found.update(f"{place}\n{len(content)}\n".encode(errors="surrogateescape") + content)
    except OSError:
        return None
    return found.hexdigest()[:32]
