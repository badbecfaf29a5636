"""A trial's reliability diagram, and what is drawn beside it."""

import pytest
from matplotlib.figure import Figure

from hardtune import Treatment
from hardtune.report.diagnostics import diagnostics_figure
from hardtune.report.overlaid import curve_points, overlaid_figure
from hardtune.report.records import CONTROL, Record

CURVES = {"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "share": [0.4, 0.6], "risk": [0.1, 0.2, 0.3]}


@pytest.mark.parametrize(("suffix", "begins"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_a_trials_diagrams_can_be_drawn_for_a_paper(tmp_path, suffix, begins):
    record = Record(0, Treatment(loss="focal"), "finished", curves={"members": CURVES, "ensemble": CURVES})
    diagnostics_figure(record, tmp_path / f"it.{suffix}")
    assert (tmp_path / f"it.{suffix}").read_bytes().startswith(begins)


def test_curves_of_several_trials_are_over_one_another_however_long_their_names_are(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    other = {"confidence": [0.5], "accuracy": [0.4], "share": [1.0], "risk": [0.0, 0.1, 0.2]}
    long = Treatment(alpha=1.0, prune="class", prune_rate=0.1, loss="a-" * 40, entropy_weight=0.2)
    records = [
        Record(number, treatment, "finished", curves={"members": CURVES, "ensemble": other})
        for number, treatment in ((CONTROL, Treatment()), (3, long), (4, Treatment(loss="focal")))
    ]
    overlaid_figure(records, "pets", tmp_path / "it.png")
    figure = drawn[0]
    figure.draw_without_rendering()
    networks, risk, ensemble, _ = figure.axes
    assert [line.get_label() for line in risk.lines] == ["control", f"3: {long}", "4: focal"]
    assert [list(line.get_ydata()) for line in networks.lines[1:]] == 3 * [CURVES["accuracy"]]
    assert [list(line.get_xdata()) for line in ensemble.lines[1:]] == 3 * [other["confidence"]]
    assert [list(line.get_ydata()) for line in risk.lines] == 3 * [CURVES["risk"]]
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert 0 <= box.y0 < box.y1 <= min(axes.get_tightbbox().y0 for axes in figure.axes)
    points = [row for row in curve_points(records) if (row["trial"], row["of"]) == (3, "ensemble")]
    assert [(row["curve"], row["x"], row["y"]) for row in points] == [
        ("reliability", 0.5, 0.4),
        *(("risk_coverage", pytest.approx(kept / 3), error) for kept, error in ((1, 0.0), (2, 0.1), (3, 0.2))),
    ]
