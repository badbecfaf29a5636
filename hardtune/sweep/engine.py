"""A sweep from its first check to its last figure."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hardtune import disk
from hardtune.answers import corruption_pairs, with_shifts
from hardtune.checks import check_names, check_trials
from hardtune.data import Dataset, Samples, Split, check_ood, check_pool, harder, load, load_pool
from hardtune.data.decoding import listed_in
from hardtune.errors import InputError, in_a_line, unknown
from hardtune.hardness.encoders import check_encoder
from hardtune.member import Prepared
from hardtune.needs import Needs, needs_of
from hardtune.report.classes import against_control, class_figure
from hardtune.report.comparison import Row, check_comparison, compared
from hardtune.report.comparison_views import comparison_figure
from hardtune.report.drawing import one_at_a_time
from hardtune.report.front_figure import pareto_figure
from hardtune.report.front_table import render, rows
from hardtune.report.metric_names import UNSEEN, always_measured, direction, figures_of_members, is_spread
from hardtune.report.paper_tables import markdown
from hardtune.report.pareto import check_objective, front
from hardtune.report.records import Record, control_of
from hardtune.report.sweeps import selection_note
from hardtune.report.verdict import verdict
from hardtune.store import Store, local_folder
from hardtune.sweep import cluster
from hardtune.sweep.databases import study_database
from hardtune.sweep.definition import Place, Sweep
from hardtune.sweep.ledger import Ledger, check_same_data, open_ledger, resumable
from hardtune.sweep.live import View
from hardtune.sweep.nodes import check_shared
from hardtune.sweep.notes import (
    say_if_hardness_may_be_chance,
    say_if_the_pool_has_no_effect,
    say_what_has_no_effect,
    say_what_is_doubtful,
    say_what_is_infeasible,
)
from hardtune.sweep.prepare import control_members, prepare_on_cluster, resolved_on_cluster
from hardtune.sweep.provenance import kept_start
from hardtune.sweep.sigterm import left_ray
from hardtune.sweep.space import corners, placed
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.tracking_uri import check_experiment, check_tracking, default_uri
from hardtune.sweep.trials import run_trials
from hardtune.training.models import MODELS
from hardtune.treatment import Treatment


@dataclass(frozen=True)
class Outcome:
    """The results of a sweep."""

    ledger: Ledger
    records: list[Record]
    rows: list[dict[str, Any]]
    comparisons: list[list[Row]]
    """The rows of each of the sweep's comparisons; none if too little of it finished."""
    figures: list[Path]
    """The sweep's main figure first."""
    unwritten: dict[Path, str]
    """Figures and tables that could not be written, and why; a full disk does not withhold the results."""
    tracking_uri: str
    links: dict[str, str]
    """MLflow pages, by what they show."""
    interrupted: bool
    verdict: str
    """Of a search, whether its front is better than the control on the test split."""
    tracking_shortfall: str
    """What MLflow did not take, and why; empty if it took everything."""


def run_sweep(sweep: Sweep, place: Place, view: View) -> Outcome:
    """Run (or resume) the sweep and leave its records, front and figure in ``place.storage``.

    Raises:
        InputError: anything that is wrong with the sweep or its surroundings, before a network is trained; or
            what the scores show to be impossible, before the first trial.
    """
    began = time.time()
    treatments, needs = _check(sweep)
    storage = _writable(place.storage)
    if place.resume:  # before the data are read, which may take minutes
        resumable(sweep, storage)
    uri = place.tracking_uri or default_uri(storage)
    check_tracking(uri)
    check_experiment(uri, sweep.name)
    say_if_the_pool_has_no_effect(sweep, treatments, place, view)
    with listed_in(storage):
        split = _split(sweep, needs, place, view)
    if place.data_of is not None:
        check_same_data(place.data_of, split)
    check_trials(split, sweep.recipe, treatments)
    if place.study_storage is not None:  # no study has this name: each is named after its folder
        study_database(place.study_storage, sweep.name)
    with contextlib.ExitStack() as held, contextlib.ExitStack() as joined:
        if place.resume:  # refuse early, before waiting for Ray
            ledger = open_ledger(sweep, split, storage, resume=True, needs=needs)
            held.enter_context(ledger.held())
            ledger.asked(sweep)
        joined.enter_context(cluster.connected(place.address))
        nodes = cluster.nodes_with_workers(view.say)
        if place.address is not None:
            check_shared(storage)
        share = cluster.share(sweep.cpus_per_trial, sweep.gpus_per_trial, nodes)
        if not place.resume:  # a refused sweep leaves no trace
            ledger = open_ledger(sweep, split, storage, resume=False, needs=needs)
            held.enter_context(ledger.held())
        view.begin(ledger.folder)
        held.enter_context(kept_start(ledger.folder, nodes, began))
        recipe = ledger.resolved(lambda: resolved_on_cluster(sweep.recipe, share), share.device)
        sweep = dataclasses.replace(sweep, recipe=recipe)
        share = _filled(share, sweep)
        begun = any(ledger.trials.glob("*.json"))
        url = place.study_storage or ledger.study_url
        study = study_database(url, ledger.id, begun=begun, owner=ledger.owner)
        say_what_has_no_effect(sweep, view)
        if not place.subset:
            say_what_is_doubtful(sweep, split, treatments, ledger.folder, view)
        artifacts = None if uri.startswith("http") else storage / "mlflow-artifacts"
        tracker = Tracker(uri, sweep.name, ledger.id, artifacts)
        tags = {"hardtune.data": split.dataset_fingerprint, "hardtune.trials": str(sweep.trials)}
        tracker.start(_parameters(sweep, split), tags)
        try:
            store = Store(storage / "store")
            alone = _filled(share, dataclasses.replace(sweep, racing=0.0))  # those that score do not race
            prepared = _prepare(sweep, split, needs, store, alone, view)
            say_if_hardness_may_be_chance(prepared, treatments, place, view)
            say_what_is_infeasible(sweep, prepared, treatments, place, view)
            interrupted = run_trials(sweep, place, prepared, store, share, ledger, study, tracker, view)
        except BaseException as error:
            tracker.sweep_ended(None, {}, [], "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            tracker.close(patience=5)
            raise
        joined.close()  # others may use the nodes, but the sweep is held until MLflow has all of it
        left_ray.set()
        return _conclude(sweep, ledger, tracker, uri, interrupted, view)


def _conclude(sweep: Sweep, ledger: Ledger, tracker: Tracker, uri: str, interrupted: bool, view: View) -> Outcome:
    """The front, its table and figure, on disk and in MLflow."""
    found = ledger.records
    best = front(found, sweep.objectives)
    table = rows(best, control_of(found), sweep.objectives)
    unwritten: dict[Path, str] = {}

    def leave(name: str, write: Callable[[Path], object]) -> list[Path]:
        path = ledger.folder / name
        try:
            with one_at_a_time:  # the tracker's thread still draws figures of the last trials
                write(path)
        except OSError as error:  # the results are in the records, and are shown anyway
            unwritten[path] = in_a_line(error)
            disk.removed(path)
            return []
        return [path]

    title = f"{sweep.name}: {len(found) - 1} trials"
    note = selection_note(sweep.recipe.validation, searched=sweep.treatments is None)
    figures = leave(
        "pareto.png",
        lambda path: pareto_figure(
            found, best, sweep.objectives, title, path, note, held_out=sweep.recipe.validation != "test"
        ),
    )
    leave("pareto.json", lambda path: path.write_text(json.dumps(table, indent=1)))
    comparisons = [compared(found, comparison) for comparison in sweep.compared]
    differences = [{"comparison": number, **row} for number, family in enumerate(comparisons) for row in family]
    if differences:
        drawn = leave("comparison.png", lambda path: comparison_figure(comparisons, sweep.name, path, note))
        figures = drawn + figures
        leave("comparison.json", lambda path: path.write_text(json.dumps(differences, indent=1)))
    shown = best if sweep.treatments is None else found
    classes = against_control(found, shown)
    if classes:
        figures += leave("classes.png", lambda path: class_figure(classes, title, path, note))
    tables = {"pareto": table, "comparison": differences}
    searched = sweep.treatments is None
    description = markdown(render(table, sweep.objectives, f"Pareto front of {title}", note, searched=searched))
    judged = verdict(found, sweep.objectives) if searched and not note else ""
    said = "\n\n".join(filter(None, [judged, description]))  # MLflow folds what is longer than a few lines
    tracker.sweep_ended(best, tables, figures, "KILLED" if interrupted else "FINISHED", said, shown)
    patience = 20 if interrupted else 60  # who sent SIGTERM may kill before long
    tracker.close(patience, lambda: view.say(f"waiting for MLflow, until it has taken nothing for {patience} s"))
    figure = "comparison.png" if differences else "pareto.png"
    links = tracker.links(figure, *next(iter(sweep.objectives.items())))
    return Outcome(
        ledger=ledger,
        records=found,
        rows=table,
        comparisons=comparisons,
        figures=figures,
        unwritten=unwritten,
        tracking_uri=uri,
        links=links,
        interrupted=interrupted,
        verdict=judged,
        tracking_shortfall=tracker.shortfall,
    )


def _check(sweep: Sweep) -> tuple[list[Treatment], Needs]:
    """Check every name and range of the sweep."""
    MODELS[sweep.recipe.model]
    treatments = corners(sweep.space)
    for treatment in treatments:
        check_names(treatment)
    for treatment in sweep.first:
        placed(sweep.space, treatment)
    names = always_measured()
    for name in (*sweep.objectives, *sweep.tolerances):
        if name.startswith(UNSEEN):
            raise InputError(f"{name!r} cannot be an objective: the search must not see the test split")
        if name not in names:
            raise unknown("metric", name, (known for known in names if not known.startswith(UNSEEN)))
        check_objective(name)
        if is_spread(name) and sweep.recipe.members < 2:
            raise InputError(f"{name!r} is 0 for every trial of 1 network: it needs recipe.members to be at least 2")
        given, known = sweep.objectives.get(name), direction(name, {})
        if given not in (None, known):
            raise InputError(f"objective {name!r} is {given!r}, but {known!r} is better")
    corruption_pairs(sweep.corruptions, sweep.severities)
    check_ood(sweep.ood, sweep.data)
    check_pool(sweep.pool)
    groups = ["final", "test"] + ["ood"] * (sweep.ood is not None) + ["corruptions"] * bool(sweep.corruptions)
    measured = figures_of_members(groups, scaled=sweep.recipe.validation != "test")
    for comparison in sweep.compared:
        check_comparison(comparison, treatments, measured)
    return treatments, needs_of(treatments)


def _filled(share: cluster.Share, sweep: Sweep) -> cluster.Share:
    """The share with as many members at once as the sweep asks for, or as keep a GPU busy; needs a resolved recipe."""
    compiled, racing = bool(sweep.recipe.compile), sweep.racing > 0
    at_once = sweep.members_at_once or cluster.members_at_once(share, compiled=compiled, racing=racing)
    return dataclasses.replace(share, at_once=at_once)


def _writable(storage: Path) -> Path:
    storage = local_folder(storage)
    if set("?{}%") & set(str(storage)):
        raise InputError(
            "the storage's path must have none of ? { } %, which mean something in a database's URL, "
            f"got {str(storage)!r}"
        )
    Store(storage).check_writable()
    return storage


def _load(sweep: Sweep, place: Place, view: View) -> tuple[Dataset, Samples | None]:
    """The data, and the pool of synthetic images that the sweep names."""
    whole = load(sweep.data, place.data_dir, image_size=sweep.image_size, progress=view.reading)
    pool = None if sweep.pool is None else load_pool(sweep.pool, whole, progress=view.reading)
    if place.subset:
        enough = math.ceil(12 * sweep.imbalance)  # for 12 of the last class; the same whatever the sweep's seed
        whole = whole.subset(classes=10, train=enough, test=6, seed=0, traced=True)
        pool = None if pool is None else pool.take(np.flatnonzero(pool.labels < whole.num_classes))
    return harder(whole, sweep.imbalance, sweep.label_noise), pool


def _split(sweep: Sweep, needs: Needs, place: Place, view: View) -> Split:
    """All data that trials see: for training, for selection, and for the final evaluation.

    The data set itself is not kept: its images are in the split once more.
    """
    dataset, pool = _load(sweep, place, view)
    if needs.features:
        check_encoder(sweep.recipe.encoder, dataset)
    return with_shifts(
        dataclasses.replace(dataset.hold_out(sweep.recipe.validation, sweep.recipe.seed), pool=pool),
        dataset,
        ood=sweep.ood,
        corruptions=sweep.corruptions,
        severities=sweep.severities,
        data_dir=place.data_dir,
        progress=view.reading,
    )


def _prepare(sweep: Sweep, split: Split, needs: Needs, store: Store, share: cluster.Share, view: View) -> Prepared:
    total = control_members(sweep.recipe, needs)
    view.phase("scoring ensemble" if needs.ensemble else "control", total, "members")

    def on_member(done: int, of: int, cached: int) -> None:
        if done == cached and cached:
            view.say(f"reusing {cached} of {of} members of the scoring ensemble from the store")
        view.advance(done, cached)

    def on_encoded(done: int, of: int) -> None:
        view.remark(f"{done:,} of {of:,} images encoded by {sweep.recipe.encoder}" if done < of else "")

    return prepare_on_cluster(split, sweep.recipe, needs, store, share, on_member=on_member, on_encoded=on_encoded)


def _parameters(sweep: Sweep, split: Split) -> dict[str, Any]:
    """The sweep's parameters, for the parent run."""
    return {
        "data": split.name,
        "train": len(split.train),
        "held_out": len(split.held_out),
        "test": len(split.test),
        "measured_on": "the test split" if split.chooses_on_test else "held-out training data",
        "objectives": json.dumps(dict(sweep.objectives)),
        "racing": sweep.racing or "none",
        "ood": sweep.ood or "none",
        "corruptions": " ".join(sweep.corruptions) or "none",
        **dataclasses.asdict(sweep.recipe),
    }
