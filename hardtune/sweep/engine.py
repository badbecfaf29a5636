"""A sweep from its first check to its last figure."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardtune.checks import check_names, check_sources, preview_plan
from hardtune.data import Dataset, Samples, Split, load, load_pool
from hardtune.errors import InputError, unknown
from hardtune.hardness.encoders import check_encoder
from hardtune.member import Prepared
from hardtune.needs import Needs, needs_of
from hardtune.report import records
from hardtune.report.figure import pareto_figure
from hardtune.report.pareto import front
from hardtune.report.records import CONTROL, Record
from hardtune.report.table import rows
from hardtune.store import Store
from hardtune.sweep import cluster
from hardtune.sweep.definition import Sweep
from hardtune.sweep.ledger import Ledger, open_ledger
from hardtune.sweep.live import View
from hardtune.sweep.prepare import control_members, prepare_on_cluster
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.search import StudySearch
from hardtune.sweep.space import corners
from hardtune.sweep.tracking import Tracker, check_tracking, default_uri
from hardtune.sweep.trainable import record_of, trainable
from hardtune.training.models import MODELS
from hardtune.treatment import Treatment
from hardtune.trial import metric_names, run_trial


@dataclass(frozen=True)
class Place:
    """Where a sweep runs and leaves its results."""

    storage: Path = Path("hardtune-results")
    tracking_uri: str | None = None
    """None for a database in ``storage``."""
    address: str | None = None
    """Of a running Ray cluster; None starts one on this machine."""
    data_dir: Path | None = None
    concurrent: int | None = None
    """Trials at once; None for as many as the cluster holds now (an autoscaled one may hold more later)."""
    resume: bool = False
    subset: bool = False
    """Use a few samples of a few classes only."""


@dataclass(frozen=True)
class Outcome:
    """What a sweep left."""

    ledger: Ledger
    records: list[Record]
    front: list[Record]
    rows: list[dict[str, Any]]
    figure: Path
    tracking_uri: str
    chart_link: str
    interrupted: bool
    everything_tracked: bool

    @property
    def control(self) -> Record:
        return next(record for record in self.records if record.is_control)


def run_sweep(sweep: Sweep, place: Place, view: View) -> Outcome:
    """Run (or resume) the sweep and leave its records, front and figure in ``place.storage``.

    Raises:
        InputError: anything that is wrong with the sweep or its surroundings, before a network is trained; or
            what the scores show to be impossible, before the first trial.
    """
    import ray

    treatments, needs = _check(sweep)
    storage = _writable(place.storage)
    uri = place.tracking_uri or default_uri(storage)
    check_tracking(uri)
    dataset, pool = _load(sweep, place)
    if needs.features:
        check_encoder(sweep.recipe.encoder, dataset)
    split = dataclasses.replace(dataset.hold_out(sweep.recipe.validation, sweep.recipe.seed), pool=pool)
    for treatment in treatments:
        check_sources(split, treatment)
    ledger = open_ledger(sweep, split, storage, resume=place.resume)
    with ledger.held():
        view.say(f"results in {ledger.folder}")
        artifacts = None if uri.startswith("http") else storage / "mlflow-artifacts"
        tracker = Tracker(uri, sweep.name, ledger.id, artifacts)
        tracker.start(_parameters(sweep, split), {"hardtune.data": dataset.fingerprint})
        status = "FAILED"
        try:
            cluster.connect(place.address)
            share = cluster.share(sweep.cpus_per_trial, sweep.gpus_per_trial)
            store = Store(storage / "store")
            prepared = _prepare(sweep, split, needs, store, share, view)
            for treatment in treatments:
                preview_plan(prepared, treatment)
            for record in records.read_all(ledger.records):
                tracker.trial_ended(record)  # of an earlier part of the sweep; what MLflow has already is left alone
                view.ended(record)
            control = _control(sweep, prepared, store, share, ledger, tracker)
            view.ended(control)
            interrupted = _search(sweep, place, prepared, control, store, share, ledger, tracker, view)
            status = "KILLED" if interrupted else "FINISHED"
            found = records.read_all(ledger.records)
            best = front(found, sweep.objectives)
            table = rows(best, control, sweep.objectives)
            figure = ledger.folder / "pareto.png"
            pareto_figure(found, best, sweep.objectives, f"{sweep.name}: {len(found) - 1} trials", figure)
            (ledger.folder / "pareto.json").write_text(json.dumps(table, indent=1))
            tracker.sweep_ended(best, {"pareto": table}, [figure], status)
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else status
            tracker.sweep_ended([], {}, [], status)
            tracker.close(patience=5)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(ledger.id) from None
            raise
        finally:
            ray.shutdown()
        tracked = tracker.close(patience=60)
    return Outcome(ledger, found, best, table, figure, uri, tracker.chart_link(), interrupted, tracked)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C before the first trial; what was scored by then is in the store."""


def _check(sweep: Sweep) -> tuple[list[Treatment], Needs]:
    """Every name and range of the sweep."""
    MODELS[sweep.recipe.model]
    treatments = corners(sweep.space)
    for treatment in treatments:
        check_names(treatment)
    names = metric_names()
    for name in (*sweep.objectives, *sweep.no_worse_than_control):
        if name.startswith("test"):
            raise InputError(f"{name!r} cannot be an objective: the search must not see the test split")
        if name not in names:
            raise unknown("metric", name, (known for known in names if not known.startswith("test")))
    return treatments, needs_of(treatments)


def _writable(storage: Path) -> Path:
    storage = storage.expanduser().resolve()
    Store(storage).check_writable()
    return storage


def _load(sweep: Sweep, place: Place) -> tuple[Dataset, Samples | None]:
    """The data, and the pool of synthetic images that the sweep names."""
    dataset = load(sweep.data, place.data_dir)
    pool = None if sweep.pool is None else load_pool(sweep.pool, dataset)
    if not place.subset:
        return dataset, pool
    few = dataset.subset(classes=10, train=24, test=10, seed=sweep.recipe.seed)
    return few, None if pool is None else pool.take(np.flatnonzero(pool.labels < few.num_classes))


def _prepare(sweep: Sweep, split: Split, needs: Needs, store: Store, share: cluster.Share, view: View) -> Prepared:
    total = control_members(sweep.recipe, needs)
    view.phase("scoring ensemble" if needs.ensemble else "control", total, "members")

    def on_member(done: int, of: int, cached: int) -> None:
        if done == cached and cached:
            view.say(f"reusing {cached} of {of} members of the scoring ensemble from the store")
        view.advance(done, cached)

    return prepare_on_cluster(split, sweep.recipe, needs, store, share, on_member=on_member)


def _control(
    sweep: Sweep, prepared: Prepared, store: Store, share: cluster.Share, ledger: Ledger, tracker: Tracker
) -> Record:
    """The control's figures: its members are the scoring ensemble's, so nothing is trained."""
    result = run_trial(Treatment(), prepared, sweep.recipe, store, device=share.device)
    record = record_of(CONTROL, result, prepared.split.classes, bounds={})
    records.write(ledger.records, record)
    for step, figures in enumerate(result.held_out.members):
        tracker.member(record, step + 1, {f"members/{name}": value for name, value in figures.items()})
    tracker.trial_ended(record)
    return record


def _search(
    sweep: Sweep,
    place: Place,
    prepared: Prepared,
    control: Record,
    store: Store,
    share: cluster.Share,
    ledger: Ledger,
    tracker: Tracker,
    view: View,
) -> bool:
    """Let Optuna propose and Tune schedule what is left of the trials; returns whether Ctrl-C came first."""
    import optuna
    import ray
    from ray import tune

    search = StudySearch(
        dict(sweep.space) if isinstance(sweep.space, Mapping) else sweep.space,
        sweep.objectives,
        study_name=ledger.id,
        storage=optuna.storages.RDBStorage(ledger.study_url),
        seed=sweep.recipe.seed,
        adopt=place.resume,
    )
    left = sweep.trials - search.count_done()
    view.phase("trials", sweep.trials, "trials")
    recorder = Recorder(ledger.records, tracker, view, already=search.count_done())
    if left <= 0:
        return False
    slots = place.concurrent or share.slots(ray.cluster_resources())
    bounds = {name: (_direction(name, sweep), control.metrics[name]) for name in sweep.no_worse_than_control}
    for name in ("ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # A member's report has no objectives yet, and must not end the sweep; the search knows what to make of it.
    os.environ["TUNE_DISABLE_STRICT_METRIC_CHECKING"] = "1"
    # Resuming rests on the study and the store, so Tune's own snapshots need not be frequent.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "60")
    os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")
    run = tune.with_parameters(
        trainable,
        prepared=prepared,
        recipe=sweep.recipe,
        root=store.root,
        folder=ledger.records,
        device=share.device,
        cpus=share.cpus,
        bounds=bounds,
    )
    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": share.cpus, "gpu": share.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            num_samples=left,
            max_concurrent_trials=min(slots, left),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{len(list(ledger.folder.glob('tune-*'))) + 1}",
            storage_path=str(ledger.folder),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=3),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
            callbacks=[recorder],
        ),
    )
    tuner.fit()
    return search.count_done() < sweep.trials


def _name(trial: Any) -> str:
    return f"trial-{trial.config['number']:05d}-{trial.trial_id}"


def _direction(metric: str, sweep: Sweep) -> str:
    if metric in sweep.objectives:
        return sweep.objectives[metric]
    return "max" if metric.endswith(("accuracy", "recall", "f1")) else "min"


def _parameters(sweep: Sweep, split: Split) -> dict[str, Any]:
    """What the parent run says of the sweep."""
    return {
        "data": split.name,
        "train": len(split.train),
        "held_out": len(split.held_out),
        "test": len(split.test),
        "measured_on": "the test split" if split.chooses_on_test else "held-out training data",
        "trials": sweep.trials,
        "objectives": json.dumps(dict(sweep.objectives)),
        **dataclasses.asdict(sweep.recipe),
    }
