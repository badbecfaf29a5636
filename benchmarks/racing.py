"""How many networks racing saves, and what it costs the front: recorded sweeps replayed through the rule itself.

    python benchmarks/racing.py                                    the sweeps in benchmarks/recorded
    python benchmarks/racing.py --records hardtune-results/sweeps/NAME    one of your own, run without racing
    python benchmarks/racing.py --records FOLDER --keep NAME.csv   and keep its figures for later

Trials come in the order in which they were proposed, --concurrent at a time, each member taking equally long; after a
member the rule sees what had been trained by then. What a replay cannot show is what the search would have proposed
instead, had it known of a stopped trial only that it was stopped. Equal treatments are one trial.

The recorded sweeps. Treatments of the first two differ by hardly more than chance, so that there is little to be sure
of; those of the third by many standard errors, but the search soon proposes little that is not near the front:

    python sweeps/digits.py --trials 200
    python sweeps/fashion_mnist.py --trials 200 --recipe validation=0.5 epochs=3 batch_size=64 --data-dir FOLDER
        where FOLDER has idx files of the first 6,000 training and 2,000 test images
    python benchmarks/papers_ranges.py

saved       networks not trained, of all that the trials have without racing
volume      hypervolume of the front that is left, of that of the whole front; reference: twice the control's costs
nadir       the same with the worst of each objective among all trials as the reference, which is stricter
front lost  trials stopped that would have been on the front in the end, of all that are on it
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import moocore
import numpy as np
from interleaved import describe_machine
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from hardtune.evaluation.racing import dominating_rival, learn_noise
from hardtune.report import records
from hardtune.report.hypervolume import hypervolume
from hardtune.report.pareto import pareto_mask
from hardtune.report.records import CONTROL, Record
from hardtune.treatment import Treatment

RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True)
class Recorded:
    """A sweep in which every trial was trained whole: ``figures`` (T, M, O) by trial, member, objective.

    The control is the first of the T; equal treatments are one.
    """

    name: str
    objectives: dict[str, str]
    figures: NDArray[np.float64]

    @property
    def costs(self) -> NDArray[np.float64]:
        """The figures, lower = better."""
        return self.figures * np.where(np.array(list(self.objectives.values())) == "min", 1.0, -1.0)


def read_records(folder: Path) -> Recorded:
    """The finished trials of a sweep's folder."""
    objectives = json.loads((folder / "sweep.json").read_text())["objectives"]
    finished = [record for record in records.read_all(folder / "trials") if record.state == "finished"]
    figures = np.array([[record.members[name] for name in objectives] for record in finished]).mT
    _, first = np.unique(figures.reshape(len(figures), -1), axis=0, return_index=True)
    return Recorded(folder.name, objectives, figures[np.sort(first)])


def read_csv(path: Path) -> Recorded:
    """A row a member: trial, then the objectives; the members of a trial one after another, the control's first."""
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


def replay(costs: NDArray[np.float64], confidence: float, concurrent: int) -> tuple[NDArray[np.int64], list[int]]:
    """How many members of each trial (T,) are trained, and which trials finish; trial 0 is the control."""
    total, m, _ = costs.shape
    known = np.full_like(costs, np.nan)
    known[0] = costs[0]
    trained, finished = np.zeros(total, np.int64), [0]
    trained[0] = m
    waiting, running = list(range(1, total)), []
    while waiting or running:
        while waiting and len(running) < concurrent:
            running.append(waiting.pop(0))
        for trial in list(running):
            k = trained[trial]
            known[trial, k] = costs[trial, k]
            trained[trial] = k = k + 1
            others = np.delete(known, trial, axis=0)
            noise = learn_noise(others[np.isfinite(others[:, 0, 0])])
            rivals = costs[finished].mean(axis=1)
            stops = noise is not None and dominating_rival(costs[trial, :k], noise, rivals, confidence) is not None
            if stops or k == m:
                running.remove(trial)
                if k == m:
                    finished.append(trial)
    return trained, finished


def volumes(sweep: Recorded, kept: Sequence[int]) -> tuple[float, float]:
    """Hypervolume of the trials kept, against twice the control's costs and against the nadir of all trials."""
    means, costs = sweep.figures.mean(axis=1), sweep.costs.mean(axis=1)
    made = [Record(t - 1, Treatment(), "finished", dict(zip(sweep.objectives, means[t], strict=True))) for t in kept]
    nadir = moocore.hypervolume(costs[list(kept)], ref=costs.max(axis=0))
    return hypervolume(made, made[0], sweep.objectives), float(nadir)


def outcomes(sweep: Recorded, confidences: Sequence[float], concurrent: int) -> Table:
    """A row a confidence."""
    costs, everything = sweep.costs, range(len(sweep.costs))
    on_front = set(np.flatnonzero(pareto_mask(costs.mean(axis=1), ["min"] * len(sweep.objectives))))
    scatter = costs.std(axis=1, ddof=1).mean(axis=0) / np.sqrt(costs.shape[1])
    spread = np.sqrt(np.maximum(costs.mean(axis=1).var(axis=0, ddof=1) - scatter**2, 0)) / scatter
    title = (
        f"{sweep.name}: {len(costs) - 1} treatments of {costs.shape[1]} members, {len(on_front)} on the front; "
        f"treatments differ by {', '.join(f'{s:.1f}' for s in spread)} standard errors in {', '.join(sweep.objectives)}"
    )
    table = Table(title=title, title_justify="left")
    for column in ("confidence", "saved", "volume", "nadir", "front lost", "stopped after 1, 2, … members"):
        table.add_column(column, justify="right")
    for confidence in confidences:
        trained, finished = replay(costs, confidence, concurrent)
        kept = [now / full for now, full in zip(volumes(sweep, finished), volumes(sweep, everything), strict=True)]
        stopped = np.bincount(trained, minlength=costs.shape[1])[1:-1]
        table.add_row(
            f"{confidence:g}",
            f"{1 - trained[1:].mean() / costs.shape[1]:.1%}",
            *(f"{share:.2%}" for share in kept),
            f"{len(on_front - set(finished))} of {len(on_front)}",
            " ".join(map(str, stopped)),
        )
    return table


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--records", type=Path, metavar="FOLDER", help="a sweep's folder, the one with trials/ in it")
    flags.add_argument("--keep", type=Path, metavar="FILE", help="write the figures of --records there")
    flags.add_argument("--concurrent", type=int, default=8, help="trials at once (default: %(default)s)")
    flags.add_argument("--confidences", type=float, nargs="+", default=[0.6, 0.75, 0.8, 0.9, 0.95, 0.99], metavar="X")
    options = flags.parse_args()
    sweeps = (
        [read_records(options.records)] if options.records else [read_csv(p) for p in sorted(RECORDED.glob("*.csv"))]
    )
    if options.keep:
        write_csv(options.keep, sweeps[0])
    describe_machine()
    for sweep in sweeps:
        Console().print(outcomes(sweep, options.confidences, options.concurrent))


if __name__ == "__main__":
    main()
