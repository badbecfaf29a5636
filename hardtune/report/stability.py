"""How many members a score needs, and how well estimators agree, as tables."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from hardtune import csv_files
from hardtune.hardness.stability import Agreement, Stability, pruned_overlap, rank_correlations
from hardtune.report.tables import plain_table

ENOUGH = 0.95
"""The rank correlation between two ensembles for which :func:`verdict` counts the members needed."""


def stability_table(stability: Stability, rate: float, title: str) -> Table:
    """A row for each number of members."""
    table = plain_table(title)
    for name in ("members", "Δ sizes", "Δ pruned", "ρ disjoint", "overlap", "ρ bootstrap", "overlap"):
        table.add_column(name, justify="right", no_wrap=True)
    for size in range(1, len(stability.bootstrap) + 1):
        nested = ["", ""]
        if size <= len(stability.pruned_change):
            nested = [f"{stability.change[size - 1].mean():.1f}", f"{stability.pruned_change[size - 1]:.1%}"]
        table.add_row(str(size), *nested, *_cells(stability.disjoint, size), *_cells(stability.bootstrap, size))
    share = percent(rate)
    table.caption = (
        "Δ: what changes as one more member joins (mean over classes of class sizes at alpha = 1, in samples; share of "
        f"the easiest {share}); it shrinks whether or not the score settles. ρ and overlap: rank correlation, and "
        f"common share of the easiest {share}, of two ensembles that share no member, or are bootstrap draws from "
        "all (which share some, and so agree more than new ones would). Of equally easy samples both prune the same, "
        "so a score with many ties (forgetting) overlaps more than it tells apart."
    )
    return table


def verdict(stability: Stability, rate: float) -> str:
    """What the figures show, in a sentence or two."""
    largest = stability.disjoint[-1]
    count = len(stability.bootstrap)
    needed = stability.members_for(ENOUGH)
    share = percent(rate)
    two = "members" if largest.size == 1 else f"ensembles of {largest.size} that share no member"
    text = (
        f"two {two} rank the samples with ρ = "
        f"{largest.rank_correlation.mean():.3f} and have {largest.pruned_overlap.mean():.0%} of the easiest "
        f"{share} in common. "
    )
    if needed is None:
        return text + "They do not agree at all, so no number of members would make them."
    return (
        text + f"By Spearman-Brown two of {count} would reach {stability.expected_correlation(count):.3f}, "
        f"and ρ = {ENOUGH} takes {needed} member{'' if needed == 1 else 's'}."
    )


def comparison_tables(scores: Mapping[str, NDArray[np.floating]], rate: float, title: str, width: int) -> list[Table]:
    """Every pair of estimators: rank correlation below the diagonal, overlap of the easiest part above it.

    One table if it fits into ``width`` characters, else as many as are needed, each with some of the columns.
    """
    names = list(scores)
    numbered = [f"{number} {name}" for number, name in enumerate(names, 1)]
    correlations, overlaps = rank_correlations(scores), pruned_overlaps(scores, rate)

    def cell(row: int, column: int) -> str:
        if row == column:
            return "·"
        return f"{overlaps[row, column]:.0%}" if row < column else f"{correlations[row, column]:.2f}".replace("0.", ".")

    # An edge, the names, and columns of up to five characters (-1.00), each followed by two spaces.
    most = max(1, (width - max(map(len, numbered)) - 3) // 7)
    columns = math.ceil(len(names) / math.ceil(len(names) / most))
    tables = []
    for start in range(0, len(names), columns):
        table = plain_table()
        table.add_column("", no_wrap=True)
        shown = range(start, min(start + columns, len(names)))
        for column in shown:
            table.add_column(str(column + 1), justify="right", no_wrap=True)
        for row, name in enumerate(numbered):
            table.add_row(name, *(cell(row, column) for column in shown))
        tables.append(table)
    tables[0].title = title
    share = percent(rate)
    tables[-1].caption = (
        f"Below the diagonal: rank correlation. Above: common share of the easiest {share}; two scores that have "
        f"nothing to do with each other share {share}."
    )
    return tables


def pruned_overlaps(scores: Mapping[str, NDArray[np.floating]], rate: float) -> NDArray[np.float64]:
    """The overlap of the easiest parts by every pair of scores, as a share: (E, E), in the mapping's order."""
    return np.array([[pruned_overlap(a, b, rate) for b in scores.values()] for a in scores.values()])


def write_csv(
    found: Mapping[str, Stability],
    classes: Sequence[str],
    scores: Mapping[str, NDArray[np.floating]],
    rate: float,
    path: Path,
) -> None:
    """All that the figures show: a line for each estimator, number of members and way to compare, and each pair.

    Of class sizes, ``class_sizes`` is over all classes, and ``class_size`` of the class that is named. Pairs of
    estimators (``compared``: ``estimators``) are compared by the scores of all their members.

    Args:
        found: By estimator.
        classes: Their names, in the order of each ``Stability.change``.
        scores: By estimator, those of :func:`comparison_tables`.
        rate: The share that overlaps are of.
    """
    with csv_files.opened(path) as file:
        lines = csv.writer(file)
        lines.writerow(["estimator", "members", "compared", "figure", "class", "other", "mean", "min", "max"])
        for name, stability in found.items():
            for size, (change, pruned) in enumerate(zip(stability.change, stability.pruned_change, strict=True), 1):
                lines.writerow([name, size, "nested", "class_sizes", "", "", change.mean(), change.min(), change.max()])
                for one, value in zip(classes, change, strict=True):
                    lines.writerow([name, size, "nested", "class_size", one, "", value, value, value])
                lines.writerow([name, size, "nested", "pruned_change", "", "", pruned, pruned, pruned])
            for how, agreements in (("disjoint", stability.disjoint), ("bootstrap", stability.bootstrap)):
                for agreement in agreements:
                    for figure in ("rank_correlation", "pruned_overlap"):
                        values = getattr(agreement, figure)
                        spread = (values.mean(), values.min(), values.max())
                        lines.writerow([name, agreement.size, how, figure, "", "", *spread])
        matrices = {"rank_correlation": rank_correlations(scores), "pruned_overlap": pruned_overlaps(scores, rate)}
        for (row, name), (column, other) in itertools.combinations(enumerate(scores), 2):
            for figure, matrix in matrices.items():
                lines.writerow([name, "", "estimators", figure, "", other, *3 * [matrix[row, column]]])


def percent(rate: float) -> str:
    """A share, formatted as a percentage.

    >>> percent(0.3), percent(0.005)
    ('30%', '0.5%')
    """
    return f"{100 * rate:.3g}%"


def _cells(agreements: tuple[Agreement, ...], size: int) -> list[str]:
    for one in agreements:
        if one.size == size:
            return [f"{one.rank_correlation.mean():.3f}", f"{one.pruned_overlap.mean():.1%}"]
    return ["", ""]
