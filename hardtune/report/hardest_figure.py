"""The hardest and the easiest images of each class, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Samples
from hardtune.report.drawing import save
from hardtune.report.hardest import by_hardness

MAX_CLASSES = 20
"""If there are more, only the hardest are drawn."""


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
    easy = max(1, each // 2)
    figure = Figure(figsize=(1.6 + 0.72 * (each + easy), 0.9 + 0.88 * len(shown)), layout="constrained")
    figure.suptitle(title if len(shown) == len(classes) else f"{title}: the {len(shown)} hardest classes")
    panels = figure.subplots(len(shown), each + easy + 1, squeeze=False, width_ratios=[*[1] * each, 0.3, *[1] * easy])
    for axes in panels.flat:
        axes.axis("off")
    for line, k in zip(panels, shown, strict=True):
        of_class = np.flatnonzero(samples.labels == k)
        ranked = of_class[np.argsort(-scores[of_class], kind="stable")]
        at = {"transform": line[0].transAxes, "ha": "right", "va": "center"}
        line[0].text(-0.25, 0.5, classes[k], fontsize=9, parse_math=False, **at)
        easiest = ranked[::-1][: min(easy, len(ranked) * easy // (each + easy))]
        hardest = ranked[: min(each, len(ranked) - len(easiest))]
        for axes, n in [*zip(line[:each], hardest, strict=False), *zip(line[each + 1 :], easiest, strict=False)]:
            image = samples.images[n]
            axes.imshow(image[..., :3] if image.shape[2] >= 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
            axes.set_title(captions[n], fontsize=6, pad=2, parse_math=False)
    panels[0, 0].annotate("hardest", (0, 1.35), xycoords="axes fraction", fontsize=8, color="#c92a2a")
    panels[0, each + 1].annotate("easiest", (0, 1.35), xycoords="axes fraction", fontsize=8, color="#2b8a3e")
    save(figure, path, dpi=150)
