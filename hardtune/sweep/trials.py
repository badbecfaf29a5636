"""The trials of a sweep, which Optuna proposes and Ray Tune schedules, and their control."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from optuna.storages import BaseStorage
from ray import tune
from ray.tune.execution import class_cache
from ray.tune.schedulers import TrialScheduler

from hardtune.member import Prepared
from hardtune.report import records
from hardtune.report.metric_names import direction
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import Standing
from hardtune.store import Store
from hardtune.sweep.cluster import Share, given_back
from hardtune.sweep.databases import OWNER
from hardtune.sweep.definition import Place, Sweep
from hardtune.sweep.ledger import Ledger
from hardtune.sweep.live import View
from hardtune.sweep.notes import (
    Feasible,
    say_if_classes_are_not_learned,
    say_if_objectives_may_be_chance,
    say_what_was_redrawn,
)
from hardtune.sweep.prepare import MAX_RETRIES, outcome
from hardtune.sweep.racing import Racing
from hardtune.sweep.recorder import Recorder
from hardtune.sweep.search import StudySearch
from hardtune.sweep.space import placed, proposer, treatment_of
from hardtune.sweep.tracking import Tracker
from hardtune.sweep.trainable import TrialContext, carry_out, record_of, trainable
from hardtune.treatment import Treatment
from hardtune.trial import run_trial


def run_trials(
    sweep: Sweep,
    place: Place,
    prepared: Prepared,
    store: Store,
    share: Share,
    ledger: Ledger,
    study: BaseStorage,
    tracker: Tracker,
    view: View,
) -> bool:
    """Let Optuna propose and Tune schedule the remaining trials; returns whether Ctrl-C came first."""
    search = StudySearch(
        proposer(sweep.space),
        sweep.objectives,
        study_name=ledger.id,
        storage=study,
        seed=sweep.recipe.seed,
        adopt=place.resume,
        first=[placed(sweep.space, treatment) for treatment in sweep.first],
        feasible=Feasible(prepared),
    )
    search.study.set_user_attr(OWNER, ledger.owner)
    control = _control(sweep, place, prepared, store, share, ledger, view)
    limits = limits_of(sweep, control)
    context = TrialContext(prepared, sweep.recipe, store.root, share.device, share.cpus, share.at_once, limits)
    _complete(ledger.trials, search, share, context, view)
    former = [record for record in ledger.records if not record.again]
    for record in former:
        tracker.trial_ended(record)  # from an earlier part of the sweep; logs only what MLflow lacks
        view.ended(record)
    standing = Standing(former, sweep.objectives, sweep.recipe.members)
    already = search.count_done()
    left = sweep.trials - already
    tracker.progress(already, standing.figures())  # in case a killed driver did not
    view.phase("trials", sweep.trials, already=already)
    recorder = Recorder(ledger.trials, tracker, view, standing, already, search.waits_again)
    if left <= 0:
        return False
    slots = place.concurrent or share.slots(ray.cluster_resources())
    run = tune.with_parameters(trainable, context=context, folder=ledger.trials, objectives=list(sweep.objectives))
    interrupted = False
    while left > 0 and not interrupted:
        # Runs once, unless trials end in errors and are handed out again.
        scheduler = None
        if sweep.racing:
            scheduler = Racing(sweep.racing, sweep.recipe.members, sweep.objectives, ledger.trials)
        interrupted = schedule(
            run, search, ledger.folder, share, trials=left, slots=slots, recorder=recorder, scheduler=scheduler
        )
        left = sweep.trials - search.count_done()
    say_what_was_redrawn(search, view)
    return left > 0


def schedule(
    run: Any,
    search: StudySearch,
    folder: Path,
    share: Share,
    *,
    trials: int,
    slots: int,
    recorder: Recorder,
    scheduler: TrialScheduler | None = None,
) -> bool:
    """Let Tune run ``trials`` proposals of ``search`` with the trainable ``run``, at most ``slots`` at once.

    Without a ``scheduler`` every trial runs to its end. Returns whether Ctrl-C came first.
    """
    loop = _Loop()
    make_tuner = functools.partial(
        tune.Tuner,
        tune.with_resources(run, {"cpu": share.cpus, "gpu": share.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=scheduler,
            num_samples=trials,
            max_concurrent_trials=min(slots, trials),
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=f"tune-{len(list(folder.glob('tune-*'))) + 1}",
            storage_path=str(folder),
            verbose=0,
            progress_reporter=_NoReporter(),
            callbacks=[recorder, loop],
        ),
    )
    asked = search.count_asked()
    # Without a Ctrl-C, Tune leaves its own handler behind, which would swallow the first one later.
    with _settings(), given_back(signal.SIGINT):
        try:
            make_tuner().fit()
        except Exception:
            if not loop.ended:
                raise
            # Tune was reading its own files, which nobody needs and a full disk truncated.
    return search.count_asked() - asked < trials or search.count_open() > 0


class _NoReporter(tune.ProgressReporter):
    """In place of Tune's own for notebooks, which clears whatever the cell has printed."""

    def should_report(self, trials: list[Any], done: bool = False) -> bool:
        return False


class _Loop(tune.Callback):
    """Notes whether Tune's loop over the trials ended normally, and not by an exception."""

    ended = False

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.ended = sys.exception() is None  # Tune calls this on errors too, while it handles them


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Tune's settings for a sweep; other uses of Tune in this process, before or after, are not affected."""
    settings = {
        # A member's report has no objectives yet, and must not end the sweep; the search can handle it.
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        # Trials run where the checks and the control did, so that relative paths in users' code lead to the same files.
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        # Resuming rests on the study and the store, so Tune's own snapshots need not be frequent.
        "TUNE_GLOBAL_CHECKPOINT_S": os.environ.get("TUNE_GLOBAL_CHECKPOINT_S", "60"),
        # Nobody reads the JSON, CSV and TensorBoard files that it would write, with one thread per trial.
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": os.environ.get("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1"),
    }
    before = {name: os.environ.get(name) for name in settings}
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train", "ray.data")]
    levels = [logger.level for logger in loggers]
    handed_on = class_cache.ENV_VARS_TO_PROPAGATE
    # The driver's AWS keys are withheld from trials, which need none; Ray would write them into every node's logs.
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in handed_on if not name.startswith("AWS_")}
    os.environ.update(settings)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        class_cache.ENV_VARS_TO_PROPAGATE = handed_on
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _complete(folder: Path, search: StudySearch, share: Share, context: TrialContext, view: View) -> None:
    """Write the missing records of ended trials, which a killed driver did not write, or a disk lost or did not take.

    Trials that finished are carried out again, on the nodes: their members are in the store.
    """
    there = {record.number for record in records.read_all(folder) if not record.again}
    finished: dict[int, Treatment] = {}
    for number, (point, state) in search.ended().items():
        if number in there:
            continue
        if state == "COMPLETE":
            finished[number] = treatment_of(point)
        else:
            reason = "it came to nothing, and the sweep was killed before it could say why"
            ended = {"FAIL": "failed", "PRUNED": "stopped"}[state]
            records.write(folder, Record(number, treatment_of(point), ended, reason=reason))
    if not finished:
        return
    view.say(f"making lost records again, of trials {', '.join(map(str, finished))}")
    again = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=MAX_RETRIES)(carry_out)
    shared = ray.put(context)
    for record in outcome([again.remote(number, treatment, shared) for number, treatment in finished.items()]):
        records.write(folder, record)


def _control(
    sweep: Sweep, place: Place, prepared: Prepared, store: Store, share: Share, ledger: Ledger, view: View
) -> Record:
    """The control's figures: its members are the scoring ensemble's, so nothing is trained.

    One is told if they hardly learned, and what of the figures may be chance.
    """
    result = run_trial(Treatment(), prepared, sweep.recipe, store, device=share.device)
    record = record_of(CONTROL, result, prepared.split, bounds={})
    records.write(ledger.trials, record)
    say_if_classes_are_not_learned(sweep, prepared.split, result, place, view)
    say_if_objectives_may_be_chance(sweep, prepared.split, result, place, view)
    return record


def limits_of(sweep: Sweep, control: Record) -> dict[str, tuple[str, float]]:
    """For each metric in which trials must not be (much) worse than the control: its direction, and the limit."""
    ways = {name: direction(name, sweep.objectives) for name in sweep.tolerances}
    return {
        name: (way, control.metrics[name] + (1 if way == "min" else -1) * sweep.tolerances[name])
        for name, way in ways.items()
    }


def _name(trial: Any) -> str:
    return f"trial-{trial.config['number']:05d}-{trial.trial_id}"
