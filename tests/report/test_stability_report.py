"""How settled scores are, in tables and figures."""

import csv
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hardtune.hardness.stability import Stability, assess, rank_correlations
from hardtune.report.stability import pruned_overlaps, stability_table, verdict, write_csv
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


def test_the_file_has_each_class_and_pair_of_estimators_that_the_figures_show(disagreeing, tmp_path):
    rng = np.random.default_rng(1)
    scores = {name: rng.normal(size=400) for name in ("aum", "el2n", "rmd")}
    write_csv({"aum": disagreeing}, ["cat", "dog"], scores, 0.3, tmp_path / "it.csv")
    with (tmp_path / "it.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for place, name in enumerate(("cat", "dog")):
        of_class = [float(row["mean"]) for row in rows if (row["figure"], row["class"]) == ("class_size", name)]
        assert of_class == disagreeing.change[:, place].tolist()
    pairs = {
        (row["figure"], row["estimator"], row["other"]): float(row["mean"])
        for row in rows
        if row["compared"] == "estimators"
    }
    assert len(pairs) == 6
    assert pairs["rank_correlation", "aum", "rmd"] == rank_correlations(scores)[0, 2]
    assert pairs["pruned_overlap", "el2n", "rmd"] == pruned_overlaps(scores, 0.3)[1, 2]
