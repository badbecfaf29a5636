"""What a sweep, or one treatment, would do to each class, without running it.

    python -m hardtune plan sweeps/digits.py                       every corner of the sweep's space
    python -m hardtune plan sweeps/digits.py --alpha 1.5           one treatment of the sweep's data
    python -m hardtune plan --data digits --alpha 1 --estimator rmd --policy shift --recipe encoder=pixels --score

One treatment: a row for each class, with its hardness, its size, what pruning and undersampling drop, what
oversampling adds and from where, and the reason if it is infeasible. A sweep: a row for each distinct plan at the ends
of its ranges (of a function: for 256 random treatments), and whether it is feasible. Both write a figure and a table of
all classes (CSV).

Class counts follow from scores, read from the store if a sweep computed them; --score computes them here.
Exit codes: 0 everything is feasible, 1 something is not, 2 invalid input.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hardtune.command_line import add_figure_flag, make_room_for, plain_console, show_path
from hardtune.commands.subject import add_subject_flags, subject_of, with_scores
from hardtune.errors import InputError
from hardtune.treatment import RESAMPLING, Treatment

if TYPE_CHECKING:
    from hardtune.member import Prepared
    from hardtune.report.plans import Planned


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the subject's flags, one for each field, and where the figure goes."""
    add_subject_flags(flags)
    treatment = flags.add_argument_group("one treatment, instead of the script's space")
    meaning = _docstrings(Treatment)
    for field in dataclasses.fields(Treatment):
        if field.name in RESAMPLING:
            number = isinstance(field.default, float)
            means = meaning[field.name][0].lower() + meaning[field.name][1:]
            treatment.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=float if number else str,
                metavar="X" if number else "NAME",
                help=f"{means} (default: what the script's space fixes, or {field.default})",
            )
    add_figure_flag(flags, "plans")


def run(options: argparse.Namespace) -> int:
    """Print and draw the plans; 0 if all of them are feasible, else 1."""
    from hardtune.cautions import cautions_about_scores, chance_in_hardness
    from hardtune.checks import check_names, check_sources
    from hardtune.needs import needs_of
    from hardtune.rehearsal import rehearse
    from hardtune.report.csv_tables import write_csv
    from hardtune.report.plans import plan_rows, plan_table, sweep_table
    from hardtune.report.plans_figure import plan_figure, sweep_figure
    from hardtune.report.tables import show_table
    from hardtune.scoring import gather
    from hardtune.sweep.space import ASKED, corners

    if options.figure is not None:
        make_room_for(options.figure)  # report problems with it before anything is trained
    subject = subject_of(options, options.recipe)
    given = {name: getattr(options, name) for name in RESAMPLING if getattr(options, name) is not None}
    if given or subject.sweep is None:
        asked = [Treatment(**{**subject.fixed, **given})]
    else:
        asked = corners(subject.sweep.space)
    for treatment in asked:
        check_names(treatment)
        if given and (treatment.prune == "none") != (treatment.prune_rate == 0):
            raise InputError("--prune and --prune-rate go together: the one says among whom, the other how many")
    treatments = _only_counts(asked)
    check_sources(subject.split, treatments, every_class=subject.sweep is not None and not given)
    rehearse(subject.split, treatments)
    needs = needs_of(treatments)
    for caution in cautions_about_scores(subject.split, needs.estimators, subject.data):
        print(f"note: {caution}", file=sys.stderr)
    subject, device = with_scores(subject, needs, device=options.device, score=options.score)
    prepared = gather(subject.split, subject.recipe, needs, subject.store, device=device)
    for caution in chance_in_hardness(subject.split, prepared.scores, treatments):
        print(f"note: {caution}", file=sys.stderr)
    plans = [_planned(prepared, treatment) for treatment in treatments]

    console = plain_console()
    one = len(plans) == 1
    title = f"{plans[0].treatment} on {subject.name}" if one else f"what {subject.name} would do to each class"
    if not given and subject.sweep is not None and callable(subject.sweep.space):
        title += f", by {ASKED} random treatments"  # a function has no corners
    name = f"{subject.name}-{_slug(str(plans[0].treatment))}" if one else subject.name
    figure = options.figure or subject.storage / "plans" / f"{name}.png"
    if one and plans[0].problem:
        raise InputError(plans[0].problem)
    show_table(console, (plan_table if one else sweep_table)(plans, title))  # first: the disk may take no files
    make_room_for(figure)
    (plan_figure if one else sweep_figure)(plans, title, figure)
    write_csv(plan_rows(plans), figure.with_suffix(".csv"))
    for label, path in (("figure", figure), ("table", figure.with_suffix(".csv"))):
        show_path(console, label, path)
    return 0 if all(plan.feasible for plan in plans) else 1


def _only_counts(treatments: Sequence[Treatment]) -> list[Treatment]:
    """The distinct treatments, ignoring what does not affect class counts, such as the loss."""
    distinct = dict.fromkeys(treatment.resampling() for treatment in treatments)
    return [treatment for treatment in distinct if not treatment.is_control] or [Treatment()]


def _planned(prepared: Prepared, treatment: Treatment) -> Planned:
    from hardtune.checks import class_plans
    from hardtune.report.plans import Planned

    try:
        return Planned(treatment, class_plans(prepared, treatment))
    except InputError as error:
        return Planned(treatment, (), str(error))


def _slug(text: str) -> str:
    return re.sub(r"[^\w.=+]+", "-", text.replace("α", "alpha")).strip("-")


def _docstrings(of: type) -> dict[str, str]:
    """Each field's docstring in a dataclass, from its source."""
    (body,) = ast.parse(inspect.getsource(of)).body
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(below, ast.Expr):
            text = inspect.cleandoc(ast.literal_eval(below.value))
            found[field.target.id] = " ".join(text.split()).rstrip(".").replace("``", "")
    return found
