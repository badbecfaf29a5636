"""A trial as Ray Tune runs it: one report per member, and a last one that says it is finished."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ray import tune

from hardtune.data import Split
from hardtune.errors import TRANSIENT, DivergedError, InputError, first_line, in_a_line, where
from hardtune.member import Prepared
from hardtune.recipe import Recipe
from hardtune.report import records
from hardtune.report.records import Record
from hardtune.store import Store
from hardtune.sweep.search import FAILED, FINISHED, SHORTFALL, WARNING
from hardtune.sweep.space import numbered
from hardtune.training.worker import configure_process
from hardtune.treatment import Treatment
from hardtune.trial import Progress, Result, run_trial, std_over_members
from hardtune.warned import collected


@dataclass(frozen=True)
class TrialContext:
    """What all trials of a sweep share; Ray keeps one copy on each node."""

    prepared: Prepared
    recipe: Recipe
    store_root: str
    device: str
    cpus: float
    at_once: int
    """Members that train in parallel."""
    bounds: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """For each metric, its direction and the value that a trial must not be worse than."""


def trainable(config: dict[str, Any], context: TrialContext, folder: Path, objectives: Sequence[str]) -> None:
    """Run one treatment and leave its record in ``folder``.

    A finished member's logits are its whole state and are in the store, where every node finds them; so a restarted
    trial trains only what is missing. The record is written before the last report, so whatever dies after that, every
    trial that has ended in the study has one.

    Args:
        config: a point of the space, and the trial's ``number``.
        objectives: metrics that the search and the scheduler look at. All others are in the record; Tune would keep
            statistics of each, and write them all down whenever a trial ends.
    """
    # If a trial is stopped while its next members are in training, the worker is reused when those are done; by
    # default, Tune would give up on the worker, and on the trial that was to follow, after two seconds.
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(24 * 3600)
    record = carry_out(*numbered(config), context, on_member=report_member)
    records.write(folder, record)
    if record.state == "failed":
        tune.report({FAILED: True, FINISHED: False})
        return
    tune.report({FINISHED: True, SHORTFALL: record.shortfall, **{name: record.metrics[name] for name in objectives}})


def carry_out(
    number: int,
    treatment: Treatment,
    context: TrialContext,
    on_member: Callable[[Progress, str], None] = lambda progress, warnings: None,
) -> Record:
    """The record of a treatment, whose members are found in the store or trained.

    ``on_member(progress, warnings so far)`` is called after each.
    """
    configure_process(context.cpus)
    try:
        with collected() as said:
            result = run_trial(
                treatment,
                context.prepared,
                context.recipe,
                Store(context.store_root),
                device=context.device,
                at_once=context.at_once,
                on_member=lambda progress: on_member(progress, "; ".join(said)),
            )
    except (InputError, DivergedError) as error:
        if isinstance(error.__cause__, TRANSIENT):  # weights that cannot be downloaded at the moment, say
            raise
        # It would fail the same way again, so do not retry but give the reason.
        return Record(number, treatment, "failed", reason=str(error), warning="; ".join(said))
    except Exception as error:
        place = where(error)  # in a user's loss or model, say
        if not place or isinstance(error, TRANSIENT):
            raise
        if isinstance(error, RuntimeError):  # torch's for a device in trouble, too: perhaps not the next time
            raise RuntimeError(f"{first_line(error)}{place}") from error
        return Record(number, treatment, "failed", reason=f"{in_a_line(error)}{place}", warning="; ".join(said))
    record = record_of(number, result, context.prepared.split, context.bounds)
    return dataclasses.replace(record, warning="; ".join(filter(None, [record.warning, *said])))


def record_of(number: int, result: Result, split: Split, bounds: Mapping[str, tuple[str, float]]) -> Record:
    """The record of a finished trial."""
    metrics = result.metrics()
    columns = {
        "size": np.array([row.count for row in result.classes]),
        "weight": np.array([row.weight for row in result.classes], np.float32),  # as exact as in training
        "offset": np.array([row.offset for row in result.classes], np.float32),
        "posthoc": np.array([row.posthoc for row in result.classes], np.float32),
        "hardness": np.array([row.hardness for row in result.classes], np.float64),
        "recall": result.held_out.recall.mean(axis=0),
        "recall_std": std_over_members(result.held_out.recall),
        "test_size": np.bincount(split.test.labels, minlength=split.num_classes),
        "test_recall": result.test.recall.mean(axis=0),
        "test_recall_std": std_over_members(result.test.recall),
        "test_precision": result.test.precision.mean(axis=0),
        "test_precision_std": std_over_members(result.test.precision),
        "test_f1": result.test.f1.mean(axis=0),
        "test_f1_std": std_over_members(result.test.f1),
        "test_ece": result.diagnostics.class_ece,
        "test_overconfidence": result.diagnostics.class_overconfidence,
    }
    behind = [
        control - metrics[name] if direction == "max" else metrics[name] - control
        for name, (direction, control) in bounds.items()
    ]
    return Record(
        number,
        result.treatment,
        "finished",
        metrics,
        per_class={
            name: {key: None if np.isnan(column[k]) else column[k].item() for key, column in columns.items()}
            for k, name in enumerate(split.classes)
        },
        members=result.by_member(),
        left_out=result.left_out,
        recalls={
            name: {"members": recalls.tolist(), "left_out": left_out}
            for name, recalls, left_out in zip(split.classes, result.test.recall.T, result.recall_left_out, strict=True)
            if not np.isnan(recalls).any()
        },
        curves={
            name: {field: values.tolist() for field, values in vars(curves).items()}
            for name, curves in (("members", result.diagnostics.members), ("ensemble", result.diagnostics.ensemble))
        },
        corruptions=result.corruption_table(),
        weight_histogram=[] if result.weights is None else result.weights.histogram.tolist(),
        shortfall=max(behind, default=0.0),
        warning=result.warning,
    )


def report_member(progress: Progress, warning: str) -> None:
    """Report one more member to Tune, with the warnings so far, since a scheduler may stop the trial here.

    There is nothing to checkpoint: the member is in the store, where a restart on any node finds it.
    """
    tune.report(
        {
            FINISHED: False,
            "members": progress.done,
            "trained": progress.trained,
            WARNING: warning,
            **{f"members/{name}": value for name, value in progress.held_out.items()},
        }
    )
