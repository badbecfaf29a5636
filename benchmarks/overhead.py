"""What a sweep of short trials costs on top of the training that is in it.

    python benchmarks/overhead.py                   32 trials of 3 CPU-seconds
    python benchmarks/overhead.py --epochs 40       of 12

The sweep is a real one: digits, five networks per trial; Ray, Tune, Optuna, MLflow, records, figures. It is the worst
case, since a trial's overhead does not grow with its training. The fit loops are timed in the workers as they run;
everything else is overhead: loading torch, plans, predictions, evaluation, the store, the driver. Ray's start is shown
separately: that of the cluster, with the checks before it, in full; that of its workers, which load Ray and torch, as a
share. Every other sweep has half the trials, to separate the cost per trial from the fixed cost of a sweep.

By wall-clock time: slots x seconds of the sweep, over the seconds of training. By CPU time: that of all its processes,
over that of training; this shows neither waiting nor most of what other programs do.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import os
import statistics
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from interleaved import describe_machine
from rich.console import Console

from hardtune import Recipe, Treatment
from hardtune.sweep import Sweep
from hardtune.sweep.definition import THREE_OBJECTIVES, Place
from hardtune.sweep.live import View

RECIPE = Recipe(
    model="small_cnn",
    epochs=10,
    batch_size=64,
    schedule="linear",
    warmup=0.2,
    flip=False,
    crop_padding=1,
    members=5,
    scoring_members=5,
    encoder="pixels",
    validation=0.3,
)


def treatments(count: int) -> list[Treatment]:
    """Distinct treatments, so that each must be trained."""
    oversamplers = ("random", "hard", "smote")
    return [
        Treatment(alpha=0.1 + i / count, policy="shift", oversample=oversamplers[i % 3], entropy_weight=0.1)
        for i in range(count)
    ]


class CpuMeter(threading.Thread):
    """The CPU seconds of this process and all its descendants, including those that have ended."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._me = psutil.Process()
        self._spent: dict[tuple[int, float], float] = {}
        self._ended = threading.Event()
        self._before = self.seconds()

    def run(self) -> None:
        while not self._ended.wait(1.0):  # more often would make the meter itself a cost
            self.seconds()

    def seconds(self) -> float:
        """Those since its creation."""
        for process in (self._me, *self._me.children(recursive=True)):
            try:
                times = process.cpu_times()
                self._spent[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        return sum(self._spent.values()) - getattr(self, "_before", 0.0)

    def end(self) -> None:
        """Stop measuring."""
        self._ended.set()


class Stopwatch(View):
    """An invisible view that notes when each phase of the sweep began."""

    def __init__(self) -> None:
        super().__init__("overhead", THREE_OBJECTIVES, Console(file=io.StringIO()))
        self._meter = CpuMeter()
        self._meter.start()
        self._marks: list[tuple[str, np.ndarray]] = []
        self._mark("start")

    def say(self, text: str) -> None:
        """The first message says where results are, once Ray runs."""
        if text.startswith("results in"):
            self._mark("books")

    def phase(self, name: str, total: int, unit: str = "", already: int = 0) -> None:
        """Note that a phase begins."""
        super().phase(name, total, unit, already)
        self._mark(name)

    def spent(self) -> dict[str, np.ndarray]:
        """Wall and CPU seconds of each phase; the last ends now."""
        self._mark("end")
        self._meter.end()
        return {name: after - before for (name, before), (_, after) in itertools.pairwise(self._marks)}

    def _mark(self, name: str) -> None:
        self._marks.append((name, np.array([time.perf_counter(), self._meter.seconds()])))


@dataclass
class Cost:
    """That of one sweep, in (wall, CPU) seconds."""

    start: np.ndarray
    rest: np.ndarray
    training: np.ndarray
    workers: float
    """CPU seconds until its workers could train."""

    def on_top(self, slots: int) -> np.ndarray:
        """Seconds of slots, and of CPUs, not spent on training."""
        return self.rest * (slots, 1) - self.training


def one_sweep(trials: int, epochs: int, storage: Path) -> Cost:
    """Run it and read the clocks."""
    from hardtune.sweep.engine import run_sweep

    os.environ["TIME_TRAININGS"] = str(storage / "trainings")
    storage.mkdir()
    view = Stopwatch()
    recipe = dataclasses.replace(RECIPE, epochs=epochs)
    sweep = Sweep(name="overhead", data="digits", recipe=recipe, space=treatments(trials))
    outcome = run_sweep(sweep, Place(storage=storage), view)
    phases = view.spent()
    assert all(record.state == "finished" for record in outcome.records)
    trained = np.loadtxt(storage / "trainings")
    assert len(trained) == (trials + 1) * RECIPE.members, f"{len(trained)} networks were trained"
    print(
        f"{trials} trials: "
        + ", ".join(f"{name} {wall:.1f} s ({cpu:.1f} CPU-s)" for name, (wall, cpu) in phases.items())
        + ", of which training {:.1f} s ({:.1f} CPU-s), the start of {} workers {:.1f} CPU-s".format(
            *trained[:, :2].sum(axis=0), int(np.count_nonzero(trained[:, 2])), trained[:, 2].sum()
        ),
        flush=True,
    )
    return Cost(phases.pop("start"), sum(phases.values(), np.zeros(2)), trained[:, :2].sum(axis=0), trained[:, 2].sum())


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--trials", type=int, default=32)
    flags.add_argument("--epochs", type=int, default=RECIPE.epochs, help="of each network (default: %(default)s)")
    flags.add_argument("--rounds", type=int, default=3)
    options = flags.parse_args()
    describe_machine()
    os.environ["PYTHONPATH"] = str(Path(__file__).parent / "timing")  # for the workers
    slots = len(os.sched_getaffinity(0))
    whole, half = [], []
    with tempfile.TemporaryDirectory(prefix="overhead-") as scratch:
        for turn in range(options.rounds):
            whole.append(one_sweep(options.trials, options.epochs, Path(scratch, f"{turn}")))
            half.append(one_sweep(options.trials // 2, options.epochs, Path(scratch, f"{turn}-half")))
    for clock, name in enumerate(("the wall's clock", "CPU time")):
        shares = [cost.on_top(slots)[clock] / cost.training[clock] for cost in whole]
        besides = [(cost.on_top(slots)[clock] - cost.workers) / cost.training[clock] for cost in whole]
        more = options.trials - options.trials // 2
        each = [(a.on_top(slots)[clock] - b.on_top(slots)[clock]) / more for a, b in zip(whole, half, strict=True)]
        once = [a.on_top(slots)[clock] - options.trials * e for a, e in zip(whole, each, strict=True)]
        trial = statistics.median(cost.training[clock] for cost in whole) / (options.trials + 1)
        print(
            f"on top of the training by {name}: {min(shares):.1%}-{statistics.median(shares):.1%}-{max(shares):.1%}, "
            f"and {min(besides):.1%}-{statistics.median(besides):.1%}-{max(besides):.1%} without the start of workers "
            f"(wanted: at most 10%); {statistics.median(each):.2f} s a trial of {trial:.1f} s, and "
            f"{statistics.median(once):.1f} s once"
        )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
