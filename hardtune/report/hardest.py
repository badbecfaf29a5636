"""Which classes and samples are hard, as tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hardtune import csv_files
from hardtune.errors import InputError
from hardtune.evaluation.ood import ood_metrics
from hardtune.hardness.estimators import class_hardness
from hardtune.report.tables import plain_table

SHARE = 0.1
"""The hardest share of all samples, whose classes are counted."""


def by_hardness(scores: NDArray[np.floating], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.intp]:
    """The classes, the hardest first."""
    return np.argsort(-class_hardness(scores, labels, num_classes), kind="stable")


def class_table(scores: NDArray[np.floating], labels: NDArray[np.int64], classes: Sequence[str], title: str) -> Table:
    """A row for each class, the hardest first.

    Args:
        scores: (N,), higher = harder.
        labels: (N,) in 0..K-1.
        classes: the names of the K classes.
    """
    hardness = class_hardness(scores, labels, len(classes))
    count = max(1, round(SHARE * len(scores)))
    among = np.bincount(labels, weights=_in_hardest(scores, count), minlength=len(classes))
    sizes = np.bincount(labels, minlength=len(classes))
    table = plain_table(title)
    table.add_column("class", overflow="fold")
    for column in ("samples", "hardness", "of all", f"of the hardest {SHARE:.0%}"):
        table.add_column(column, justify="right", no_wrap=True)
    for k in by_hardness(scores, labels, len(classes)):
        shares = f"{sizes[k] / len(labels):.1%}", f"{among[k] / count:.1%}"
        table.add_row(classes[k], str(sizes[k]), f"{hardness[k]:.3g}", *shares)
    table.caption = "Hardness is the mean score of the class: higher = harder."
    return table


def finding_table(
    scores: Mapping[str, NDArray[np.floating]], wrong: NDArray[np.bool_], lacking: Sequence[str] = ()
) -> Table:
    """How well each estimator finds samples with wrong labels, the best first; equal scores are ranked by chance.

    Args:
        scores: by estimator, (N,) each, higher = harder.
        wrong: (N,) whether its label is; some are, and some are not.
        lacking: estimators without scores.
    """
    count = int(np.count_nonzero(wrong))
    table = plain_table("wrong labels found")
    table.add_column("estimator", overflow="fold")
    for column in ("AUROC ↑", f"wrong, of the {count:,} hardest ↑"):
        table.add_column(column, justify="right", no_wrap=True)
    auroc = {name: ood_metrics(of[~wrong], of[wrong])["auroc"] for name, of in scores.items()}
    for name in sorted(scores, key=lambda name: -auroc[name]):
        table.add_row(name, f"{auroc[name]:.3f}", f"{_in_hardest(scores[name], count) @ wrong / count:.1%}")
    table.caption = f"{count:,} of {len(wrong):,} training samples have a wrong label; AUROC 0.5 is chance."
    if lacking:
        table.caption += f" Without scores: {', '.join(lacking)} (--estimator NAME --score makes them)."
    return table


def _in_hardest(scores: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """(N,) the chance of each to be one of the ``count`` hardest, if those as hard as the last are drawn at random."""
    last = np.sort(scores)[-count]
    above, level = scores > last, scores == last
    chance: NDArray[np.float64] = above + level * (count - above.sum()) / level.sum()
    return chance


def write_csv(
    scores: Mapping[str, NDArray[np.floating]],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    rows: NDArray[np.int64],
    files: Sequence[str] | None,
    path: Path,
    true_labels: NDArray[np.int64] | None = None,
) -> None:
    """A line for each training sample.

    Args:
        scores: by estimator, (N,) each, higher = harder.
        rows: (N,) each sample's position in the data set's training split.
        files: those of all samples of that split, if any.
        true_labels: (N,), if some labels are wrong.

    Raises:
        InputError: what is not of as many samples; nothing is written then.
    """
    names = sorted(scores)
    columns: dict[str, Sequence[object]] = {"row": rows.tolist()}
    if files:
        columns["file"] = [files[row] for row in rows]
    columns["class"] = [classes[label] for label in labels]
    if true_labels is not None:
        columns["true_class"] = [classes[label] for label in true_labels]
    header = [*columns, *names]
    each: list[Sequence[object] | NDArray[np.floating]] = [*columns.values(), *(scores[name] for name in names)]
    if len(set(map(len, each))) > 1:
        sizes = ", ".join(f"{name} of {len(column)}" for name, column in zip(header, each, strict=True))
        raise InputError(f"a table has a line for each sample, and its columns are {sizes}")
    with csv_files.opened(path) as file:
        lines = csv.writer(file)
        lines.writerow(header)
        lines.writerows(zip(*each, strict=True))
