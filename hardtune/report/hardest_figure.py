"""The hardest and the easiest images of each class, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Samples
from hardtune.report.drawing import save
from hardtune.report.fitting import fit
from hardtune.report.hardest import by_hardness

MAX_CLASSES = 20
"""If there are more, only the hardest are drawn."""
IMAGE_WIDTH, CAPTION_HEIGHT, LINE_HEIGHT = 0.66, 0.22, 0.1
"""In inches."""
MOST_PIXELS = 80e6
"""A longer picture is drawn more coarsely: Pillow, for one, takes those with more than 89 million for an attack."""


def hardest_figure(
    samples: Samples,
    scores: NDArray[np.floating],
    classes: Sequence[str],
    captions: Sequence[str],
    each: int,
    title: str,
    path: Path,
) -> None:
    """Draw a line for each class, the hardest first: its ``each`` hardest images, and half as many of its easiest.

    Small classes are divided in this proportion, so that no image is drawn twice.

    Args:
        scores: of the samples (N,), higher = harder.
        captions: (N,) what to write above their images.
    """
    from matplotlib.figure import Figure

    shown = by_hardness(scores, samples.labels, len(classes))[:MAX_CLASSES]
    lines = [_ends(np.flatnonzero(samples.labels == k), scores, each) for k in shown]
    hardest, easiest = (max(len(line[end]) for line in lines) for end in (0, 1))
    # All is placed in pixels of the images, and those of a line are drawn as one: an axes for each would take minutes.
    height, width, channels = samples.images.shape[1:]
    inch = width / IMAGE_WIDTH
    step = width + max(1, round(width / 10))
    caption = (CAPTION_HEIGHT + LINE_HEIGHT * any("\n" in str(said) for said in captions)) * inch
    places = [*(np.arange(hardest) * step), *(hardest * step + round(width / 3) + np.arange(easiest) * step)]
    right, deep = places[-1] + width, caption + height

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    for n, line in enumerate(lines):
        mosaic = np.full((height, right, 3 if channels >= 3 else 1), 255, np.uint8)
        top = n * deep + caption
        for left, sample in zip([*places[: len(line[0])], *places[hardest:]], np.concatenate(line), strict=False):
            mosaic[:, left : left + width] = samples.images[sample, ..., : mosaic.shape[2]]
            said = axes.text(left + width / 2, top, captions[sample], ha="center", va="bottom", fontsize=6)
            said.set(parse_math=False, in_layout=False)  # there is room for it, and to measure thousands takes long
        axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, extent=(0, right, top + height, top))
    axes.text(0, 0, "hardest", va="bottom", fontsize=8, color="#c92a2a")
    if easiest:
        axes.text(places[hardest], 0, "easiest", va="bottom", fontsize=8, color="#2b8a3e")
    names = [classes[k] for k in shown]
    axes.set_yticks(np.arange(len(lines)) * deep + caption + height / 2, names, fontsize=9, parse_math=False)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(0, right), ylim=(len(lines) * deep, 0), anchor="NW")  # else the layout would cut names off
    whole = title if len(shown) == len(classes) else f"{title}: the {len(shown)} hardest classes"
    fit(figure, np.array([[axes]]), [whole], right / inch, [len(lines) * deep / inch])
    save(figure, path, dpi=min(150, math.sqrt(MOST_PIXELS / math.prod(figure.get_size_inches()))))


def _ends(of_class: NDArray[np.intp], scores: NDArray[np.floating], each: int) -> tuple[NDArray[np.intp], ...]:
    """A class's hardest samples and its easiest ones, the extreme first; no sample is both."""
    ranked = of_class[np.argsort(-scores[of_class], kind="stable")]
    easy = max(1, each // 2)
    easiest = ranked[::-1][: min(easy, len(ranked) * easy // (each + easy))]
    return ranked[: min(each, len(ranked) - len(easiest))], easiest
