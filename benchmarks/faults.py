"""Strikes a real sweep on a real cluster at random moments, again and again; it must lose nothing.

    python benchmarks/faults.py --faults 100 --seed 0                   about 30 minutes on 2 cores
    python benchmarks/faults.py --faults 4 --treatments 3 --nodes 2     a look
    python benchmarks/faults.py --racing 0.01 --members-at-once 2 --faults 40

The cluster is a Ray head and worker nodes as processes on this machine, MLflow a server with a database. SIGKILL hits a
worker that trains a network or runs a task; a node, which is then replaced; the MLflow server, which comes back at its
address; the sweep's own process, which is restarted with --resume; and, with --head, the head and so the whole cluster:
once the sweep has noticed and ended, it is resumed on a new one. Kinds, victims and moments are drawn from the seed.
Sweeps run one after another until all faults have struck, and at the end of each it must hold that

- its records are, bit for bit, those of a plain loop without a cluster over the same treatments; for a trial that
  racing stopped, those of the members that were trained;
- Optuna's study has each trial once, complete (or pruned, if it was stopped), and none still running;
- MLflow has one parent and one child per trial, all finished (or killed), with every member and every figure;
- every stored result is whole, and a struck process cost at most the network that it was training, or as many as
  --members-at-once.
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
from striking import WEIGHTS, Round, Striker, run_to_its_end
from struck_sweep import TREATMENTS, sweep
from surroundings import Surroundings, surroundings

from hardtune import Store, load
from hardtune.needs import needs_of
from hardtune.report import records
from hardtune.report.records import Record
from hardtune.scoring import prepare
from hardtune.sweep.trainable import record_of
from hardtune.trial import run_trial

STATES = {"finished": ("COMPLETE", "FINISHED"), "stopped": ("PRUNED", "KILLED")}
"""Optuna's and MLflow's states, by the record's state."""


def undisturbed(treatments: int, folder: Path) -> list[Record]:
    """The treatments' records from a plain loop, after one preparation for all of them, as in a sweep."""
    torch.set_num_threads(1)
    struck, store = sweep(treatments), Store(folder)
    recipe, tried = struck.recipe, struck.treatments or ()
    split = load("digits").hold_out(recipe.validation, recipe.seed)
    prepared = prepare(split, recipe, needs_of(tried), store)
    return [
        record_of(number, run_trial(treatment, prepared, recipe, store), split, bounds={})
        for number, treatment in enumerate(tried)
    ]


def check_record(found: Record, whole: Record, *, raced: bool) -> None:
    """Assert that a record is that of the undisturbed trial, or of its first members."""
    assert found.treatment == whole.treatment
    if found.state == "finished":
        names = sorted(found.metrics.keys() | whole.metrics.keys())
        pairs = {name: (found.metrics.get(name), whole.metrics.get(name)) for name in names}
        differ = {name: (ours, theirs) for name, (ours, theirs) in pairs.items() if ours != theirs}
        assert not differ, f"trial {found.number} came out differently: {differ}"
        return
    assert (found.state, raced) == ("stopped", True), f"trial {found.number} is {found.state}: {found.reason}"
    trained = len(found.members["final/accuracy"])
    assert 0 < trained < sweep().recipe.members
    for name, values in found.members.items():
        assert list(values) == list(whole.members[name])[:trained], f"trial {found.number} came out differently"


def check(
    now: Round, expected: list[Record], place: Surroundings, begun: int, *, raced: bool, at_once: int
) -> Counter[str]:
    """Assert that the sweep lost nothing; returns how many networks were trained ``again``, and trials ``stopped``.

    ``begun``: trainings begun before the sweep, by all others.
    """
    (folder,) = (path.parent for path in now.storage.glob("sweeps/*/sweep.json"))
    control, *found = records.read_all(folder / "trials")
    assert (control.number, control.state) == (records.CONTROL, "finished")
    assert [record.number for record in found] == [record.number for record in expected]
    for record, whole in zip(found, expected, strict=True):
        check_record(record, whole, raced=raced)

    study = optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder}/study.db")
    assert [trial.state.name for trial in study.trials] == [STATES[record.state][0] for record in found]

    client = MlflowClient(place.tracking_uri)
    (experiment,) = client.search_experiments(filter_string="name = 'struck'")
    runs = client.search_runs([experiment.experiment_id], f"tags.`hardtune.sweep` = '{folder.name}'")
    by_trial = {run.data.tags["hardtune.trial"]: run for run in runs}
    assert len(runs) == len(by_trial) == len(found) + 2, "MLflow has a run too many, or too few"
    assert by_trial["sweep"].info.status == "FINISHED"
    for name, record in [("control", control), *((str(record.number), record) for record in found)]:
        run = by_trial[name]
        assert run.info.status == STATES[record.state][1], f"MLflow calls trial {name} {run.info.status}"
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "members/accuracy")]
        trained = len(record.members["final/accuracy"])
        assert steps == list(range(1, trained + 1)), f"MLflow's members of {name} are {steps}"
        assert {key: run.data.metrics.get(key) for key in record.metrics} == record.metrics

    store = Store(now.storage / "store")
    results = [entry for entry in store.entries() if entry.is_result]
    assert [entry.path for entry in results if store.verify(entry)] == []
    networks = sum(entry.kind == "member" for entry in results)
    trainings = [int(pid) for pid in place.trainings.read_text().split()][begun:]
    again = len(trainings) - networks
    # Members in training when their trial is stopped are finished, unless the sweep ends before.
    stopped = sum(record.state == "stopped" for record in found)
    could = at_once * (len(now.struck.intersection(trainings)) + stopped)
    assert 0 <= again <= could, f"{again} networks were begun in vain, and {could} at most could have been broken off"
    return Counter(again=again, stopped=stopped)


def main(arguments: Sequence[str] | None = None) -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--faults", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--every", type=float, default=12.0, metavar="S", help="mean seconds between two faults")
    flags.add_argument("--treatments", type=int, default=len(TREATMENTS), metavar="N", help="of each sweep")
    flags.add_argument("--nodes", type=int, default=3, metavar="N", help="of one core each, beside the head")
    flags.add_argument("--racing", type=float, metavar="X", help="race the trials, at this price")
    flags.add_argument("--members-at-once", type=int, default=1, metavar="N", help="in each trial")
    flags.add_argument("--head", action="store_true", help="kill the head, too")
    options = flags.parse_args(arguments)
    WEIGHTS["head"] = 4 * options.head
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is killed
    describe_machine()
    started = time.monotonic()
    counts: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    sweeps = turned_away = 0
    sweep_flags = ["--concurrent", str(options.nodes), "--first", str(options.treatments)]
    sweep_flags += ["--members-at-once", str(options.members_at_once)]
    if options.racing is not None:
        sweep_flags += ["--racing", str(options.racing)]
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(options.treatments, Path(folder))
    with surroundings(options.nodes) as place:
        striker = Striker(place, options.seed, options.every)
        while counts.total() < options.faults:
            begun = len(place.trainings.read_text().split())
            now = Round(place.folder / f"sweep-{sweeps}", sweep_flags)

            def say(what: str) -> None:
                number = counts.total() + len(now.faults)  # noqa: B023
                print(f"{time.monotonic() - started:6.0f} s  {number:4}/{options.faults}  {what}", flush=True)

            run_to_its_end(place, striker, now, options.faults - counts.total(), say)
            place.wait_for_server()
            raced = options.racing is not None
            last = check(now, expected, place, begun, raced=raced, at_once=options.members_at_once)
            cost.update(last)
            counts.update(fault.partition(" ")[0] for fault in now.faults)
            sweeps, turned_away = sweeps + 1, turned_away + now.turned_away
            print(
                f"sweep {sweeps} is whole after {len(now.faults)} faults; {last['again']} networks trained again",
                flush=True,
            )
    for kind, count in counts.items():
        print(f"{kind:8} {count:4}")
    print(
        f"{counts.total()} faults in {sweeps} sweeps of {len(expected)} treatments: nothing lost, nothing twice, "
        f"{cost['again']} networks trained again; {time.monotonic() - started:.0f} s"
    )
    if options.racing is not None:
        print(f"racing stopped {cost['stopped']} of {sweeps * len(expected)} trials")
    if turned_away:
        print(f"{turned_away} times a sweep would not start before the server was back, and said so")


if __name__ == "__main__":
    main()
