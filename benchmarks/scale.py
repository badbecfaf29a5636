"""What a sweep costs besides training: 1,000 trials replayed through the real driver, search, tracking and records.

    python benchmarks/scale.py                                       64 simulated nodes of 8 GPUs, 16 trials at once
    python benchmarks/scale.py --nodes 4 --trials 200 --concurrent 8    a quicker look
    python benchmarks/scale.py --tracking-uri http://127.0.0.1:5000 --study-storage postgresql+psycopg://…

Trials replay a real one's reports and train nothing, so all time is overhead. Nodes are raylets on this machine with
simulated GPUs, 130 MB each; a running trial is a real process, another 120 MB. If memory runs out, the output says what
fitted. What grows with a cluster is the rate of trials, which is pushed to its limit here: a driver that can end R
trials per second keeps R x D trials' worth of GPUs busy if a trial takes D seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import resource
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simulated
from interleaved import describe_machine
from rich.console import Console

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

MEMBERS = 5


def a_record() -> Any:
    """The record of a real trial on digits."""
    from hardtune import Recipe, Treatment, load, run
    from hardtune.sweep.trainable import record_of

    recipe = Recipe(model="small_cnn", epochs=1, members=MEMBERS, scoring_members=1, validation=0.3, encoder="pixels")
    digits = load("digits")
    result = run(Treatment(entropy_weight=0.1), digits, recipe)
    return record_of(0, result, digits.hold_out(recipe.validation, recipe.seed), bounds={})


def replay(
    config: dict[str, Any], record: Any, folder: Path, keys: dict[str, str], objectives: Sequence[str], seconds: float
) -> None:
    """A trial as the driver sees it: a report per member, a record, a last report.

    Its imports avoid torch, which would make its process five times as large.
    """
    from ray import tune

    from hardtune.report import records
    from hardtune.sweep.space import numbered

    number, treatment = numbered(config)
    noise = np.random.default_rng(number).normal(0, 0.01, len(record.metrics))
    metrics = {name: value + n for (name, value), n in zip(record.metrics.items(), noise, strict=True)}
    held_out = {f"members/{name[6:]}": value for name, value in metrics.items() if name.startswith("final/")}
    for member in range(MEMBERS):
        time.sleep(seconds / MEMBERS)
        tune.report({keys["finished"]: False, "members": member + 1, "trained": True, **held_out})
    records.write(folder, dataclasses.replace(record, number=number, treatment=treatment, metrics=metrics))
    tune.report({keys["finished"]: True, keys["shortfall"]: 0.0, **{name: metrics[name] for name in objectives}})


class Meter(threading.Thread):
    """Samples what cannot be measured afterwards, and stops the sweep, as Ctrl-C would, before memory runs out."""

    def __init__(self, tracker: Any) -> None:
        super().__init__(daemon=True)
        self.tracker, self.behind, self.stop = tracker, [0], threading.Event()
        self.memory = 0.0
        """Peak memory of the cluster's processes, in GB."""
        self.processes = 0
        self._short = 0

    def run(self) -> None:
        while not self.stop.wait(2):
            self.behind.append(self.tracker._queue.qsize())
            processes, memory = simulated.taken_gb()
            self.processes, self.memory = max(self.processes, processes), max(self.memory, memory)
            self._short = self._short + 1 if simulated.free_gb() < simulated.FREE_GB else 0
            if self._short == 5:  # not just a moment's use by other programs
                print(f"stopped: less than {simulated.FREE_GB:g} GB of memory are left", flush=True)
                signal.raise_signal(signal.SIGINT)


def sweep(options: argparse.Namespace, folder: Path) -> None:
    """The whole sweep: Tune schedules, Optuna proposes, MLflow records."""
    import ray
    from ray import tune

    from hardtune.report.records import CONTROL
    from hardtune.report.standing import Standing
    from hardtune.sweep.cluster import Share
    from hardtune.sweep.databases import study_database
    from hardtune.sweep.definition import THREE_OBJECTIVES
    from hardtune.sweep.live import View
    from hardtune.sweep.recorder import Recorder
    from hardtune.sweep.search import FINISHED, SHORTFALL, StudySearch
    from hardtune.sweep.tracking import Tracker
    from hardtune.sweep.tracking_uri import default_uri
    from hardtune.sweep.trials import schedule

    space = {
        "estimator": tune.choice(["aum", "el2n", "forgetting", "rmd"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.uniform(0.0, 2.0),
        "entropy_weight": tune.uniform(0.0, 0.4),
    }
    record = a_record()
    most = 0

    class Running(View):
        def trials(self, running: int, *others: object) -> None:
            nonlocal most
            most = max(most, running)

    with simulated.cluster(options.nodes, options.gpus) as address:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        gpus = ray.cluster_resources()["GPU"]
        storage = study_database(options.study_storage or f"sqlite:///{folder}/study.db", folder.name)
        search = StudySearch(space, THREE_OBJECTIVES, study_name=folder.name, storage=storage, seed=0)
        tracker = Tracker(options.tracking_uri or default_uri(folder), "scale", folder.name, folder / "artifacts")
        tracker.start({}, {})
        meter = Meter(tracker)
        meter.start()
        view = Running("scale", THREE_OBJECTIVES, Console(file=io.StringIO()))
        standing = Standing([dataclasses.replace(record, number=CONTROL)], THREE_OBJECTIVES, MEMBERS)
        recorder = Recorder(folder / "trials", tracker, view, standing, already=0, waits_again=search.waits_again)
        keys = {"finished": FINISHED, "shortfall": SHORTFALL}
        given = {"record": record, "folder": folder / "trials", "keys": keys, "objectives": list(THREE_OBJECTIVES)}
        run = tune.with_parameters(replay, **given, seconds=options.seconds)
        wall, cpu = time.perf_counter(), time.process_time()
        share = Share(1, 1)
        schedule(run, search, folder, share, trials=options.trials, slots=options.concurrent, recorder=recorder)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        meter.stop.set()
        left, flushing = tracker._queue.qsize(), time.perf_counter()
        if not tracker.close(patience=1800):
            sys.exit("MLflow did not take every record")
        flushing = time.perf_counter() - flushing
        done = search.count_done()
        alive = sum(node["Alive"] for node in ray.nodes()) - 1
    print(
        f"at once: at most {most} trials on {alive} nodes with {gpus:.0f} GPUs, {meter.processes} processes of "
        f"{meter.memory:.1f} GB in all"
    )
    if done < options.trials:
        print(f"only {done} of {options.trials} trials ended")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    batches = done * (MEMBERS + 3)  # its parameters, its end, and how the sweep stands then
    print(
        f"sweep: {done} trials in {wall:.0f} s: {wall / done:.2f} s a trial, {done / wall:.1f} trials/s; the driver "
        f"computes {cpu / done:.2f} CPU-s a trial and needs {peak:.1f} GB at most"
    )
    print(
        f"MLflow: {batches} batches, at most {max(meter.behind)} behind, the last {left} sent in {flushing:.0f} s "
        f"afterwards: {batches / (wall + flushing):.0f} batches/s sustained"
    )
    rate = done / (wall + flushing)
    print(f"all recorded: {rate:.1f} trials/s, so that GPUs with one trial each are kept busy up to")
    for minutes in (1, 10, 60):
        print(f"  {int(rate * 60 * minutes):>6,} of them if trials take {minutes} minutes")


def search_alone(options: argparse.Namespace, folder: Path) -> None:
    """Measure Optuna's part alone, since it grows with the number of trials."""
    from ray import tune

    from hardtune.sweep.databases import study_database
    from hardtune.sweep.definition import THREE_OBJECTIVES
    from hardtune.sweep.search import FINISHED, StudySearch

    space = {
        "alpha": tune.uniform(0.0, 2.0),
        "entropy_weight": tune.uniform(0, 1),
        "oversample": tune.choice(["a", "b"]),
    }
    storage = study_database(options.study_storage or f"sqlite:///{folder}/alone.db", f"{folder.name}-alone")
    search = StudySearch(space, THREE_OBJECTIVES, study_name=f"{folder.name}-alone", storage=storage, seed=0)
    rng = np.random.default_rng(0)
    seconds: list[float] = []
    for number in range(options.trials):
        started = time.perf_counter()
        search.suggest(str(number))
        search.on_trial_complete(str(number), {FINISHED: True, **{name: rng.random() for name in THREE_OBJECTIVES}})
        seconds.append(time.perf_counter() - started)
        if number + 1 in (100, 300, 1000, 3000):
            recent = statistics.median(seconds[-50:])
            print(f"search: {recent * 1000:.0f} ms to propose and tell one trial after {number + 1}", flush=True)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=1000)
    flags.add_argument("--nodes", type=int, default=64, help="raylets to simulate (default: %(default)s)")
    flags.add_argument("--gpus", type=int, default=8, help="made-up GPUs of each (default: %(default)s)")
    flags.add_argument("--concurrent", type=int, default=16, help="trials at once (default: %(default)s)")
    flags.add_argument(
        "--seconds", type=float, default=0, help="a trial waits, as if it trained (default: %(default)s)"
    )
    flags.add_argument("--tracking-uri", help="default: sqlite in a temporary folder")
    flags.add_argument("--study-storage", help="default: sqlite in a temporary folder")
    options = flags.parse_args()
    describe_machine()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        search_alone(options, Path(folder))
        sweep(options, Path(folder))


if __name__ == "__main__":
    main()
