"""What a sweep says of its space, its data and its trials before the first of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from hardtune.cautions import (
    cautions,
    chance_in_hardness,
    chance_in_the_ece,
    chance_in_the_gap,
    chance_in_the_worst_recall,
    copies_that_matter,
    known_files,
    never_recognised,
)
from hardtune.checks import preview_plan
from hardtune.data import Split
from hardtune.data.copies import write_copies
from hardtune.errors import InputError, in_a_line
from hardtune.member import Prepared
from hardtune.needs import FROM_POOL, needs_pool
from hardtune.report.levelling import GAPS
from hardtune.resampling.oversamplers import OVERSAMPLERS
from hardtune.sweep.definition import Place, Sweep
from hardtune.sweep.live import View
from hardtune.sweep.search import StudySearch
from hardtune.sweep.space import count, without_effect
from hardtune.treatment import Treatment
from hardtune.trial import Result


def say_what_has_no_effect(sweep: Sweep, view: View) -> None:
    """Say which trials will repeat others, and what is searched in vain."""
    there = count(sweep.space)
    if there is not None and there < sweep.trials:
        treatments = "1 treatment" if there == 1 else f"{there} treatments"
        view.say(
            f"the space has {treatments} beside the control, so {sweep.trials - there} of the {sweep.trials} trials "
            "will repeat what was tried"
        )
    for name in without_effect(sweep.space):
        view.say(f"note: the space searches {name}, which makes no difference to any treatment in it")


def say_if_the_pool_has_no_effect(sweep: Sweep, treatments: Sequence[Treatment], place: Place, view: View) -> None:
    """Say that no treatment draws on the sweep's pool, which takes a while to read.

    A function may yet propose one that does, and a confirmation needs the pool that its search had.
    """
    if sweep.pool is None or callable(sweep.space) or place.data_of is not None or any(map(needs_pool, treatments)):
        return
    drawing = [name for name, one in sorted(OVERSAMPLERS.items()) if one.needs in FROM_POOL]
    view.say(
        f"note: the pool {sweep.pool} makes no difference to any treatment in the space: "
        f"those draw on it that resample with oversample {', '.join(drawing)}"
    )


def say_what_is_doubtful(sweep: Sweep, split: Split, treatments: Sequence[Treatment], folder: Path, view: View) -> None:
    """Say what makes figures on these data less telling than they look, and list copies of images in ``folder``."""
    found = copies_that_matter(split, treatments)
    files = known_files(split, sweep.data) if found else ((), ())
    for caution in cautions(split, treatments, found, files, choosing=sweep.treatments is None):
        view.say(f"note: {caution}")
    if found:
        path = folder / "copies.csv"
        try:
            write_copies(found, split.classes, files, path)
        except OSError as error:  # whose images these are is no reason to stop
            view.say(f"note: the copies could not be listed in {path}: {in_a_line(error)}")
        else:
            view.whole(f"these copies are listed in {path}, each beside the first image that it is equal to")


def say_if_hardness_may_be_chance(
    prepared: Prepared, treatments: Sequence[Treatment], place: Place, view: View
) -> None:
    """Say by which estimators classes are about equally hard, which a subset may be too small to tell."""
    for caution in () if place.subset else chance_in_hardness(prepared.split, prepared.scores, treatments):
        view.say(f"note: {caution}")


def say_if_classes_are_not_learned(sweep: Sweep, split: Split, control: Result, place: Place, view: View) -> None:
    """Say that the control's networks do not recognise whole classes, as after too few epochs of few samples."""
    caution = "" if place.subset else never_recognised(control.held_out.recall, split, sweep.recipe.epochs)
    if caution:
        view.say(f"note: {caution}")


def say_if_objectives_may_be_chance(sweep: Sweep, split: Split, control: Result, place: Place, view: View) -> None:
    """Say how much of the control's recall gap, worst recall and ECE may be chance, where a search goes by them.

    Of ``ece_adaptive`` and ``ece_classwise`` chance makes other shares.
    """
    if sweep.treatments is not None or place.subset:
        return
    found, figures = control.held_out, control.held_out.member_mean
    said = []
    asked = {name.partition("/")[2] for name in sweep.objectives}
    if asked.intersection(GAPS):
        said.append(chance_in_the_gap(figures["recall_gap"], found.recall.mean(axis=0), split))
    if "worst_recall" in asked:
        said.append(chance_in_the_worst_recall(found.recall.mean(axis=0), split))
    if "final/ece" in sweep.objectives:  # an ensemble's own is another
        said.append(chance_in_the_ece(figures["ece"], control.held_out_logits, split))
    for caution in filter(None, said):
        view.say(f"note: {caution}")


def say_what_is_infeasible(
    sweep: Sweep, prepared: Prepared, treatments: Sequence[Treatment], place: Place, view: View
) -> None:
    """Say where trials would fail; ``InputError`` if all would, or one of a list.

    A subset may be too small for what the whole data allow, so there nothing is said. A confirmation's list
    was feasible by the search's scores, and nobody can take from it what is not by these.
    """
    if place.subset:
        return
    resampled = [treatment.resampling() for treatment in treatments]  # a preview of a million samples takes a second
    found = {treatment: _infeasible(prepared, treatment) for treatment in dict.fromkeys(resampled)}
    problems = [problem for treatment in resampled if (problem := found[treatment]) is not None]
    if not problems:
        return
    confirms = place.data_of is not None
    of_a_list = sweep.treatments is not None and not confirms
    if of_a_list or len(problems) == sum(not treatment.is_control for treatment in treatments):
        raise problems[0]
    said = "that the space was tried at are not feasible, so none like them is proposed"
    if confirms:
        said = "are not feasible by this seed's scores, and trials like them will fail"
    shown = "" if confirms else " (python -m hardtune plan shows all, given this sweep's flags)"
    view.say(f"note: {len(problems)} of {len(treatments)} treatments {said}: {problems[0]}{shown}")


def say_what_was_redrawn(search: StudySearch, view: View) -> None:
    """Say where most proposals of this process are not the search's own: its space has few treatments."""
    if search.proposed >= 5 and 2 * search.redrawn > search.proposed:
        view.say(
            f"note: {search.redrawn} of {search.proposed} proposals repeated what was tried, and some of their values "
            "were redrawn at random, as the space has few treatments for so many trials"
        )


class Feasible:
    """Whether treatments can be carried out on these data, which a search asks of many that resample alike."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._known: dict[Treatment, bool] = {}

    def __call__(self, treatment: Treatment) -> bool:
        resampling = treatment.resampling()
        if resampling not in self._known:
            with warnings.catch_warnings(action="ignore"):  # the trial gives them
                try:
                    self._known[resampling] = _infeasible(self._prepared, resampling) is None
                except Exception:  # of a user's policy, say: the trial tells it, with its place
                    return True
        return self._known[resampling]


def _infeasible(prepared: Prepared, treatment: Treatment) -> InputError | None:
    """Why it cannot be carried out, or None if it can."""
    try:
        preview_plan(prepared, treatment)
    except InputError as error:
        return error
    return None
