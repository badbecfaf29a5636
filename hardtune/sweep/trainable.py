"""A trial as Ray Tune runs it: one report and one checkpoint a member, and a last report that says it is finished."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from ray import tune

from hardtune.errors import InputError
from hardtune.member import Prepared
from hardtune.recipe import Recipe
from hardtune.store import Store
from hardtune.sweep.prepare import use_threads
from hardtune.sweep.search import FAILED, FINISHED, SHORTFALL
from hardtune.sweep.space import treatment_of
from hardtune.training.fit import DivergedError
from hardtune.trial import Progress, Result, run_trial


def trainable(
    config: dict[str, Any],
    prepared: Prepared,
    recipe: Recipe,
    root: str,
    device: str,
    cpus: float,
    bounds: dict[str, tuple[str, float]],
) -> None:
    """Run one treatment. ``bounds`` maps metrics to the (direction, figure) of the control that it must not miss.

    A finished member's logits are its whole state and lie in the store, where every node finds them; so a trial that
    starts again trains only what is missing, and its checkpoint merely says how far it came.
    """
    use_threads(cpus)
    point = {name: value for name, value in config.items() if name != "number"}
    try:
        result = run_trial(treatment_of(point), prepared, recipe, Store(root), device=device, on_member=_report_member)
    except (InputError, DivergedError) as error:
        # It would fail the same way again: no retry, a reason instead.
        tune.report({FAILED: str(error), FINISHED: False})
        return
    tune.report(
        {
            FINISHED: True,
            SHORTFALL: _shortfall(result.metrics(), bounds),
            "per_class": per_class(result, prepared.split.classes),
            **result.metrics(),
        }
    )


def per_class(result: Result, classes: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """By class: its size in training, and the members' mean recall on held-out and on test samples."""
    held_out, test = result.held_out.recall.mean(axis=0), result.test.recall.mean(axis=0)
    return {
        name: {
            "size": int(result.class_counts[k]),
            "recall": float(held_out[k]),
            "test_recall": float(test[k]),
        }
        for k, name in enumerate(classes)
    }


def _report_member(progress: Progress) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "progress.json").write_text(json.dumps({"members": progress.done}))
        tune.report(
            {
                FINISHED: False,
                "members": progress.done,
                "trained": progress.trained,
                **{f"members/{name}": value for name, value in progress.held_out.items()},
            },
            checkpoint=tune.Checkpoint.from_directory(folder),
        )


def _shortfall(metrics: dict[str, float], bounds: dict[str, tuple[str, float]]) -> float:
    """How far the worst bounded metric is behind the control's; at most 0 where none is."""
    behind = [
        control - metrics[name] if direction == "max" else metrics[name] - control
        for name, (direction, control) in bounds.items()
    ]
    return max(behind, default=0.0)
