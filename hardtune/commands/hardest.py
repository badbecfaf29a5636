"""Which classes and samples are hard: a table, a picture of the hardest of each class, and every score as CSV.

    python -m hardtune hardest sweeps/digits.py
    python -m hardtune hardest sweeps/cifar10.py --estimator rmd --each 12 --figure hardest.pdf
    python -m hardtune hardest --data path/to/images --recipe encoder=pixels --estimator rmd --score
    python -m hardtune hardest sweeps/digits.py --label-noise 0.1 --score

A hard sample is an unusual view, ambiguous or mislabelled: the picture shows which. The CSV has a line for each
training sample: its row in the data set's training split, its file if it has one, its class, and its score by every
estimator with scores in the store, higher = harder. Samples held out for the search's objectives have no
line; --recipe validation=test holds none out, and so scores every training sample (with --score: the sweep did not).

With --label-noise 0.1, a tenth of the samples get a wrong label first, and a table shows which estimators find them: by
such a test one may choose the estimator that is to find those of one's own data. The picture shows their true class.

Scores are read from the store if a sweep computed them; --score computes them here.
"""

from __future__ import annotations

import argparse
import sys

from hardtune.command_line import add_figure_flag, make_room_for, plain_console, show_path
from hardtune.commands.subject import add_subject_flags, available, subject_of, with_scores
from hardtune.errors import InputError


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the subject's flags, whose scores to show, and for how many samples."""
    add_subject_flags(flags)
    flags.add_argument(
        "--estimator",
        default="aum",
        metavar="NAME",
        help="estimator to rank by: aum, el2n, rmd, … (default: %(default)s)",
    )
    flags.add_argument(
        "--each", type=int, default=10, metavar="N", help="samples per class in the picture (default: %(default)s)"
    )
    add_figure_flag(flags, "hardest")


def run(options: argparse.Namespace) -> int:
    """Print, draw and write it; 0."""
    from hardtune.cautions import cautions_about_scores
    from hardtune.data import files_of
    from hardtune.hardness.estimators import ESTIMATORS
    from hardtune.needs import Needs
    from hardtune.report.hardest import class_table, finding_table, write_csv
    from hardtune.report.hardest_figure import hardest_figure
    from hardtune.report.tables import show_table
    from hardtune.scoring import gather

    name: str = options.estimator
    if options.each < 1:
        raise InputError(f"--each must be at least 1, got {options.each}")
    if options.figure is not None:
        make_room_for(options.figure)  # report problems with it before anything is trained
    subject = subject_of(options, options.recipe)  # a script may register estimators
    needs = Needs.of_scores([name])
    subject, device = with_scores(subject, needs, device=options.device, score=options.score)
    everything = available(subject, device)
    found = gather(subject.split, subject.recipe, everything, subject.store, device=device).scores
    for caution in cautions_about_scores(subject.split, [name], subject.data):
        print(f"note: {caution}", file=sys.stderr)
    train, classes, scores = subject.split.train, subject.split.classes, found[name]
    rows, origin, title = subject.split.kept, subject.dataset.traced(), f"{name} on {subject.name}"
    true_labels = origin.labels[rows]
    wrong = true_labels != train.labels
    console = plain_console()
    show_table(console, class_table(scores, train.labels, classes, title))  # first: the disk may take no files
    if wrong.any() and not wrong.all():
        show_table(console, finding_table(found, wrong, sorted(ESTIMATORS.keys() - found.keys())))
    figure = options.figure or subject.storage / "hardest" / f"{subject.name}-{name}.png"
    make_room_for(figure)
    captions = [f"{row}\n{classes[true_labels[n]]}" if wrong[n] else str(row) for n, row in enumerate(rows)]
    hardest_figure(train, scores, classes, captions, options.each, title, figure)
    known = true_labels if wrong.any() else None
    write_csv(found, train.labels, classes, rows, files_of(subject.data)[0], figure.with_suffix(".csv"), known)
    for label, path in (("figure", figure), ("scores", figure.with_suffix(".csv"))):
        show_path(console, label, path)
    return 0
