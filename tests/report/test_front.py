"""The front is what nobody beats, its table says what the test split thinks, and its figure can be drawn."""

import dataclasses
import io
import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console

from hardtune import Treatment
from hardtune.errors import InputError
from hardtune.report import records
from hardtune.report.csv_tables import by_trial
from hardtune.report.front_figure import pareto_figure
from hardtune.report.front_table import render, rows
from hardtune.report.metric_names import on_test
from hardtune.report.pareto import check_objective, front, pareto_mask
from hardtune.report.records import CONTROL, Record
from hardtune.report.standing import kept_off_front
from hardtune.report.sweeps import selection_note

OBJECTIVES = {"final/recall_gap": "min", "final/accuracy": "max"}


def record(number, gap, accuracy, state="finished", **fields):
    treatment = fields.pop("treatment", Treatment() if number == CONTROL else Treatment(alpha=number + 1))
    metrics = {"final/recall_gap": gap, "final/accuracy": accuracy}
    metrics |= {on_test(name): value for name, value in metrics.items()}
    members = {name: [metrics[name] - 0.01, metrics[name] + 0.01] for name in OBJECTIVES}
    return Record(number, treatment, state, metrics, members=members, **fields)


def numbers(found):
    return [record.number for record in front(found, OBJECTIVES)]


matrices = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float)
)


@given(matrices, st.data())
def test_the_mask_is_the_definition(values, data):
    directions = data.draw(
        st.lists(st.sampled_from(["min", "max"]), min_size=values.shape[1], max_size=values.shape[1])
    )
    costs = values * [1 if direction == "min" else -1 for direction in directions]
    expected = [not any(all(other <= row) and any(other < row) for other in costs) for row in costs]
    assert pareto_mask(values, directions).tolist() == expected


@given(matrices)
def test_a_front_is_never_empty_and_ignores_the_order_of_rows(values):
    directions = ["min"] * values.shape[1]
    mask = pareto_mask(values, directions)
    assert mask.any()
    np.testing.assert_array_equal(pareto_mask(values[::-1], directions)[::-1], mask)


def test_a_record_as_a_text_is_a_line_and_not_all_of_its_figures():
    text = str(Record(3, Treatment(alpha=0.5), "finished", {"test/ece": 0.123}, curves={"ensemble": {"risk": [0.456]}}))
    assert [part in text for part in ("number=3", "alpha=0.5", "0.123", "0.456")] == [True, True, False, False]


def test_only_finished_trials_can_be_on_the_front():
    found = [
        record(CONTROL, 0.2, 0.8),
        record(0, 0.0, 1.0, "stopped"),
        record(1, 0.1, 0.9),
        record(2, 0.0, 1.0, "failed"),
    ]
    assert numbers(found) == [1]


def test_a_trial_that_falls_short_of_the_control_is_not_on_the_front():
    assert numbers([record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.7, shortfall=0.1)]) == [CONTROL]


def test_a_trial_that_falls_short_of_the_control_is_drawn_and_counted_as_such(tmp_path, monkeypatch):
    """It may be better in every objective, so that to call it dominated would be false."""
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    found = [record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.9, shortfall=0.01), record(1, 0.3, 0.7)]
    pareto_figure(found, front(found, OBJECTIVES), OBJECTIVES, "title", tmp_path / "front.png")
    points = {group.get_label(): group.get_offsets().tolist() for group in drawn[0].axes[0].collections}
    assert points["worse than the control\nwhere it must not be"] == [[0.1, 0.9]]
    assert points["dominated"] == [[0.3, 0.7]]
    assert kept_off_front(found, ["final/ece"]) == (
        "1 of 2 trials is kept off the front, as worse than the control in final/ece"
    )
    assert kept_off_front([found[0], found[2]], ["final/ece"]) == ""
    assert [row["shortfall"] for row in by_trial(found)] == [0, 0.01, 0]


def test_equal_treatments_stand_on_the_front_once():
    again = record(1, 0.1, 0.9, treatment=Treatment(alpha=1, entropy_weight=0, temperature=0.9))
    assert numbers([record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.9), again]) == [0]
    assert numbers([record(CONTROL, 0.1, 0.9), record(0, 0.1, 0.9, treatment=Treatment(estimator="el2n"))]) == [CONTROL]


def test_the_table_has_the_control_last_and_the_test_figures():
    found = [record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.7), record(1, 0.15, 0.9)]
    table = rows(front(found, OBJECTIVES), found[0], OBJECTIVES)
    assert [row["trial"] for row in table] == [0, 1, "control"]
    assert [row["pareto"] for row in table] == [True, True, False]
    assert table[0]["test/recall_gap"] == 0.1
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render(table, OBJECTIVES, "Front", ""))
    text = " ".join(console.export_text().split())
    assert "0.100 / 0.100" in text
    assert "which the search saw / on the test split, which it did not." in text
    assert "recall gap ↓" in text
    assert "changes nothing" in text
    assert "…" not in text, "nothing may be cut off at 80 columns"


def test_what_was_chosen_on_the_test_split_is_shown_once_and_said_to_be():
    found = [record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.7)]
    console = Console(width=80, record=True, file=io.StringIO())
    table = rows(front(found, OBJECTIVES), found[0], OBJECTIVES)
    console.print(render(table, OBJECTIVES, "Front", selection_note("test")))
    text = " ".join(console.export_text().split())
    assert "Treatments were chosen on this test split (the papers' protocol)." in text
    assert "held-out" not in text
    assert " / " not in text


def test_a_signed_figure_is_no_objective():
    check_objective("final/recall_gap")
    with pytest.raises(InputError, match="'final/recall_hard_easy' cannot be an objective"):
        check_objective("final/recall_hard_easy")


@pytest.mark.parametrize("objectives", [OBJECTIVES, {"final/accuracy": "max"}])
def test_the_figure_is_drawn_for_one_objective_and_for_several(tmp_path, objectives):
    found = [record(CONTROL, 0.2, 0.8), record(0, 0.1, 0.7), record(1, 0.15, 0.9)]
    pareto_figure(found, front(found, objectives), objectives, "title", tmp_path / "deep" / "pareto.png")
    assert (tmp_path / "deep" / "pareto.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("objective", "counterpart"), [("ood/msp_auroc", None), ("final_std/accuracy", "test_std/accuracy")]
)
def test_one_objective_is_drawn_over_its_counterpart_on_the_test_split_or_over_the_trials(
    tmp_path, objective, counterpart
):
    assert on_test(objective) == counterpart
    treatments = [Treatment(), Treatment(alpha=1, oversample="smote"), Treatment(alpha=2)]
    metrics = {objective: 0.1} if counterpart is None else {objective: 0.1, counterpart: 0.2}
    found = [Record(number, treatment, "finished", metrics) for number, treatment in enumerate(treatments, CONTROL)]
    pareto_figure(found, found[:1], {objective: "min"}, "title", tmp_path / "pareto.png")
    assert (tmp_path / "pareto.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("names", "held_out", "axes"),
    [
        (("final/recall_gap", "ensemble/nll"), True, ("held-out recall gap", "held-out ensemble NLL")),
        (("final/recall_gap", "ensemble/nll"), False, ("test recall gap", "test ensemble NLL")),
        (("final/ece", "test/ece"), True, ("held-out ECE", "test ECE")),
        (("ood/msp_fpr95", "test_std/ece"), True, ("OOD MSP FPR95", "test std ECE")),
        (("final/ece",), True, ("test ECE", "held-out ECE")),
    ],
)
def test_the_figures_axes_say_of_which_data_they_are(tmp_path, monkeypatch, names, held_out, axes):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    metrics = {name: 0.1 for one in names for name in (one, on_test(one) or one)}
    both = Treatment(alpha=1), Treatment(alpha=2, loss="focal")
    found = [Record(number, one, "finished", metrics) for number, one in enumerate((Treatment(), *both), CONTROL)]
    objectives = dict.fromkeys(names, "min")
    pareto_figure(found, found[:1], objectives, "title", tmp_path / "pareto.png", held_out=held_out)
    (panel,) = drawn[0].axes
    shown = [said.removesuffix(" (lower is better)") for said in (panel.get_xlabel(), panel.get_ylabel())]
    assert tuple(shown) == axes


def test_the_control_is_a_line_over_temperatures_of_which_it_has_none(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    objective = {"final/accuracy": "max"}
    for field, line in (("temperature", [0.8, 0.8]), ("entropy_weight", None)):
        tried = [Treatment(**{"entropy_weight": 0.1, field: value}) for value in (0.3, 0.5)]
        found = [record(CONTROL, 0.2, 0.8), *(record(n, 0.1, 0.7, treatment=one) for n, one in enumerate(tried))]
        pareto_figure(found, found[1:2], objective, "title", tmp_path / "pareto.png")
        figure = drawn.pop()
        (axes,) = figure.axes
        controls = [artist for artist in (*axes.lines, *axes.collections) if artist.get_label() == "control"]
        assert len(controls) == 1
        assert [list(one.get_ydata()) for one in axes.lines if one in controls] == ([line] if line else [])
        assert [group for group in axes.collections if [0.7, 0.8] in group.get_offsets().tolist()] == []
        bands = [patch.get_extents().transformed(axes.transData.inverted()) for patch in axes.patches]
        heights = [(band.y0, band.y1) for band in bands]
        assert heights == ([pytest.approx((0.79, 0.81))] if line else []), "± the standard error of 0.79 and 0.81"
        bars = "bars and band" if line else "bars"
        assert figure.get_supxlabel().startswith(f"{bars}: ± one standard error over members,\nwhich does not cover")
        width = figure.get_figwidth() * figure.dpi
        extent = figure._supxlabel.get_window_extent(FigureCanvasAgg(figure).get_renderer())
        assert 0 <= extent.x0 < extent.x1 <= width


def test_an_axis_has_no_more_figures_than_there_is_room_for(tmp_path, monkeypatch):
    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: drawn.append(figure) or savefig(figure, *args, **options)
    )
    for low in (0.0201, 0.1234, 0.0):
        for span in (0.0185, 0.002, 0.11):
            found = [record(CONTROL, low, 0.98), record(0, low + span, 0.97)]
            found = [dataclasses.replace(one, members={}) for one in found]  # whose error bars would be wide
            pareto_figure(found, front(found, OBJECTIVES), OBJECTIVES, "title", tmp_path / "pareto.png")
            (axes,) = drawn.pop().axes
            boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
            assert all(one.x1 + 3 < next.x0 for one, next in itertools.pairwise(boxes)), (low, span)


def test_a_sweep_in_which_everything_failed_still_has_a_figure(tmp_path):
    found = [record(CONTROL, 0.2, 0.8), record(0, 0.0, 0.0, "failed", reason="it diverged")]
    pareto_figure(found, front(found, OBJECTIVES), OBJECTIVES, "title", tmp_path / "pareto.png")
    assert numbers(found) == [CONTROL]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": 1}', '{"treatment": {"no": 1}}'])
def test_a_record_that_cannot_be_read_counts_as_absent(tmp_path, text):
    records.write(tmp_path, record(0, 0.1, 0.9))
    (tmp_path / "00001.json").write_text(text)
    assert records.read(tmp_path, 1) is None
    assert [one.number for one in records.read_all(tmp_path)] == [0]


def test_a_record_is_read_as_it_was_written(tmp_path):
    written = [record(CONTROL, 0.2, 0.8), record(3, 0.1, 0.7, reason="because", state="failed")]
    for one in reversed(written):
        records.write(tmp_path, one)
    found = records.read_all(tmp_path)
    plain = [[json.dumps(dataclasses.asdict(one)) for one in some] for some in (found, written)]
    assert plain[0] == plain[1]
    assert records.read(tmp_path, 3) is not None
    assert records.read(tmp_path, 4) is None


@pytest.mark.parametrize(("name", "best_first"), [("final/recall_gap", [0, 2, 1]), ("final/accuracy", [1, 2, 0])])
def test_a_front_begins_with_the_best_in_the_first_objective(name, best_first):
    found = [record(CONTROL, 0.2, 0.5), record(0, 0.05, 0.7), record(1, 0.15, 0.9), record(2, 0.1, 0.8)]
    objectives = {name: OBJECTIVES[name], **OBJECTIVES}
    assert [one.number for one in front(found, objectives)] == best_first


def test_without_a_finished_trial_there_is_no_front():
    assert front([], OBJECTIVES) == front([record(0, 0.1, 0.9, "failed")], OBJECTIVES) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_figures_that_are_not_finite_have_no_front(value):
    with pytest.raises(InputError, match="a front needs finite figures"):
        pareto_mask(np.array([[0.1, value], [0.2, 0.3]]), ["min", "max"])


def test_without_an_objective_there_is_no_front():
    with pytest.raises(InputError, match="of at least 1 objective"):
        pareto_mask(np.zeros((3, 0)), [])


@pytest.mark.parametrize("directions", [["min", "maximize"], ["min", "Max"], ["min"], ["min", "max", "max"], [], "max"])
def test_directions_are_min_or_max_for_each_column(directions):
    with pytest.raises(InputError, match="must be 'min' or 'max' for each of 2 columns, got "):
        pareto_mask(np.array([[0.1, 0.9], [0.2, 0.95]]), directions)


@pytest.mark.parametrize("values", [[0.1, 0.2], 0.1, [["a", "b"]]])
def test_a_front_of_what_has_no_rows_of_numbers_is_one_sentence(values):
    with pytest.raises(InputError, match=r"a front needs an array of numbers \(T, O\)"):
        pareto_mask(values, ["min", "max"])


def test_what_changes_nothing_of_these_data_is_not_on_the_front_beside_the_control():
    """Where all classes are equally hard, say: its networks are the control's, to the last digit."""
    control, idle, worse = record(CONTROL, 0.1, 0.9), record(0, 0.1, 0.9), record(1, 0.2, 0.8)
    assert numbers([control, idle, worse]) == [CONTROL]
    alike = dataclasses.replace(idle, members={name: values[::-1] for name, values in idle.members.items()})
    assert numbers([control, alike]) == [CONTROL, 0], "as good by other networks"


def test_many_objectives_are_drawn_in_rows(tmp_path, monkeypatch):
    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **o: drawn.append(figure) or savefig(figure, *a, **o))
    names = ["recall_gap", "accuracy", "ece", "nll", "worst_recall"]
    objectives = {f"final/{name}": "min" for name in names}
    metrics = {f"final/{name}": 0.1 * n for n, name in enumerate(names)}
    found = [dataclasses.replace(record(n, 0, 0), metrics=metrics) for n in (CONTROL, 0)]
    pareto_figure(found, found, objectives, "many", tmp_path / "many.png")
    (figure,) = drawn
    assert len(figure.axes) == 10
    assert max(figure.get_size_inches()) < 20
