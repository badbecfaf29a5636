"""Asking every node of the connected cluster the same question."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hardtune.errors import InputError


@dataclass(frozen=True)
class Answer:
    """One node's answer."""

    node: str
    """Its address."""
    value: Any
    """What the function returned there; None if it failed."""
    trouble: str = ""
    """Why it failed, in a line."""
    received: float = 0.0
    """When the answer arrived, in seconds since the epoch by this machine's clock."""


def ask_every_node(question: Callable[..., Any], *args: Any, patience: float = 120.0) -> list[Answer]:
    """Call ``question(*args)`` on every live node, alongside whatever runs there; the head comes first.

    A node that raises, or does not answer within ``patience`` seconds, gets an answer that says so; one that is lost
    meanwhile gets none. If the process that was asked is killed, another one is asked.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    alive.sort(key=lambda node: ("node:__internal_head__" not in node["Resources"], node["NodeManagerAddress"]))
    task = ray.remote(num_cpus=0, max_retries=3)(question)
    waiting = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(*args): node
        for node in alive
    }
    answers: dict[str, Answer] = {}
    deadline = time.monotonic() + patience
    while waiting and (left := deadline - time.monotonic()) > 0:
        for done in ray.wait(list(waiting), timeout=left)[0]:
            node, received = waiting.pop(done), time.time()
            try:
                value, trouble = ray.get(done), ""
            except Exception as error:  # from the question, or from the node
                cause = getattr(error, "cause", None) or error
                value, trouble = None, (str(cause).strip().splitlines() or [type(cause).__name__])[-1]
            answers[node["NodeID"]] = Answer(node["NodeManagerAddress"], value, trouble, received)
    for node in waiting.values():
        silence = f"no answer within {patience:.0f} s"
        answers[node["NodeID"]] = Answer(node["NodeManagerAddress"], None, silence, time.time())
    lost = {node["NodeID"] for node in ray.nodes() if not node["Alive"]}
    return [
        answers[node["NodeID"]] for node in alive if not (answers[node["NodeID"]].trouble and node["NodeID"] in lost)
    ]


def check_shared(folder: Path) -> None:
    """Raise ``InputError`` unless every node sees the files of ``folder`` and can add to them."""
    for answer in try_to_share(folder):
        if answer.trouble:
            raise InputError(
                f"node {answer.node} does not share {folder} ({answer.trouble}): "
                "give --storage a path on a file system that all nodes have mounted"
            )


def try_to_share(folder: Path) -> list[Answer]:
    """Write a file into ``folder`` and let every node look for it and add its own; return their answers."""
    probe = folder / f".probe-{uuid.uuid4().hex}"
    probe.write_text("from the driver")
    try:
        return ask_every_node(_share, str(probe))
    finally:
        for file in folder.glob(f"{probe.name}*"):
            file.unlink(missing_ok=True)


def _share(probe: str) -> None:
    if not Path(probe).exists():
        raise FileNotFoundError("it does not see what the head wrote there")
    Path(f"{probe}.{uuid.uuid4().hex}").write_text("from a node")
