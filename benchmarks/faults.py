"""A real sweep on a real cluster is struck at random moments, again and again, and must lose nothing.

    python benchmarks/faults.py --faults 100 --seed 0       about 25 minutes on 2 cores
    python benchmarks/faults.py --faults 4 --treatments 3   a look

The cluster is a Ray head and worker nodes as processes of this machine, MLflow a server with a database. Four kinds of
fault, all SIGKILL: a worker in which a network is trained or a task runs; a node, which another one replaces; the
MLflow server, which comes back at its address; the sweep's own process, which is started again with --resume. Kinds,
victims and moments are drawn from the seed. Sweeps follow each other until all faults have struck, and at the end of
each it must hold that

- its records are, to the bit, what a plain loop without any cluster gives for the same treatments;
- Optuna's study has each trial once, complete, and none that still runs;
- MLflow has one parent and one child a trial, all finished, with every member and every figure;
- every stored result is whole, and a struck process cost at most the one network that it was training.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import optuna
import torch
from interleaved import describe_machine
from mlflow import MlflowClient
from striking import Round, Striker, run_to_its_end
from struck_sweep import TREATMENTS, sweep
from surroundings import Surroundings, surroundings

from hardtune import Store, load, run
from hardtune.report import records

NODES = 3
Figures = dict[int, dict[str, float]]
"""Metrics by name, by the number of the trial."""


def undisturbed(treatments: int, folder: Path) -> Figures:
    """What the treatments give in a plain loop."""
    torch.set_num_threads(1)
    digits, struck = load("digits"), sweep(treatments)
    store = Store(folder)
    return {
        number: run(treatment, digits, struck.recipe, store).metrics()
        for number, treatment in enumerate(struck.treatments or ())
    }


def check(now: Round, expected: Figures, place: Surroundings, begun: int) -> int:
    """Whether the sweep lost nothing; returns how many networks had to be trained again.

    ``begun``: trainings that were begun before the sweep, by all others.
    """
    (folder,) = (path.parent for path in now.storage.glob("sweeps/*/sweep.json"))
    numbers = sorted(expected)
    found = records.read_all(folder / "trials")
    assert [record.number for record in found] == [records.CONTROL, *numbers]
    assert {record.state for record in found} == {"finished"}
    for record in found[1:]:
        assert record.metrics == expected[record.number], f"trial {record.number} came out differently"

    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder}/study.db")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * len(numbers)

    client = MlflowClient(place.tracking_uri)
    (experiment,) = client.search_experiments(filter_string="name = 'struck'")
    runs = client.search_runs([experiment.experiment_id], f"tags.`hardtune.sweep` = '{folder.name}'")
    assert Counter(run.data.tags["hardtune.trial"] for run in runs) == Counter(["sweep", "control", *map(str, numbers)])
    assert {run.info.status for run in runs} == {"FINISHED"}
    members = sweep(1).recipe.members
    for run_ in runs:
        name = run_.data.tags["hardtune.trial"]
        if name != "sweep":
            steps = [metric.step for metric in client.get_metric_history(run_.info.run_id, "members/accuracy")]
            assert steps == list(range(1, members + 1)), f"MLflow's members of {name} are {steps}"
        if name not in ("sweep", "control"):
            assert {key: run_.data.metrics.get(key) for key in expected[int(name)]} == expected[int(name)]

    store = Store(now.storage / "store")
    results = [entry for entry in store.entries() if entry.is_result]
    assert [entry.path for entry in results if store.verify(entry)] == []
    networks = sum(entry.kind == "member" for entry in results)
    trainings = [int(pid) for pid in place.trainings.read_text().split()][begun:]
    again = len(trainings) - networks
    could = len(now.struck.intersection(trainings))
    assert 0 <= again <= could, f"{again} networks were trained again, and {could} killed processes trained any"
    return again


def main(arguments: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--faults", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--every", type=float, default=12.0, metavar="S", help="mean seconds between two faults")
    flags.add_argument("--treatments", type=int, default=len(TREATMENTS), metavar="N", help="of each sweep")
    options = flags.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and not without killing what was started
    describe_machine()
    started = time.monotonic()
    counts: Counter[str] = Counter()
    sweeps = again = turned_away = 0
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(options.treatments, Path(folder))
    with surroundings(NODES) as place:
        striker = Striker(place, options.seed, options.every)
        while counts.total() < options.faults:
            begun = len(place.trainings.read_text().split())
            now = Round(place.folder / f"sweep-{sweeps}", ["--concurrent", str(NODES), "--first", str(len(expected))])

            def say(what: str) -> None:
                number = counts.total() + len(now.faults)  # noqa: B023
                print(f"{time.monotonic() - started:6.0f} s  {number:4}/{options.faults}  {what}", flush=True)

            run_to_its_end(place, striker, now, options.faults - counts.total(), say)
            place.wait_for_server()
            cost = check(now, expected, place, begun)
            counts.update(fault.partition(" ")[0] for fault in now.faults)
            sweeps, again, turned_away = sweeps + 1, again + cost, turned_away + now.turned_away
            print(f"sweep {sweeps} is whole after {len(now.faults)} faults; {cost} networks trained again", flush=True)
    for kind, count in counts.items():
        print(f"{kind:8} {count:4}")
    print(
        f"{counts.total()} faults in {sweeps} sweeps of {len(expected)} treatments: nothing lost, nothing twice, "
        f"{again} networks trained again; {time.monotonic() - started:.0f} s"
    )
    if turned_away:
        print(f"{turned_away} times a sweep would not start before the server was back, and said so")


if __name__ == "__main__":
    main()
