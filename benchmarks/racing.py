"""How many networks racing saves, and what it costs the front: recorded sweeps replayed through the rule itself.

    python benchmarks/racing.py                      the sweeps in benchmarks/recorded; 3 minutes on 2 cores
    python benchmarks/racing.py --records hardtune-results/sweeps/NAME    one of your own, run without racing
    python benchmarks/racing.py --records FOLDER --keep NAME.csv      and keep its figures for later

Trials run in the order in which they were proposed, --concurrent at a time, and all members take equally long; after
each member the rule sees what has been trained by then. The order of the seeds is arbitrary, so each sweep is replayed
with its seeds in several orders, the recorded one first. A replay cannot show what the search would have proposed, had
it known of a stopped trial only that it was stopped. Equal treatments count as one trial.

The recorded sweeps. Treatments of the first two differ by hardly more than chance, so little is certain;
those of the third differ by many standard errors, but the search soon proposes little that is not near the front:

    python sweeps/digits.py --trials 200
    python sweeps/fashion_mnist.py --trials 200 --recipe validation=0.5 epochs=3 batch_size=64 --data-dir FOLDER
        where FOLDER has idx files of the first 6,000 training and 2,000 test images
    python benchmarks/papers_ranges.py

saved       networks not trained, as a share of those without racing: mean over the orders
volume      hypervolume of the remaining front, as a share of the whole front's, against twice the control's costs:
            mean and minimum over the orders
nadir       the mean with the worst of each objective among all trials as the reference, which is stricter
front lost  stopped trials that would have been on the final front, as a share of it: mean
"""

from __future__ import annotations

import argparse
import csv
import itertools
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import moocore
import numpy as np
from interleaved import describe_machine
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hardtune.evaluation.racing import judge, learn_noise
from hardtune.report import records
from hardtune.report.hypervolume import REFERENCE, relative_costs
from hardtune.report.pareto import pareto_mask
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import Kept
from hardtune.treatment import Treatment

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recorded:
    """A sweep in which every trial was trained whole: ``figures`` (T, M, O) by trial, member, objective.

    The control is the first of the T; equal treatments are merged.
    """

    name: str
    objectives: dict[str, str]
    figures: NDArray[np.float64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """The figures as costs in units of the control's, lower = better."""
        means = dict(zip(self.objectives, self.figures[0].mean(axis=0), strict=True))
        return relative_costs(self.figures, Record(CONTROL, Treatment(), "finished", means), self.objectives)


def read_records(folder: Path) -> Recorded:
    """The finished trials of a sweep's folder."""
    objectives = Kept(folder).objectives
    if not all(name.startswith("final/") for name in objectives):
        sys.exit(f"error: only means over members (final/…) can be replayed, and {folder} has {', '.join(objectives)}")
    finished = [record for record in records.read_all(folder / "trials") if record.state == "finished"]
    figures = np.array([[record.members[name] for name in objectives] for record in finished]).mT
    _, first = np.unique(figures.reshape(len(figures), -1), axis=0, return_index=True)
    return Recorded(folder.name, objectives, figures[np.sort(first)])


def read_csv(path: Path) -> Recorded:
    """Read a row per member: trial, then the objectives; a trial's members are adjacent, the control's first."""
    header, *rows = csv.reader(path.read_text().splitlines())
    objectives = {name: direction for direction, name in (column.split() for column in header[1:])}
    table = np.array(rows, np.float64)
    return Recorded(path.stem, objectives, table[:, 1:].reshape(len(set(table[:, 0])), -1, len(objectives)))


def write_csv(path: Path, sweep: Recorded) -> None:
    """The figures as ``read_csv`` reads them."""
    lines = [",".join(["trial", *(f"{direction} {name}" for name, direction in sweep.objectives.items())])]
    lines += [
        ",".join([str(trial + CONTROL), *(repr(float(value)) for value in member)])
        for trial, members in enumerate(sweep.figures)
        for member in members
    ]
    path.write_text("\n".join(lines) + "\n")


def replay(costs: NDArray[np.float64], price: float, concurrent: int) -> tuple[NDArray[np.int64], list[int]]:
    """How many members of each trial (T,) are trained, and which trials finish; trial 0 is the control."""
    total, m, objectives = costs.shape
    reference = np.full(objectives, REFERENCE)
    known = np.full_like(costs, np.nan)
    known[0] = costs[0]
    trained, finished = np.zeros(total, np.int64), [0]
    trained[0] = m
    waiting = list(range(1, total))
    running: list[int] = []
    while waiting or running:
        while waiting and len(running) < concurrent:
            running.append(waiting.pop(0))
        for trial in list(running):
            k = trained[trial]
            known[trial, k] = costs[trial, k]
            trained[trial] = k = k + 1
            if k == m:
                running.remove(trial)
                finished.append(trial)
                continue
            others = np.delete(known, trial, axis=0)
            noise = learn_noise(others[np.isfinite(others[:, 0, 0])])
            front = costs[finished].mean(axis=1)
            if noise is not None and judge(costs[trial, :k], noise, front, reference, price).stops:
                running.remove(trial)
    return trained, finished


@dataclass(frozen=True)
class Outcome:
    """One replay's shares, and how many trials of the front were lost."""

    saved: float
    volume: float
    nadir: float
    lost: int


def outcome(costs: NDArray[np.float64], price: float, concurrent: int) -> Outcome:
    trained, finished = replay(costs, price, concurrent)
    means = costs.mean(axis=1)
    volume, nadir = (
        moocore.hypervolume(means[finished], ref=worst) / moocore.hypervolume(means, ref=worst)
        for worst in (np.full(means.shape[1], REFERENCE), means.max(axis=0))
    )
    lost = set(front_of(means)) - set(finished)
    return Outcome(1 - float(trained[1:].mean()) / costs.shape[1], volume, nadir, len(lost))


def front_of(means: NDArray[np.float64]) -> list[int]:
    return np.flatnonzero(pareto_mask(means, ["min"] * means.shape[1])).tolist()


def table_of(
    sweep: Recorded, prices: Sequence[float], concurrent: int, orders: int, pool: ProcessPoolExecutor
) -> Table:
    """A row per price."""
    costs = sweep.costs
    front = len(front_of(costs.mean(axis=1)))
    scatter = costs.std(axis=1, ddof=1).mean(axis=0) / np.sqrt(costs.shape[1])
    spread = np.sqrt(np.maximum(costs.mean(axis=1).var(axis=0, ddof=1) - scatter**2, 0)) / scatter
    every = list(itertools.permutations(range(costs.shape[1])))
    others = np.random.default_rng(0).choice(len(every) - 1, min(orders, len(every)) - 1, replace=False) + 1
    seeds = [every[0], *(every[row] for row in others)]
    title = (
        f"{sweep.name}: {len(costs) - 1} treatments of {costs.shape[1]} members, {front} on the front; treatments "
        f"differ by {', '.join(f'{s:.1f}' for s in spread)} standard errors in {', '.join(sweep.objectives)}; "
        f"{len(seeds)} orders of seeds"
    )
    table = Table(title=title, title_justify="left")
    for column in ("price", "saved", "volume", "least", "nadir", "front lost", "as recorded: saved, volume"):
        table.add_column(column, justify="right")
    ways = list(itertools.product(prices, seeds))
    found = list(
        pool.map(outcome, (costs[:, order] for _, order in ways), (p for p, _ in ways), [concurrent] * len(ways))
    )
    for row, price in enumerate(prices):
        part = found[row * len(seeds) : (row + 1) * len(seeds)]
        saved, volume, nadir, lost = np.mean([(o.saved, o.volume, o.nadir, o.lost) for o in part], axis=0)
        table.add_row(
            f"{price:g}",
            f"{saved:.1%}",
            f"{volume:.2%}",
            f"{min(o.volume for o in part):.2%}",
            f"{nadir:.2%}",
            f"{lost:.1f} of {front}",
            f"{part[0].saved:.1%}, {part[0].volume:.2%}",
        )
    return table


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--records", type=Path, metavar="FOLDER", help="a sweep's folder, the one with trials/ in it")
    flags.add_argument("--keep", type=Path, metavar="FILE", help="write the figures of --records there")
    flags.add_argument("--concurrent", type=int, default=8, help="trials at once (default: %(default)s)")
    flags.add_argument("--prices", type=float, nargs="+", default=[0.001, 0.003, 0.01, 0.0125, 0.015], metavar="X")
    flags.add_argument("--orders", type=int, default=8, help="orders of seeds (default: %(default)s)")
    options = flags.parse_args()
    sweeps = (
        [read_records(options.records)] if options.records else [read_csv(p) for p in sorted(RECORDED.glob("*.csv"))]
    )
    if options.keep:
        write_csv(options.keep, sweeps[0])
    describe_machine()
    with ProcessPoolExecutor() as pool:
        for sweep in sweeps:
            Console().print(table_of(sweep, options.prices, options.concurrent, options.orders, pool))


if __name__ == "__main__":
    main()
