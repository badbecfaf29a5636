"""Which classes a treatment helps, and which pay for it."""

import dataclasses
import re

import numpy as np
import pytest
from rich.console import Console

from hardtune import Treatment
from hardtune.evaluation.comparison import holm, paired_difference
from hardtune.report.classes import _samples, against_control, class_figure, class_rows, class_table, class_tables
from hardtune.report.paper_tables import write_tables
from hardtune.report.records import CONTROL, Record

TREATMENT = Treatment(alpha=1.0, policy="shift", undersample="random", oversample="reweight")
NOISE = np.array([-0.01, 0.0, 0.012, -0.003])


def record(number, cat, dog, elk, *, weight=1.0, offset=0.0):
    """Recalls of four members, which differ by a little noise; the same seeds err alike."""

    def recall(mean, spread):
        own = np.random.default_rng([number + 1, round(1000 * mean)]).normal(size=24) * spread
        without = mean + 0.002 * np.arange(20) + own[4:] / 10
        return {"members": (mean + NOISE + own[:4]).tolist(), "left_out": without.tolist()}

    return Record(
        number,
        Treatment() if number == CONTROL else dataclasses.replace(TREATMENT, alpha=1.0 + number),
        "finished",
        per_class={
            "cat": {"size": 1300, "weight": weight, "offset": offset},
            "dog": {"size": 900, "weight": 1.0, "offset": 0.0},
            "elk": {"size": 20, "weight": 1.0, "offset": 0.0},
            "fox": {"size": 20, "weight": 1.0, "offset": 0.0},
        },
        recalls={"dog": recall(dog, 0.001), "cat": recall(cat, 0.001), "elk": recall(elk, 0.0)},
    )


CONTROLS, HELPED = record(CONTROL, 0.5, 0.9, 1.0), record(0, 0.6, 0.85, 1.0, weight=1.25, offset=-0.4)


def printed(tables):
    console = Console(width=80, record=True, color_system=None)
    for table in tables:
        console.print(table)
    return console.export_text()


def test_classes_are_compared_with_the_controls_hardest_first():
    rows = class_rows([HELPED], CONTROLS, among=1)
    assert [row["class"] for row in rows] == ["cat", "dog", "elk"], "of foxes there are no test samples"
    assert [row["verdict"] for row in rows] == ["better", "worse", "open"]
    for row in rows:
        ours, theirs = HELPED.recalls[row["class"]], CONTROLS.recalls[row["class"]]
        parts = np.subtract(ours["left_out"], theirs["left_out"])
        by_hand = paired_difference(ours["members"], theirs["members"], left_out=parts)
        assert (row["difference"], row["low"], row["high"]) == (by_hand.mean, by_hand.low, by_hand.high)
        assert row["images_share"] is not None
    counted = [(row["samples"], row["weight"], row["offset"], row["reference_weight"]) for row in rows]
    assert counted[:2] == [(1300, 1.25, -0.4, 1.0), (900, 1.0, 0.0, 1.0)], "numbers, for a file"
    assert rows[0]["mean"] == pytest.approx(0.6, abs=0.01)
    assert rows[0]["reference_mean"] == pytest.approx(0.5, abs=0.01)


def test_a_shift_of_logits_says_whether_the_loss_or_predictions_have_it():
    row = {"samples": 1300, "weight": 1.0, "offset": 0.0, "posthoc": 0.4}
    assert _samples(row) == "1,300, +0.40 post hoc"
    assert _samples({**row, "offset": -0.4, "posthoc": 0}) == "1,300, -0.40"


def test_holms_correction_is_for_each_class_of_all_that_was_tried():
    some, all_of_them = ([row["p_adjusted"] for row in class_rows([HELPED], CONTROLS, among=n)] for n in (1, 40))
    p = [row["p"] for row in class_rows([HELPED], CONTROLS, among=1)]
    assert some == holm(p)
    assert all_of_them[0] == pytest.approx(120 * p[0])
    both = class_rows([HELPED, record(1, 0.5, 0.9, 1.0)], CONTROLS, among=2)
    assert {row["of"] for row in both} == {6}


def test_what_only_the_correction_takes_for_chance_is_marked_and_counted(tmp_path):
    """Correction guards against false gains, and may hide that a class is hurt."""
    trials = [HELPED, record(1, 0.55, 0.45, 1.0), record(2, 0.5, 0.9, 1.0)]
    rows = class_rows(trials, CONTROLS, among=300_000)
    assert [row["verdict"] for row in rows] == ["open"] * 4 + ["worse"] + ["open"] * 4
    written = tmp_path / "it.tex"
    for made in ([class_table(rows)], class_tables(rows)):
        write_tables(made, written)
        tex = written.read_text()
        marks = re.findall(r"(\\dagger|{\*})\$? (?:&|\\\\)", tex)
        assert sorted(marks) == [r"\dagger"] * 3 + ["{*}"], "none where 0 is inside"
        assert "Intervals wholly below 0: 2 of 9, above 0: 2; chance alone would give about 0.2 of each" in tex
        assert r"$\dagger$ not, but its interval is wholly on one side of 0" in tex
        assert tex.isascii()


def test_the_worst_class_is_told_of_each_treatment_and_may_be_another():
    rows = class_rows([HELPED, record(1, 0.55, 0.45, 1.0)], CONTROLS, among=2)
    assert [table.caption.partition(". ")[0].rstrip(".") for table in class_tables(rows)] == [
        "Worst class: cat 50.01 (control), cat 59.99 (0)",
        "Worst class: cat 50.01 (control), dog 44.98 (1)",
    ]
    both = class_table(rows).caption
    assert both.startswith("Worst class: cat 50.01 (control), cat 59.99 (0), dog 44.98 (1). ")


def test_a_table_says_how_many_samples_a_class_had_and_what_they_counted():
    said = printed(class_tables(class_rows([HELPED], CONTROLS, among=1), "Beware."))
    title = "0: aum α=1 shift random/reweight, against control: recall × 100 ± 95 % interval"
    assert title in " ".join(said.split())
    (cat,) = [line.split() for line in said.splitlines() if line.strip().startswith("cat")]
    assert cat[:6] == ["cat", "1,300", "1,300", "×", "1.25,", "-0.40"]
    assert cat[-1] == "*"
    (elk,) = [line.split() for line in said.splitlines() if line.strip().startswith("elk")]
    assert (elk[:3], elk[-1]) == (["elk", "20", "20"], "equal"), "which says nothing of other images"
    assert "over seeds of training and over test images" in " ".join(said.split())
    assert said.rstrip().endswith("Beware.")


def test_a_paper_has_one_table_of_several_treatments(tmp_path):
    rows = class_rows([HELPED, record(1, 0.55, 0.9, 1.0)], CONTROLS, among=2)
    write_tables([class_table(rows, "Beware.")], tmp_path / "it.md")
    title, _, head, _, *lines, _, caption = (tmp_path / "it.md").read_text().splitlines()
    assert title == "**Against control: recall × 100, difference ± 95 % interval, paired over 4 members**"
    assert head == "| class | control ↑ | 0 | 1 |"
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    recalls = [f"{100 * row['reference_mean']:.2f}" for row in rows[:3]]
    assert [line[:2] for line in cells] == [list(it) for it in zip(["cat", "dog", "elk"], recalls, strict=True)]
    both = [f"{100 * row['difference']:+.2f}" for row in (rows[0], rows[3])]
    assert [re.fullmatch(r"(\S+) ±\d\.\d\d \\\*", cell)[1] for cell in cells[0][2:]] == both
    assert "columns are 0: aum α=1 shift random/reweight; 1: aum α=2 shift random/reweight. " in caption
    assert "correction for 6 differences" in caption
    assert caption.endswith("Beware.")


def test_tables_and_the_figure_say_how_many_test_images_a_class_has(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def counted(record):
        sizes = {"cat": 60, "dog": 1200, "elk": 2, "fox": 0}
        found = {name: {**one, "test_size": sizes[name]} for name, one in record.per_class.items()}
        return dataclasses.replace(record, per_class=found)

    rows = class_rows([counted(HELPED)], counted(CONTROLS), among=1)
    assert [row["test_size"] for row in rows] == [60, 1200, 2], "numbers, for a file"
    said = printed(class_tables(rows))
    (dog,) = [line.split() for line in said.splitlines() if line.strip().startswith("dog")]
    assert dog[:4] == ["dog", "900", "900", "1,200"]
    write_tables([class_table(rows)], tmp_path / "it.md")
    head, _, cat, *_ = (tmp_path / "it.md").read_text().splitlines()[2:]
    assert head == "| class | test images | control ↑ | 0 |"
    assert cat.startswith("| cat | 60 | 50.01 | ")
    drawn, savefig = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **o: drawn.append(self) or savefig(self, *a, **o))
    class_figure(rows, "pets", tmp_path / "it.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels == ["cat (50, n=60)", "dog (90, n=1,200)", "elk (100, n=2)"]
    title = " ".join(drawn[0].get_suptitle().split())
    assert "(in brackets, of n test images)" in title
    assert "Intervals wholly below 0: 1 of 3, above 0: 1;" in title


def test_a_difference_that_rounds_to_nothing_has_no_minus():
    (row, *_) = class_rows([HELPED], CONTROLS, among=1)
    said = printed(class_tables([row | {"difference": -0.0003, "low": -0.0533, "high": 0.0527, "verdict": "open"}]))
    assert "+0.0 ±5.3" in said


def test_against_another_trial_it_is_named():
    other = record(1, 0.55, 0.9, 0.98)
    said = " ".join(printed(class_tables(class_rows([HELPED], other, among=1))).split())
    assert "against 1: aum α=2 shift random/reweight" in said


def test_one_network_bounds_nothing():
    def single(record):
        recalls = {
            name: {"members": values["members"][:1], "left_out": values["left_out"]}
            for name, values in record.recalls.items()
        }
        return dataclasses.replace(record, recalls=recalls)

    rows = class_rows([single(HELPED)], single(CONTROLS), among=1)
    assert {(row["low"], row["high"], row["verdict"]) for row in rows} == {(None, None, "open")}
    said = " ".join(printed(class_tables(rows)).split())
    assert "paired over 1 member" in said
    assert "±∞" in said
    assert "since one network bounds nothing, and not corrected" in said
    assert "chance alone" not in said


def test_a_class_whose_few_images_are_all_gained_is_no_discovery(tmp_path):
    def of_two(record, recall):
        elk = {"members": [recall] * 8, "left_out": [recall] * 2}
        both = {name: {**it, "members": it["members"] * 2} for name, it in record.recalls.items()}
        return dataclasses.replace(record, recalls={**both, "elk": elk})

    rows = class_rows([of_two(HELPED, 1.0)], of_two(CONTROLS, 0.0), among=1)
    (elk,) = [row for row in rows if row["class"] == "elk"]
    assert (elk["difference"], elk["low"], elk["high"], elk["verdict"]) == (1, None, None, "open")
    said = printed(class_tables(rows))
    (line,) = [line.split() for line in said.splitlines() if line.strip().startswith("elk")]
    assert line[-2:] == ["+100.00", "±∞"]
    assert "unbounded where all of these, if few, or all images say the same, and not" in " ".join(said.split())
    write_tables(class_tables(rows), tmp_path / "it.tex")
    assert r"+100.00 $\pm$$\infty$ \\" in (tmp_path / "it.tex").read_text()
    class_figure(rows, "pets", tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("small", "said"),
    [
        (["elk"], "over test images (elk: over seeds alone), on one split"),
        (["cat", "elk"], "over test images (2 classes: over seeds alone), on one split"),
        (["cat", "dog", "elk"], "over seeds of training, on one split and one test set"),
    ],
)
def test_intervals_of_a_class_with_too_few_images_are_over_seeds_alone_which_is_told(small, said):
    def few(record):
        recalls = {
            name: {**values, "left_out": [] if name in small else values["left_out"]}
            for name, values in record.recalls.items()
        }
        return dataclasses.replace(record, recalls=recalls)

    rows = class_rows([few(HELPED)], few(CONTROLS), among=1)
    assert {row["class"] for row in rows if row["images_share"] is None} == set(small)
    assert said in " ".join(printed(class_tables(rows)).split())


def test_the_figure_has_a_panel_for_each_treatment_and_a_line_for_each_class(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: drawn.append(self))
    trials = [record(n, 0.6, 0.85, 1.0) for n in range(5)]
    class_figure(class_rows(trials, CONTROLS, among=5), "pets", tmp_path / "it.png")
    (figure,) = drawn
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title()[:2] for axes in panels] == [f"{n}:" for n in range(5)]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["cat (50)", "dog (90)", "elk (100)"]
    assert [len(axes.get_yticks()) for axes in panels] == [3, 0, 0, 0, 3], "the others have the same lines"
    assert {len(axes.lines) for axes in panels} == {1}, "all intervals are drawn at once: there may be a hundred"
    assert panels[0].get_ylim() == (2.5, -0.5), "the hardest on top"
    wide, wider = ({"low": -0.1, "high": 0.1}, {"low": -0.3, "high": 3.0})
    rows = [{**row, **(wider if row["trial"] == 4 else wide)} for row in class_rows(trials, CONTROLS, among=5)]
    class_figure(rows, "pets", tmp_path / "it.png")
    left, right = drawn[1].axes[0].get_xlim()
    assert left < -30, "room for those of all panels"
    assert right == 100, "and none for differences that cannot be"


def test_a_sweep_draws_the_trials_that_it_chose_each_treatment_once():
    again, failed = dataclasses.replace(HELPED, number=7), Record(8, Treatment(loss="focal"), "failed")
    none = dataclasses.replace(CONTROLS, number=9)
    found = [CONTROLS, HELPED, record(1, 0.5, 0.9, 1.0), again, failed, none]
    rows = against_control(found, [HELPED, again, failed, none])
    assert {row["trial"] for row in rows} == {0}
    assert {row["of"] for row in rows} == {6}, "two treatments were tried beside one that changes nothing"
    assert against_control(found, [none]) == []
    old = dataclasses.replace(CONTROLS, recalls={})
    assert against_control([old, HELPED], [HELPED]) == []
    many = dataclasses.replace(CONTROLS, recalls={str(n): CONTROLS.recalls["cat"] for n in range(101)})
    assert against_control([many, HELPED], [HELPED]) == []


def test_names_of_classes_are_no_formulas(tmp_path):
    def renamed(record):
        fields = {"per_class": record.per_class, "recalls": record.recalls}
        return dataclasses.replace(
            record, **{k: {f"${name}^$": it for name, it in v.items()} for k, v in fields.items()}
        )

    class_figure(class_rows([renamed(HELPED)], renamed(CONTROLS), among=1), "pets", tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 0
