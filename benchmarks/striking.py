"""Faults drawn from a seed: what is killed, when, and how it comes back."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from surroundings import Surroundings, descendants, kill

WEIGHTS = {"worker": 8, "node": 4, "driver": 4, "server": 2, "head": 0}
"""Relative frequencies of the targets. A worker trains a network or runs a task; the driver is the sweep's own process;
the head, struck only on request, takes the whole cluster with it."""
AWAY = {"node": 5.0, "driver": 3.0, "server": 8.0}
"""Maximum seconds until each begins to come back."""
PATIENCE = 240.0
"""Seconds without a fault and without a result after which a sweep counts as stuck."""
MENDABLE = ("there is no sweep named", "no MLflow server answers", "no Ray cluster answers")
"""Messages with which a sweep may end because of what was killed; it is restarted once that is back."""


@dataclass
class Round:
    """One sweep and the faults it suffered."""

    storage: Path
    flags: Sequence[str]
    faults: list[str] = field(default_factory=list)
    struck: set[int] = field(default_factory=set)
    """Killed processes that could have been training; each may have interrupted one network."""
    turned_away: int = 0
    """How often the sweep refused to start, and said why."""


class Striker:
    """Draws kinds, victims and moments from a seed, and restarts what it killed."""

    def __init__(self, place: Surroundings, seed: int, every: float) -> None:
        """``every``: mean seconds between faults."""
        self._place, self._draw, self._every = place, random.Random(seed), every
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._draw_next()

    def strike(self, now: Round) -> bool:
        """Kill the victim that is due, once there is one; returns whether it did."""
        if time.monotonic() < self._due:
            return False
        fault = getattr(self, f"_{self._kind}")(now)
        if fault:
            now.faults.append(fault)
            self._draw_next()
        return bool(fault)

    def mend(self, *, all_of_it: bool = False) -> None:
        """Restart what is due to come back."""
        for due, start in list(self._later):
            if all_of_it or time.monotonic() >= due:
                self._later.remove((due, start))
                start()
        self._place.replace_failed()

    def _worker(self, now: Round) -> str:
        workers = self._place.busy_workers()
        if not workers:
            return ""
        victim = self._draw.choice(workers)
        with contextlib.suppress(psutil.NoSuchProcess):
            what = victim.cmdline()[0].removeprefix("ray::")
            victim.kill()
            now.struck.add(victim.pid)
            return f"worker {what}"
        return ""

    def _node(self, now: Round) -> str:
        if not self._place.nodes:
            return ""
        node = self._place.nodes.pop(self._draw.randrange(len(self._place.nodes)))
        now.struck |= {process.pid for process in descendants(node.pid)}
        kill(node)
        self.come_back_soon("node", self._place.add_node)
        return "node"

    def _driver(self, now: Round) -> str:
        if self._place.driver is None:
            return ""
        now.struck |= {worker.pid for worker in self._place.busy_workers()}  # Ray ends a dead driver's workers
        kill(self._place.driver)
        self._place.driver = None
        self.come_back_soon("driver", lambda: start(self._place, now))
        return "driver"

    def _server(self, now: Round) -> str:
        if self._place.server is None:
            return ""
        kill(self._place.server)
        self._place.server = None
        self.come_back_soon("server", self._place.start_server)
        return "server"

    def _head(self, now: Round) -> str:
        if self._place.head is None or self._place.driver is None:
            return ""
        now.struck |= {process.pid for node in self._place.nodes for process in descendants(node.pid)}
        self._later = [(due, how) for due, how in self._later if how != self._place.add_node]
        self._place.kill_cluster()  # the driver must notice by itself that the cluster is gone
        return "head"

    def come_back_soon(self, kind: str, how: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + self._draw.uniform(0, AWAY[kind]), how))

    def _draw_next(self) -> None:
        (self._kind,) = self._draw.choices(list(WEIGHTS), list(WEIGHTS.values()))
        self._due = time.monotonic() + self._draw.uniform(0, 2 * self._every)


def start(place: Surroundings, now: Round) -> None:
    """Start the sweep, or go on with it."""
    begun = any(now.storage.glob("sweeps/*/sweep.json"))
    place.start_driver(now.storage, *now.flags, *(["--resume"] if begun else []))


def run_to_its_end(place: Surroundings, striker: Striker, now: Round, most: int, say: Callable[[str], None]) -> None:
    """Run one sweep until it is done, with at most ``most`` faults on the way.

    Raises:
        AssertionError: it ended by itself where it should have gone on, or got stuck.
    """
    start(place, now)
    results, moved = 0, time.monotonic()
    while True:
        striker.mend()
        if place.driver is not None and (code := place.driver.poll()) is not None:
            place.driver = None
            if place.head is None and code != 0:
                place.start_cluster()
                striker.come_back_soon("driver", lambda: start(place, now))
                continue
            if code == 0:
                striker.mend(all_of_it=True)
                return
            last = place.said().rstrip().rpartition("\n")[2]
            mendable = code == 2 and any(known in last for known in MENDABLE)
            assert mendable, f"the sweep ended by itself, with {code}\n{place.said()[-5000:]}"
            now.turned_away += 1
            striker.come_back_soon("driver", lambda: start(place, now))
        if len(now.faults) < most and striker.strike(now):
            say(f"{now.faults[-1]}, after {results} results")
            moved = time.monotonic()
        before, results = results, sum(1 for _ in now.storage.rglob("*.safetensors"))
        if results != before:
            moved = time.monotonic()
        assert time.monotonic() - moved < PATIENCE, f"the sweep is stuck\n{place.described()}"
        time.sleep(0.05)
