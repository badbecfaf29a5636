"""The front that a search found, trained once more: what it gained by luck is lost again, and the rest may be told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardtune.errors import InputError
from hardtune.recipe import Recipe
from hardtune.report.comparison import Comparison, figures_of_members
from hardtune.report.pareto import front
from hardtune.report.sweeps import kept
from hardtune.report.table import on_test
from hardtune.sweep.definition import Sweep


def confirming(sweep: Sweep, storage: Path, changes: Mapping[str, Any]) -> tuple[Sweep, str]:
    """A sweep that tries the front of the latest search of this name again, and a sentence that says so.

    A search chooses among many by figures that are luck in part: of the samples that were held out, of the scores, of
    the networks. The seed is another here, so all of these are drawn anew, and the treatments' figures on the test
    split flatter nobody: they are compared with the control's, paired by member. ``changes`` are of the search's
    recipe.

    Raises:
        InputError: there is no such search, it has not finished, or nothing on its front changes anything.
    """
    if sweep.treatments is not None:
        raise InputError("--confirm is for searches, and this sweep tries a list of treatments, chosen by nobody")
    former = [one for one in kept(storage, sweep.name) if one.is_search]
    if not former:
        raise InputError(f"there is no search named {sweep.name} in {storage}: run it first, without --confirm")
    search = former[-1]
    treatments = [record.treatment for record in front(search.records, search.objectives) if not record.is_control]
    if not treatments:
        raise InputError(f"nothing on the front of {search.id} but its control, so there is nothing to confirm")
    objectives = [on_test(name) for name in search.objectives if name.startswith("final/")]
    metrics = tuple(name for name in objectives if name in figures_of_members()) or Comparison.metrics
    asked = Recipe(**search.content["recipe"])
    seed = asked.seed + 1
    confirmation = dataclasses.replace(
        sweep,
        name=f"{sweep.name}-confirmed",
        recipe=dataclasses.replace(asked, **{**changes, "seed": seed}),
        space=treatments,
        objectives=search.objectives,
        comparisons=[Comparison(tuple(treatments), metrics=metrics)],
        racing=0.0,
    )
    many = "the treatment" if len(treatments) == 1 else f"the {len(treatments)} treatments"
    return confirmation, (
        f"confirming {many} on the front of {search.id} with seed {seed}: other held-out samples, scores and networks"
    )
