"""A figure as large as its panels and what is written around them, so that long names do not squeeze the panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hardtune.report.drawing import find_letters

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_WIDTH = 6.2
"""In inches: above a single narrow panel, what is said would be a column of single words."""
LETTERS_AN_INCH = 14
"""Of what is said, whose letters are of 9 points."""


def fit(figure: Figure, grid: NDArray[Any], said: Sequence[str], width: float, heights: Sequence[float]) -> None:
    """Say something above a grid of panels, and give the figure the size that all of it takes.

    The figure's layout is to be constrained: it keeps what is written apart, and so gives panels what is left.

    Args:
        grid: The panels (rows, columns), with all that is written around them.
        said: Paragraphs, which are wrapped.
        width: That of each panel in inches, or more if a title is wider.
        heights: Those of each row's panels in inches.
    """
    figure.suptitle("\n".join(said), fontsize=9)
    find_letters(figure)  # those of another font may be wider
    left, below, right, above = (_margins(grid) / figure.dpi).transpose(2, 0, 1)
    titles = [axes.title.get_window_extent().width / figure.dpi for axes in grid.flat]
    pads: Any = figure.get_layout_engine().get()  # type: ignore[union-attr]  # around each panel and what is said
    across = sum(left.max(0) + right.max(0) + max(width, *titles) + 2 * pads["w_pad"])
    figure.set_figwidth(max(LEAST_WIDTH, across))
    wide = int(LETTERS_AN_INCH * figure.get_figwidth())
    words = figure.suptitle("\n".join(part for line in said for part in textwrap.wrap(line, wide)), fontsize=9)
    down = sum(above.max(1) + below.max(1) + np.array(heights) + 2 * pads["h_pad"])
    figure.set_figheight(words.get_window_extent().height / figure.dpi + 2 * pads["h_pad"] + down)


def name_lines(figure: Figure, axes: Any) -> None:
    """Say below a figure that has its size which line is which, in as many columns as fit; it becomes as much higher.

    ``axes``: a panel that has all lines, with labels.
    """
    handles, names = axes.get_legend_handles_labels()
    names = [textwrap.fill(name, int(LETTERS_AN_INCH * figure.get_figwidth()) - 10) for name in names]
    for columns in range(min(3, len(names)), 0, -1):
        legend = figure.legend(handles, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=8)
        size = legend.get_window_extent()
        if size.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)


def _margins(grid: NDArray[Any]) -> NDArray[np.float64]:
    """(rows, columns, 4) pixels that what is written takes to the left of each panel, below, to its right and above."""
    boxes = [[(axes.bbox, axes.get_tightbbox(for_layout_only=True)) for axes in row] for row in grid]
    return np.array([[(*(panel.min - whole.min), *(whole.max - panel.max)) for panel, whole in row] for row in boxes])
