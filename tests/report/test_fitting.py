"""Figures grow with what is written in them: long names are legible, and leave panels their size."""

import dataclasses
import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from hardtune.data import Samples
from hardtune.report.classes import class_figure, class_rows
from hardtune.report.comparison_views import PANEL_WIDTH, comparison_figure
from hardtune.report.hardest_figure import hardest_figure
from tests.report.test_classes import CONTROLS, HELPED
from tests.report.test_comparison_report import rows_of

LONG = " ".join(["a name of many words"] * 6)


def rows_of_classes(name, count=1):
    """Of so many trials, with a class of this name."""

    def renamed(record, number):
        fields = {
            field: {name if key == "cat" else key: value for key, value in getattr(record, field).items()}
            for field in ("per_class", "recalls")
        }
        return dataclasses.replace(record, number=number, **fields)

    return class_rows([renamed(HELPED, n) for n in range(count)], renamed(CONTROLS, CONTROLS.number), among=count)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw such a figure, and lay it out as it is saved; warnings are errors: matplotlib's, that there is no room."""
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))

    def draw(what, name, note):
        if what == "comparison":
            rows = rows_of(0.01, 0.01)
            comparison_figure([[row | {"treatment": name, "reference": name} for row in rows]], "it", tmp_path, note)
        else:
            class_figure(rows_of_classes(name, int(what)), "it", tmp_path, note)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            saved[-1].draw_without_rendering()
        return saved[-1]

    return draw


@pytest.mark.parametrize("note", ["", LONG])
@pytest.mark.parametrize("name", ["cat", LONG])
@pytest.mark.parametrize("what", ["comparison", "1", "2", "5"])
def test_names_of_any_length_are_within_the_figure_and_leave_panels_their_size(drawn, what, name, note):
    figure = drawn(what, name, note)
    panels = [axes for axes in figure.axes if axes.axison]
    said = figure._suptitle.get_window_extent()
    for axes in panels:
        assert axes.bbox.width / figure.dpi > 0.95 * PANEL_WIDTH, "but for the gaps between panels"
        assert axes.bbox.height / figure.dpi > 0.9
        whole = axes.get_tightbbox()
        assert whole.x0 >= 0
        assert whole.x1 <= figure.bbox.x1
        assert whole.y0 >= 0
        assert whole.y1 <= said.y0, "no title runs into what is said above"
    assert said.y1 <= figure.bbox.y1
    widest, deepest = (max(getattr(axes.bbox, side) for axes in panels) / figure.dpi for side in ("width", "height"))
    assert name == "cat" or widest < 1.3 * PANEL_WIDTH, "nor is it wider than it takes"
    assert deepest < 1.3


@pytest.mark.parametrize("each", [1, 10, 40])
@pytest.mark.parametrize("name", ["cat", "a rather long class name", LONG])
def test_names_beside_pictures_are_within_the_figure(tmp_path, monkeypatch, name, each):
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    pixels = np.zeros((120, 8, 8, 1), np.uint8)
    samples = Samples(pixels, np.arange(120) % 3)
    hardest_figure(samples, np.arange(120.0), [name, "b", "c"], ["1"] * 120, each, "it", tmp_path / "it.png")
    saved[0].draw_without_rendering()
    assert saved[0].axes[0].get_tightbbox().x0 >= 0
    assert saved[0].axes[0].get_tightbbox().x1 <= saved[0].bbox.width
