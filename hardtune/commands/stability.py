"""How many members a score needs: how far ensembles agree on which samples are hard.

    python -m hardtune stability sweeps/digits.py
    python -m hardtune stability sweeps/digits.py --estimator aum el2n forgetting --rate 0.5
    python -m hardtune stability sweeps/digits.py --members 16 --score      with more members than the sweep's

For each estimator and number of members, two views. The paper's (HBR, arXiv 2504.07031): how much class sizes and the
pruned set change when a member is added; such ensembles are nested, so this shrinks like 1/members by arithmetic
alone. The fairer one: how far two ensembles that share no member agree (bootstrap ensembles if members are few).
Then all pairs of estimators with scores in the store are compared: rank correlation, and overlap of the sets that
they would prune. Writes two figures, and all that they show as a table (CSV): each class and pair of estimators, too.

Scores are read from the store if a sweep computed them; --score computes them here.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from hardtune.command_line import add_figure_flag, make_room_for, plain_console, show_path
from hardtune.commands.subject import Subject, add_subject_flags, available, subject_of, with_scores
from hardtune.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hardtune.hardness.stability import Stability
    from hardtune.needs import Needs


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the subject's flags, and what to compare and how."""
    add_subject_flags(flags)
    how = flags.add_argument_group("what is compared")
    how.add_argument(
        "--estimator",
        action="extend",
        nargs="+",
        metavar="NAME",
        help="estimators to check: el2n, rmd, … (default: aum)",
    )  # a default here would be added to what is given
    how.add_argument("--members", type=int, metavar="J", help="how many members (default: the recipe's)")
    how.add_argument("--rate", type=float, default=0.3, metavar="X", help="share to prune (default: %(default)s)")
    how.add_argument(
        "--policy", metavar="NAME", help="for the class sizes at alpha = 1 (default: the script's, or paper)"
    )
    how.add_argument(
        "--draws", type=int, default=20, metavar="N", help="ensemble pairs per size (default: %(default)s)"
    )
    add_figure_flag(flags, "stability", beside="others")


def run(options: argparse.Namespace) -> int:
    """Print and draw it all; 0."""
    from hardtune.hardness.stability import pruned_count
    from hardtune.needs import Needs
    from hardtune.report.stability import comparison_tables, stability_table, verdict, write_csv
    from hardtune.report.stability_figure import comparison_figure, stability_figure
    from hardtune.report.tables import show_table
    from hardtune.scoring import gather

    estimators: list[str] = options.estimator or ["aum"]
    if options.figure is not None:
        make_room_for(options.figure)  # report problems with it before anything is trained
    more = {} if options.members is None else {"scoring_members": options.members}
    subject = subject_of(options, options.recipe, **more)
    _check(estimators, options)  # now, since a script may register estimators
    if subject.recipe.scoring_members < 2:
        raise InputError("one member cannot disagree with itself: give --members 2 or more")
    pruned_count(len(subject.split.train), options.rate)
    needs = Needs.of_scores(estimators)
    subject, device = with_scores(subject, needs, device=options.device, score=options.score)
    members = _members(subject, needs, device)
    found = {name: _assess(subject, name, members[name], options) for name in estimators}
    everything = available(subject, device)
    scores = gather(subject.split, subject.recipe, everything, subject.store, device=device).scores

    figure = options.figure or subject.storage / "stability" / f"{subject.name}.png"
    make_room_for(figure)
    others = figure.with_name(f"{figure.stem}-estimators{figure.suffix}")
    table = figure.with_suffix(".csv")
    stability_figure(found, subject.split.classes, options.rate, f"{subject.name}: how settled scores are", figure)
    comparison_figure(scores, options.rate, f"{subject.name}: how far estimators agree", others)
    write_csv(found, subject.split.classes, scores, options.rate, table)
    console = plain_console()
    for name, stability in found.items():
        show_table(console, stability_table(stability, options.rate, f"{name} on {subject.name}"))
        console.print(f"{name}: {verdict(stability, options.rate)}\n")
    for part in comparison_tables(scores, options.rate, f"estimators on {subject.name}", console.width):
        show_table(console, part)
    for label, path in (("figures", figure), ("       ", others), ("table", table)):
        show_path(console, label, path)
    return 0


def _check(estimators: list[str], options: argparse.Namespace) -> None:
    from hardtune.hardness.estimators import ESTIMATORS
    from hardtune.resampling.policies import POLICIES

    for name in estimators:
        if not ESTIMATORS[name].measured:
            with_members = ", ".join(sorted(e.name for e in ESTIMATORS.values() if e.measured))
            what = "one frozen encoder, which has" if ESTIMATORS[name].source == "features" else "the data, which have"
            raise InputError(f"the scores of {name!r} come from {what} no members: choose from {with_members}")
    if options.policy is not None:
        POLICIES[options.policy]
    if options.members is not None and options.members < 2:
        raise InputError(f"--members must be at least 2, got {options.members}")
    if not 0 < options.rate < 1:
        raise InputError(f"--rate must be between 0 and 1, got {options.rate:g}")
    if options.draws < 1:
        raise InputError(f"--draws must be at least 1, got {options.draws}")


def _members(subject: Subject, needs: Needs, device: str) -> dict[str, NDArray[np.float32]]:
    """Each needed estimator's scores (J, N)."""
    import numpy as np

    from hardtune.scoring_member import findings_of

    found = [
        findings_of(subject.split, subject.recipe, needs, member, subject.store, device=device)
        for member in range(subject.recipe.scoring_members)
    ]
    return {name: np.stack([member[name] for member in found]) for name in needs.estimators}


def _assess(subject: Subject, name: str, members: NDArray[np.float32], options: argparse.Namespace) -> Stability:
    import numpy as np

    from hardtune.hardness.estimators import ESTIMATORS
    from hardtune.hardness.stability import assess
    from hardtune.resampling.counts import class_counts

    split = subject.split
    policy = options.policy or subject.fixed.get("policy", "paper")
    have = np.bincount(split.train.labels, minlength=split.num_classes)

    def sizes(hardness: NDArray[np.float64]) -> NDArray[np.int64]:
        return class_counts(
            hardness, have, 1.0, policy, low_is_hard=ESTIMATORS[name].low_is_hard, classes=split.classes
        )

    return assess(
        members,
        split.train.labels,
        split.num_classes,
        sizes=sizes,
        rate=options.rate,
        draws=options.draws,
        seed=subject.recipe.seed,
    )
