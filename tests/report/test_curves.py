"""Treatments that differ in one number alone, as curves."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from hardtune import Treatment
from hardtune.report.comparison import Comparison, compared
from hardtune.report.curves import curve_rows, curves, each_once
from hardtune.report.curves_figure import curve_figure
from hardtune.report.records import CONTROL, Record

METRICS = ("test/accuracy", "test/ece")


def found_of(*treatments, members=3):
    """Records of a control and of treatments, each of which adds a hundredth to the figures of the one before."""
    noise = (0.0, 0.001, -0.002)[:members]
    return [
        Record(
            number,
            treatment,
            "finished",
            members={name: [0.5 + 0.01 * (number + 1) + error * (number + 2) for error in noise] for name in METRICS},
        )
        for number, treatment in enumerate((Treatment(), *treatments), CONTROL)
    ]


def shown(records, field):
    return {
        curve.common: {number: record.number for number, record in curve.trials.items()}
        for curve in curves(records, field)
    }


def test_a_curve_is_of_treatments_that_differ_in_one_number_alone():
    shift, smote = Treatment(alpha=1.0, policy="shift"), Treatment(alpha=1.0, policy="shift", oversample="smote")
    more = [dataclasses.replace(one, alpha=2.0) for one in (shift, smote)]
    records = found_of(*more, shift, smote, Treatment(alpha=3.0), Treatment(entropy_weight=0.3))
    assert shown(records, "alpha") == {
        "aum shift easiest/random": {0.0: CONTROL, 1.0: 2, 2.0: 0},
        "aum shift easiest/smote": {0.0: CONTROL, 1.0: 3, 2.0: 1},
    }
    records[1] = dataclasses.replace(records[1], state="failed")
    assert list(shown(records, "alpha")) == ["aum shift easiest/smote"]


@pytest.mark.parametrize(
    ("field", "others"), [("balance", {}), ("prune_rate", {"prune": "class"}), ("entropy_weight", {})]
)
def test_the_control_is_on_the_curve_of_each_number_at_whose_zero_nothing_is_left(field, others):
    records = found_of(*(Treatment(**others, **{field: value}) for value in (0.2, 0.4)))
    [trials] = shown(records, field).values()
    assert trials == {0.0: CONTROL, 0.2: 0, 0.4: 1}


@pytest.mark.parametrize(
    ("field", "values", "others", "common"),
    [
        ("alpha", (0.5, 1.0), {"entropy_weight": 0.3, "policy": "shift"}, "aum shift easiest/random, λ=0.3 rmd"),
        ("balance", (0.5, 1.0), {"alpha": 1.0}, "aum α=1 easiest/random"),
        ("prune_rate", (0.1, 0.35), {"prune": "class", "loss": "focal"}, "aum prune class, focal"),
        ("entropy_weight", (0.1, 0.3), {"entropy_target": "shuffled", "loss": "focal"}, "focal, shuffled"),
        ("temperature", (0.5, 0.7, 2.0), {"entropy_weight": 0.2}, "λ=0.2 rmd"),
    ],
)
def test_it_is_named_by_what_its_treatments_have_in_common(field, values, others, common):
    records = found_of(*(Treatment(**{field: value}, **others) for value in values))
    (curve,) = curves(records, field)
    assert curve.common == common
    assert [number for number in curve.trials if number] == list(values)


def test_a_treatment_for_which_a_field_has_no_effect_is_on_the_curves_of_all_of_its_values():
    """At alpha = 0 no policy matters."""
    policies = [Treatment(alpha=alpha, policy=name, balance=1.0) for name in ("shift", "paper") for alpha in (0.5, 1.0)]
    records = found_of(Treatment(balance=1.0), *policies)
    found = curves(records, "alpha")
    assert [[record.number for record in curve.trials.values()] for curve in found] == [[0, 3, 4], [0, 1, 2]]
    treatments = tuple(one.treatment for one in records[1:])
    rows = curve_rows(found, "alpha", compared(records, Comparison(treatments, metrics=METRICS)))
    assert [row["alpha"] for row in rows] == 4 * [0.0, 0.5, 1.0]
    assert [row["trial"] for row in each_once(rows)] == 2 * [0, 3, 4, 1, 2], "once in a table"


def drawn(monkeypatch, tmp_path, records, field, starts):
    figures, treatments = [], tuple(one.treatment for one in records[1:])
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    rows = curve_rows(curves(records, field), field, compared(records, Comparison(treatments, metrics=METRICS)))
    curve_figure(rows, field, starts, "pets", tmp_path / "deep" / "it.png")
    return figures[0], rows


@pytest.mark.parametrize("members", [3, 1])
def test_each_metric_has_a_panel_with_its_differences_from_the_control(monkeypatch, tmp_path, members):
    records = found_of(*(Treatment(alpha=alpha, policy="shift") for alpha in (1.0, 2.0)), members=members)
    figure, rows = drawn(monkeypatch, tmp_path, records, "alpha", [0.0])
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title() for axes in panels] == ["accuracy (higher is better)", "ECE (lower is better)"]
    for axes, metric in zip(panels, METRICS, strict=True):
        line = next(line for line in axes.lines if len(line.get_xdata()) == 3)
        expected = [0, *(100 * row["difference"] for row in rows if row["metric"] == metric)]
        assert list(line.get_xdata()) == [0, 1, 2]
        assert list(line.get_ydata()) == pytest.approx(expected)
        if members > 1:
            highest = axes.collections[0].get_datalim(axes.transData).y1
            assert highest == pytest.approx(100 * max(row["high"] for row in rows if row["metric"] == metric))
    said = " ".join(figure.get_suptitle().split())
    assert ("it is unbounded" in said) == (members == 1)
    assert not figure.legends, "one curve is named above"
    assert "aum shift easiest/random" in said


def test_several_curves_are_told_apart_below_the_panels(monkeypatch, tmp_path):
    kinds = [
        Treatment(policy="shift", oversample=name, loss=loss)
        for name in ("random", "smote")
        for loss in ("cross_entropy", "focal")
    ]
    records = found_of(*(dataclasses.replace(kind, alpha=alpha) for kind in kinds for alpha in (1.0, 2.0)))
    figure, _ = drawn(monkeypatch, tmp_path, records, "alpha", 4 * [None])
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.texts}) == 4
    figure.draw_without_rendering()
    lowest = min(axes.get_tightbbox().y0 for axes in figure.axes if axes.axison)
    assert 0 <= legend.get_window_extent().y0 < legend.get_window_extent().y1 <= lowest
    assert legend.get_window_extent().x1 <= figure.bbox.x1
