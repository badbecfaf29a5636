"""Retraining the front that a search found, with another seed, to get figures free of selection bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardtune.errors import InputError
from hardtune.recipe import Recipe
from hardtune.report.comparison import Comparison, metrics_of
from hardtune.report.metric_names import figures_of_members
from hardtune.report.sweeps import Kept, kept
from hardtune.sweep.definition import Sweep

if TYPE_CHECKING:
    from hardtune.registry import Registry
    from hardtune.treatment import Treatment


def _has_trials(search: Kept) -> bool:
    return any(record.state == "finished" and not record.is_control for record in search.records)


@dataclasses.dataclass(frozen=True)
class Confirmation:
    """A search's front, to be tried again."""

    sweep: Sweep
    search: Kept
    says: str
    """What it does, in one sentence."""


def confirming(sweep: Sweep, storage: Path, changes: Mapping[str, Any], wanted: str | None = None) -> Confirmation:
    """A sweep that retrains the current front of the latest search of this name, or of the one whose id is ``wanted``.

    A search chooses among many treatments by figures that depend partly on chance: on the held-out samples, the scores
    and the networks. This sweep draws all of these anew with another seed (held-out samples that are a validation split
    of the data's own stay), so the treatments' figures on the test split
    are not inflated by selection (unless the search chose on that split); they are compared with the control's, paired
    by member. ``changes`` apply to the search's recipe.

    Raises:
        InputError: there is no such search, it has found nothing yet, nothing on its front changes anything, the
            seed is the search's own, or code of one's own that these treatments name is not what the search had.
    """
    from hardtune import member
    from hardtune.sweep.ledger import check_same_code

    if sweep.treatments is not None:
        raise InputError("--confirm is for searches, and this sweep tries a list of treatments, chosen by nobody")
    former = [one for one in kept(storage, sweep.name) if one.is_search and _has_trials(one)]
    if not former:
        raise InputError(
            f"no search named {sweep.name} has found anything in {storage}: run it first, without --confirm"
        )
    ids = [one.id for one in former]
    if wanted is not None and wanted not in ids:
        raise InputError(f"there is no search {wanted!r} to confirm in {storage}: choose from {', '.join(ids)}")
    search = former[-1 if wanted is None else ids.index(wanted)]
    trials = [record for record in search.records if not record.is_control]
    best = [record for record in search.front if not record.is_control]
    treatments = [record.treatment for record in best]
    if not treatments:
        raise InputError(f"nothing on the front of {search.id} but its control, so there is nothing to confirm")
    asked = Recipe(**search.asked_recipe)
    recipe = dataclasses.replace(asked, **{"seed": asked.seed + 1, **changes})
    if recipe.seed == asked.seed:
        raise InputError(f"--confirm takes another seed than the search's, so another than {asked.seed}")
    named = _with_the_searchs_name(treatments, asked, recipe)
    check_same_code(search, named, "another treatment would be confirmed: restore it, or search again")
    scaled = recipe.validation != "test"
    metrics = metrics_of(search.objectives, figures_of_members(["test"], scaled=scaled))
    confirmation = dataclasses.replace(
        sweep,
        name=f"{sweep.name}-confirmed",
        recipe=recipe,
        space=treatments,
        first=(),
        objectives=search.objectives,
        comparisons=[Comparison(tuple(treatments), metrics=metrics)],
        racing=0.0,
    )
    many = "the treatment" if len(treatments) == 1 else f"the {len(treatments)} treatments"
    anew = "scores and networks"
    if isinstance(recipe.validation, float):
        anew = f"held-out samples, {anew}"
    elif not scaled:
        before = search.recipe.validation == "test"
        anew += ", on the test split as before" if before else ", trained on all training samples"
    there, here = (", ".join(map(str, numbers)) for numbers in ([one.number for one in best], range(len(best))))
    numbered = f"there {there} of {len(trials)} trials, here {here}"
    said = f"confirming {many} on the front of {search.id} ({numbered}) with seed {recipe.seed}: other {anew}"
    then = search.training_version
    if then != member.VERSION:  # no reason to refuse: the control is trained anew, too
        said += f" (note: hardtune, too, trains otherwise than when it ran, by version {member.VERSION}, not {then})"
    return Confirmation(confirmation, search, said)


def _with_the_searchs_name(
    treatments: Sequence[Treatment], asked: Recipe, recipe: Recipe
) -> Iterator[tuple[Registry[Any], str]]:
    """What the networks are made by under the same name as in the search, each with its registry."""
    from hardtune.hardness.encoders import ENCODERS
    from hardtune.needs import named_in, needs_of
    from hardtune.training.models import MODELS

    for treatment in treatments:
        yield from named_in(treatment.canonical())
    if recipe.model == asked.model:
        yield MODELS, recipe.model
    kind = recipe.encoder.partition(":")[0]
    if recipe.encoder == asked.encoder and kind in ENCODERS and needs_of(treatments).features:
        yield ENCODERS, kind
