"""Treatments held against one another: rows, verdicts, tables, figure."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hardtune import Treatment
from hardtune.errors import InputError
from hardtune.evaluation import METRICS
from hardtune.evaluation.comparison import compare, paired_difference
from hardtune.report.comparison import Comparison, check_comparison, compared
from hardtune.report.comparison_views import comparison_figure, tables
from hardtune.report.metric_names import better, figures_of_members
from hardtune.report.records import CONTROL, Record

METHOD = Treatment(entropy_weight=0.3)
SHUFFLED = Treatment(entropy_weight=0.3, entropy_target="shuffled")
SMOOTHED = Treatment(loss="label_smoothing")
SEEDS = np.random.default_rng(0).normal(scale=0.02, size=8)
"""What a seed does to every treatment alike."""


def record(number, treatment, accuracy, ece, state="finished"):
    noise = np.random.default_rng(number + 10).normal(scale=0.001, size=(2, 8))
    members = {"test/accuracy": accuracy + SEEDS + noise[0], "test/ece": ece + noise[1]}
    return Record(number, treatment, state, members={name: values.tolist() for name, values in members.items()})


RECORDS = [
    record(CONTROL, Treatment(), 0.9, 0.05),
    record(0, METHOD, 0.91, 0.03),
    record(1, SHUFFLED, 0.9, 0.05),
    record(2, SMOOTHED, 0.88, 0.09),
]
FIGURES = ("test/accuracy", "test/ece")
EVERYTHING = Comparison((METHOD, SHUFFLED, SMOOTHED), metrics=FIGURES)


def test_a_difference_is_paired_by_seed_and_corrected_within_its_metric():
    rows = compared(RECORDS, EVERYTHING)
    members = {r.number: r.members["test/accuracy"] for r in RECORDS}
    expected = compare({str(n): members[n] for n in (0, 1, 2)}, members[CONTROL])
    for number, row in enumerate(rows[:3]):
        difference = expected[str(number)]
        assert (row["difference"], row["low"], row["high"]) == (difference.mean, difference.low, difference.high)
        assert row["p_adjusted"] == difference.p_adjusted
    # The seeds' common part is ten times the difference; unpaired, nothing would show.
    assert rows[0]["high"] - rows[0]["low"] < 0.004


def test_better_and_worse_follow_the_metrics_direction_and_need_a_corrected_p():
    verdicts = {(row["metric"], row["treatment"]): row["verdict"] for row in compared(RECORDS, EVERYTHING)}
    for metric in FIGURES:
        assert verdicts[metric, str(METHOD)] == "better"
        assert verdicts[metric, str(SMOOTHED)] == "worse"
        assert verdicts[metric, str(SHUFFLED)] == "open"


def test_hard_classes_that_are_recalled_more_often_than_easy_ones_are_as_unequal():
    def gap(record, values):
        return dataclasses.replace(record, members={"test/recall_hard_easy": values})

    control, turned, same = [0.10, 0.12, 0.11], [-0.30, -0.33, -0.32], [-0.10, -0.12, -0.11]
    records = [gap(one, values) for one, values in zip(RECORDS, (control, turned, same), strict=False)]
    rows = compared(records, Comparison((METHOD, SHUFFLED), metrics=("test/recall_hard_easy",)))
    assert [row["verdict"] for row in rows] == ["worse", "open"]
    assert rows[0]["difference"] == pytest.approx(0.95 / 3 - 0.11)
    assert rows[1]["difference"] == pytest.approx(0)


def test_hard_and_easy_classes_that_differ_by_chance_alone_do_not_in_the_mean_over_networks():
    name = "test/recall_hard_easy"
    figures = ([0.02, -0.03, 0.02], [-0.30, -0.33, -0.32])
    parts = ([0.01, -0.01, 0.02], [-0.31, -0.33, -0.31])  # the mean over networks without each part of the images
    control, turned = (
        dataclasses.replace(one, members={name: values}, left_out={name: without})
        for one, values, without in zip(RECORDS, figures, parts, strict=False)
    )
    (row,) = compared([control, turned], Comparison((METHOD,), metrics=(name,)))
    by_hand = paired_difference(-np.array(figures[1]), figures[0], left_out=-np.array(parts[1]) - np.array(parts[0]))
    assert row["reference_mean"] == pytest.approx(0.01 / 3)
    assert (row["difference"], row["low"], row["high"]) == (by_hand.mean, by_hand.low, by_hand.high)


def test_a_figure_that_members_lack_is_not_paired_by_a_single_number():
    """Else the difference of two means would pass for that of one member each."""
    found = [dataclasses.replace(one, metrics={"test/nll": 0.5}) for one in RECORDS]
    with pytest.raises(KeyError, match="test/nll"):
        compared(found, Comparison((METHOD,), metrics=("test/nll",)))


def test_treatments_that_print_alike_keep_their_own_lines(tmp_path, monkeypatch):
    close = Treatment(alpha=0.8541), Treatment(alpha=0.8544)
    assert str(close[0]) == str(close[1])
    found = [RECORDS[0], record(0, close[0], 0.95, 0.01), record(1, close[1], 0.80, 0.2)]
    rows = compared(found, Comparison(close, metrics=FIGURES))
    out = io.StringIO()
    for table in tables(rows):
        Console(file=out, width=80).print(table)
    lines = [line for line in out.getvalue().splitlines() if "0.854" in line]
    assert [line.count("+") for line in lines] == [1, 1], "more accurate and less calibrated, then the other way round"
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    comparison_figure([rows], "it", tmp_path / "it.png")
    for axes in drawn[0].axes:
        assert axes.collections[-1].get_offsets()[:, 1].tolist() == [0, 1]


def test_what_else_the_entropy_weights_depend_on_is_told_where_it_is_not_the_default():
    assert str(Treatment(entropy_weight=0.2)) == "λ=0.2 rmd"
    assert str(Treatment(entropy_weight=0.2, entropy_scale="rank", temperature=1.5)) == "λ=0.2 rmd rank T=1.5"
    assert str(Treatment(entropy_weight=0.2, entropy_target="constant", temperature=1.5)) == "λ=0.2 constant"


def with_images(record, spread):
    """The record with what its figures are without each part of the test images."""
    noise = np.random.default_rng(record.number + 99).normal(scale=spread, size=20)
    return dataclasses.replace(
        record, left_out={name: (np.mean(values) + noise).tolist() for name, values in record.members.items()}
    )


def test_intervals_cover_test_images_where_both_records_say_how_much_depends_on_them():
    seeds_alone = compared(RECORDS, EVERYTHING)
    assert {row["images_share"] for row in seeds_alone} == {None}
    assert "intervals are over seeds of training, on one split and one test set" in tables(seeds_alone)[-1].caption
    rows = compared([with_images(one, 0.002) for one in RECORDS], EVERYTHING)
    for row, alone in zip(rows, seeds_alone, strict=True):
        assert row["low"] < alone["low"] < alone["high"] < row["high"]
        assert row["p"] > alone["p"]
        assert 0.5 < row["images_share"] < 1
    caption = tables(rows)[-1].caption
    assert (
        "over seeds of training and over test images, on one split; with endlessly many networks the median interval "
        "would shrink to" in caption
    )
    assert caption.endswith(" % of its width, the part that is due to test images.")
    assert tables(rows, prospects=False)[-1].caption.endswith("over test images, on one split.")
    assert [row["verdict"] for row in seeds_alone if row["trial"] == 0] == ["better", "better"]
    assert {row["verdict"] for row in compared([with_images(one, 0.05) for one in RECORDS], EVERYTHING)} == {"open"}
    for unknown in range(len(RECORDS)):
        some = [one if place == unknown else with_images(one, 0.002) for place, one in enumerate(RECORDS)]
        assert compared(some, EVERYTHING) == seeds_alone, "none looks surer than the others"


def test_what_is_equal_in_every_network_is_said_to_be_so_and_promises_nothing_of_more_networks():
    same = dataclasses.replace(RECORDS[0], number=0, treatment=METHOD)
    both = [with_images(RECORDS[0], 0.002), with_images(RECORDS[3], 0.002)]
    twin = dataclasses.replace(both[0], number=0, treatment=METHOD)
    rows = compared([both[0], twin], Comparison((METHOD,), metrics=FIGURES))
    assert {(row["low"], row["high"], row["images_share"]) for row in rows} == {(0, 0, 0)}
    said = printed(rows)
    assert said.count("equal") == 2
    assert "±0" not in said, "which would claim to know it of other images"
    assert "endlessly" not in said
    assert "equal" in printed(compared([RECORDS[0], same], Comparison((METHOD,), metrics=FIGURES)))

    def prospect(records):
        (said,) = re.findall(r"would shrink to (\d+) %", " ".join(printed(compared(records, EVERYTHING)).split()))
        return said

    assert prospect([both[0], twin, both[1]]) == prospect(both)


def test_what_is_compared_over_seeds_alone_is_named_where_others_are_not():
    some = [
        dataclasses.replace(one, left_out={"test/ece": one.left_out["test/ece"]})
        for one in (with_images(one, 0.002) for one in RECORDS)
    ]
    caption = tables(compared(some, EVERYTHING))[-1].caption
    assert "over test images (accuracy: over seeds alone), on one split" in caption
    single = [dataclasses.replace(one, members={n: v[:1] for n, v in one.members.items()}) for one in some]
    assert "endlessly" not in tables(compared(single, EVERYTHING))[-1].caption


def test_any_treatment_can_be_the_reference():
    rows = compared(RECORDS, Comparison((SHUFFLED,), reference=METHOD, metrics=FIGURES))
    assert [row["reference"] for row in rows] == [str(METHOD)] * 2
    assert [row["verdict"] for row in rows] == ["worse", "worse"]
    assert rows[0]["p_adjusted"] == rows[0]["p"], "a family of one needs no correction"


def test_what_did_not_finish_is_left_out():
    failed = [*RECORDS[:2], dataclasses.replace(RECORDS[2], state="failed"), RECORDS[3]]
    assert {row["treatment"] for row in compared(failed, EVERYTHING)} == {str(METHOD), str(SMOOTHED)}
    assert compared(RECORDS[1:], EVERYTHING) == []
    assert compared(RECORDS[:1], EVERYTHING) == []


def test_every_figure_that_members_have_has_a_direction():
    for name, metric in METRICS.items():
        assert better(f"test/{name}") == better(f"final/{name}") == metric.better
    assert [better(f"ood/entropy_{name}") for name in ("auroc", "aupr_in", "aupr_out", "fpr95")] == ["max"] * 3 + [
        "min"
    ]
    assert better("test/recall_hard_easy") == "min"


# The last five are made of parts that exist, as no member has them together.
@pytest.mark.parametrize(
    "name",
    [
        *("accuracy", "test/acuracy", "ood/msp", "ood/knn_auroc", "test_ensemble/ece"),
        *("final/nll_scaled", "test/recall_gap_scaled", "corruptions/nll", "ood/msp_in", "ood/msp_aupr_auroc"),
    ],
)
def test_a_figure_that_members_have_not_is_refused_with_those_they_have(name):
    with pytest.raises(InputError, match=f"unknown figure of a member '{name}': choose from .*test/accuracy"):
        better(name)


@pytest.mark.parametrize(
    ("comparison", "sentence"),
    [
        (Comparison((METHOD,), metrics=("ood/msp_auroc",)), "'ood/msp_auroc' is compared, but the sweep does not mea"),
        (Comparison((METHOD,), metrics=("test/ece_scaled",)), "'test/ece_scaled' is compared.* another validation tha"),
        (Comparison((SMOOTHED,)), "the treatment 'label_smoothing' is compared, but not in the sweep's list"),
        (Comparison((METHOD,), reference=SHUFFLED), "the treatment 'λ=0.3 shuffled' is compared"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_said_before_training(comparison, sentence):
    measured = figures_of_members(["test"], scaled=False)
    check_comparison(Comparison((METHOD,)), [METHOD], measured)
    with pytest.raises(InputError, match=sentence):
        check_comparison(comparison, [METHOD], measured)


def test_tables_fit_a_terminal_of_80_columns_and_show_every_metric():
    names = ["accuracy", "ece", "nll", "aurc", "ece_scaled", "misclassification_auroc"]
    records = [
        dataclasses.replace(r, members={f"test/{name}": r.members["test/ece"] for name in names}) for r in RECORDS
    ]
    rows = compared(records, dataclasses.replace(EVERYTHING, metrics=tuple(f"test/{name}" for name in names)))
    made = tables(rows)
    out = io.StringIO()
    console = Console(file=out, width=80, markup=False)  # as the sweeps' is
    for table in made:
        console.print(table)
    text = out.getvalue()
    assert len(made) == 2
    assert "…" not in text, "nothing is cut off"
    assert text.count("label_smoothing") == 2
    assert "Against control: difference × 100 ± 95 % interval, paired over 8 members" in text
    for heading in ("accuracy", "ECE", "NLL", "AURC", "scaled"):
        assert heading in text
    assert "[" not in text, "colours are no part of the text"
    starred = next(line for line in text.splitlines() if "label_smoothing" in line)
    assert "*" in starred
    assert "after Holm's correction for all lines " in text
    assert " ".join(text.split()).count("intervals are over seeds of training, on one split") == 1


def test_tables_say_how_many_were_corrected_for_and_what_their_readers_must_know():
    rows = [row for row in compared(RECORDS, EVERYTHING) if row["treatment"] == str(METHOD)]
    (table,) = tables(rows, "Treatments were chosen on this test split.")
    assert "correction for all 3 treatments that were tried" in table.caption
    assert "Treatments were chosen on this test split." in table.caption


def test_held_out_and_test_figures_are_told_apart():
    records = [
        dataclasses.replace(r, members={**r.members, "final/accuracy": r.members["test/accuracy"]}) for r in RECORDS
    ]
    rows = compared(records, Comparison((METHOD,), metrics=("final/accuracy", "test/accuracy")))
    (table,) = tables(rows)
    assert [column.header for column in table.columns] == ["treatment", "held-out\naccuracy ↑", "accuracy ↑"]


def test_one_member_has_no_interval_and_its_rows_are_json():
    alone = [dataclasses.replace(r, members={n: values[:1] for n, values in r.members.items()}) for r in RECORDS]
    rows = compared(alone, EVERYTHING)
    assert {row["low"] for row in rows} == {row["high"] for row in rows} == {None}
    json.dumps(rows, allow_nan=False)
    said = " ".join(printed(rows).split())
    assert "±∞" in said
    assert "intervals are unbounded, since one network bounds nothing." in said
    assert "over seeds" not in said


def test_a_panel_is_drawn_for_what_is_compared_and_for_nothing_else(tmp_path, monkeypatch):
    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **options: drawn.append(figure) or savefig(figure, *args, **options)
    )
    families = [
        compared(RECORDS, Comparison((METHOD,), metrics=("test/accuracy",))),
        compared(RECORDS, Comparison((SMOOTHED, SHUFFLED), metrics=("test/ece",))),
    ]
    comparison_figure(families, "a title", tmp_path / "it.png")
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert [axes.get_title() for axes in panels] == ["accuracy (higher is better)", "ECE (lower is better)"]
    assert [len(axes.get_yticks()) for axes in panels] == [1, 2]


def test_the_figure_is_drawn_for_several_references_and_many_metrics(tmp_path):
    families = [compared(RECORDS, EVERYTHING), [], compared(RECORDS, Comparison((SHUFFLED,), METHOD, FIGURES))]
    comparison_figure(families, "a title", tmp_path / "figures" / "comparison.png")
    assert (tmp_path / "figures" / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_a_row_has_the_means_of_both_sides():
    rows = compared(RECORDS, EVERYTHING)
    assert [(row["metric"], row["treatment"]) for row in rows[::3]] == [(name, str(METHOD)) for name in FIGURES]
    for row in rows[::3]:
        assert row["mean"] == pytest.approx(np.mean(RECORDS[1].members[row["metric"]]))
        assert row["reference_mean"] == pytest.approx(np.mean(RECORDS[0].members[row["metric"]]))


def test_the_reference_is_not_compared_with_itself_nor_any_treatment_twice():
    twin = Treatment(entropy_weight=0.3, alpha=1.0, undersample="none", oversample="none")  # comes to the method
    rows = compared(RECORDS, Comparison((Treatment(), METHOD, twin, Treatment(estimator="el2n")), metrics=FIGURES))
    assert [row["treatment"] for row in rows] == [str(METHOD)] * 2
    assert rows[0]["p_adjusted"] == rows[0]["p"]
    relabelled = [RECORDS[0], dataclasses.replace(RECORDS[1], treatment=twin)]
    assert len(compared(relabelled, Comparison((METHOD,), metrics=FIGURES))) == 2
    check_comparison(Comparison((twin,), Treatment(estimator="el2n")), [METHOD], figures_of_members(["test"]))
    check_comparison(Comparison((METHOD,)), [twin], figures_of_members(["test"]))


def printed(rows):
    out = io.StringIO()
    console = Console(file=out, width=80, markup=False)
    for table in tables(rows):
        console.print(table)
    return out.getvalue()


def rows_of(difference, reach, metrics=("test/accuracy",)):
    (row,) = compared(RECORDS[:2], Comparison((METHOD,), metrics=("test/accuracy",)))
    low, high = (None, None) if reach is None else (difference - reach, difference + reach)
    return [row | {"metric": metric, "difference": difference, "low": low, "high": high} for metric in metrics]


@pytest.mark.parametrize(
    ("difference", "reach", "cell"),
    [
        (0.0123, 0.0045, "+1.23 ±0.45"),
        (-0.0123, 0.045, "-1.2 ±4.5"),
        (0.123, 0.25, "+12 ±25"),
        (0.0000123, 0.0000045, "+0.0012 ±0.0005"),
        (0.0123, 0.0, "+1.23 ±0.00"),
        (0.0123, None, "+1.23 ±∞"),
        (-0.0003, 0.053, "+0.0 ±5.3"),
    ],
)
def test_a_difference_has_two_figures_of_its_interval(difference, reach, cell):
    assert cell in printed(rows_of(difference, reach))


def test_the_narrowest_interval_of_a_column_is_not_rounded_to_nothing():
    wide = [row | {"trial": 9 + n, "treatment": str(n)} for n in range(3) for row in rows_of(-0.0158, 0.2)]
    assert "-1.6 ±0.2" in printed([*rows_of(-0.0158, 0.0024), *wide])
    assert "-1.58 ±0.02" in printed([*rows_of(-0.0158, 0.00024), *wide])
    assert "-1.58 ±0.00" in printed([*rows_of(-0.0158, 0.0000024), *wide]), "within the table's width"


def test_an_unbounded_interval_is_drawn_as_a_line_and_said(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    for reach in (0.01, None):
        comparison_figure([rows_of(0.01, reach)], "it", tmp_path / "it.png")
    styles = [{line.get_linestyle() for line in figure.axes[0].lines} for figure in drawn]
    assert [":" in each for each in styles] == [False, True]
    title = " ".join(drawn[0].get_suptitle().split())
    assert "Holm's correction for 1 treatment in each panel, dotted is unbounded" in title


@pytest.mark.parametrize(("members", "over", "said"), [(1, "members", "1 member"), (3, "sweeps", "3 sweeps")])
def test_the_figure_says_over_how_many_it_is_paired(tmp_path, monkeypatch, members, over, said):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    comparison_figure([[row | {"members": members, "over": over} for row in rows_of(0.1, 0.1)]], "pets", tmp_path / "f")
    assert " ".join(drawn[0].get_suptitle().split()).startswith(f"pets: {said}: differences")


def test_each_metric_is_in_one_table_of_four():
    names = ("accuracy", "ece", "nll", "aurc", "brier")
    made = tables(rows_of(0.01, 0.01, [f"test/{name}" for name in names]))
    assert [len(table.columns) - 1 for table in made] == [4, 1]


def test_who_was_chosen_by_racing_is_corrected_for_those_that_it_stopped():
    stopped = [Record(3 + n, Treatment(entropy_weight=0.4 + n / 10), "stopped") for n in range(3)]
    failed = Record(6, Treatment(entropy_weight=0.9), "failed")
    again = Record(7, stopped[0].treatment, "stopped")  # the same treatment
    anew = Record(8, RECORDS[1].treatment, "stopped")  # that of one that finished
    records = [*RECORDS, *stopped, failed, again, anew]
    rows = compared(records, Comparison(tuple(one.treatment for one in records[1:]), metrics=FIGURES))
    assert {row["of"] for row in rows} == {6}
    assert {row["trial"] for row in rows} == {0, 1, 2}
    known = {row["metric"]: row for row in compared(RECORDS, EVERYTHING) if row["trial"] == 2}
    for row in rows:
        if row["trial"] == 2:
            assert row["p"] == known[row["metric"]]["p"]
            assert row["p_adjusted"] > known[row["metric"]]["p_adjusted"]
    assert {row["of"] for row in compared(records, EVERYTHING)} == {3}, "who was named before is not chosen by it"
