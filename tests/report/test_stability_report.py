"""How settled scores are, in tables and figures."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hardtune.hardness.stability import Stability, assess
from hardtune.report.stability import stability_table, verdict
from hardtune.report.stability_figure import stability_figure

RATE = 0.005


@pytest.fixture(scope="module")
def disagreeing() -> Stability:
    """Of members that come in two halves, each the other's contrary."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400)
    members = np.stack([hard, -hard, hard, -hard]) + rng.normal(scale=0.01, size=(4, 400))
    return assess(members, np.repeat([0, 1], 200), 2, rate=RATE)


def test_nothing_drawn_is_cut_off(disagreeing, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    stability_figure({"aum": disagreeing}, ["a", "b"], RATE, "title", tmp_path / "f.png")
    assert disagreeing.disjoint[0].rank_correlation.min() < -0.9
    for axes in drawn[0].axes:
        low, high = axes.get_ylim()
        assert low <= axes.dataLim.ymin
        assert high >= axes.dataLim.ymax


def test_a_small_rate_is_not_rounded_to_nothing(disagreeing):
    console = Console(file=io.StringIO(), width=200)
    console.print(stability_table(disagreeing, RATE, "title"))
    for text in (console.file.getvalue(), verdict(disagreeing, RATE)):
        assert "easiest 0.5%" in text
