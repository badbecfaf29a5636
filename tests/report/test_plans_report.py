"""What treatments do to classes is readable in a terminal, whatever the classes are called."""

import io
import math

import pytest
from matplotlib.figure import Figure
from rich.console import Console

from hardtune import Treatment
from hardtune.report.plans import Planned, plan_table, sweep_table
from hardtune.report.plans_figure import plan_figure, sweep_figure
from hardtune.resampling.class_plan import ClassPlan


def test_long_names_of_classes_leave_room_for_the_treatments():
    names = ["a class with a long name", "another class with one"]
    classes = tuple(ClassPlan(name, 0.5, 5000, 0, 100, 300, 5200, 1.0, 0.0, 0.0, "random", None) for name in names)
    plans = [Planned(Treatment(alpha=alpha, policy="shift"), classes) for alpha in (1.0, 2.0)]
    console = Console(file=io.StringIO(), width=80)
    console.print(sweep_table(plans, "title"))
    lines = console.file.getvalue().splitlines()
    (heading,) = (line.split() for line in lines if "samples" in line)
    assert heading == ["treatment", "samples", "shrinks", "most", "grows", "most", "feasible"]
    assert max(map(len, lines)) <= 80
    assert sum("α=" in line for line in lines) == 2, "a treatment's name is not cut within its words"


@pytest.mark.parametrize(
    ("how", "more", "less", "told"),
    [
        ("reweight", "× 1.20", "× 0.80", "×: the weight of its losses."),
        ("adjust", "+0.18", "-0.22", "+ or -: the shift of its logit in the loss."),
        (
            "posthoc",
            "+0.18 post hoc",
            "-0.22 post hoc",
            "post hoc: its logit's shift in predictions.",
        ),
    ],
)
def test_classes_that_keep_their_samples_are_told_what_they_get_instead(tmp_path, monkeypatch, how, more, less, told):
    def row(name, hardness, factor):
        counts = {
            "reweight": (factor, 0.0, 0.0),
            "adjust": (1.0, math.log(factor), 0.0),
            "posthoc": (1.0, 0.0, math.log(factor)),
        }
        return ClassPlan(name, hardness, 500, 0, 0, 0, round(500 * factor), *counts[how], "", None)

    classes = (row("cat", 2.0, 1.2), row("ship", 1.0, 0.8))
    plans = [Planned(Treatment(alpha=1.0, undersample=how, oversample=how), classes)]
    for table, expected in (
        (plan_table, [f"cat 2 500 500 {more} 120%", f"ship 1 500 500 {less} 80%"]),
        (sweep_table, [f"{how} 1000 ship: 500 → 500 ({less}) cat: 500 → 500 ({more}) yes"]),
    ):
        console = Console(file=io.StringIO(), width=120)
        console.print(table(plans, "title"))
        said = [" ".join(line.split()) for line in console.file.getvalue().splitlines()]
        assert all(any(line.endswith(one) for line in said) for one in expected), said
        assert f"What a class gets instead of other samples: {told}" in " ".join(said)
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: drawn.append(figure))
    for draw in (plan_figure, sweep_figure):
        draw(plans, "title", tmp_path / "it.png")
        texts = [" ".join(text.get_text().split()) for text in drawn[-1].axes[0].texts]
        assert texts == [more, less]
        assert " ".join(drawn[-1].get_supxlabel().split()).endswith(f"instead of other samples: {told}")
    assert drawn[-1].axes[1].get_ylabel() == "counts as … of its size"


def test_nothing_is_told_of_other_ways_where_samples_are_resampled():
    classes = (ClassPlan("cat", 2.0, 500, 0, 0, 50, 550, 1.0, 0.0, 0.0, "random", None),)
    for table in (plan_table, sweep_table):
        assert "instead" not in table([Planned(Treatment(alpha=1.0), classes)], "title").caption


def test_a_sweeps_table_says_which_classes_are_shrunk_as_far_as_may_be():
    classes = (
        ClassPlan("cat", 2.0, 500, 0, 0, 450, 950, 1.0, 0.0, 0.0, "random", None),
        ClassPlan("ship", 1.0, 500, 0, 450, 0, 50, 1.0, 0.0, 0.0, "", None),
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(sweep_table([Planned(Treatment(alpha=9.0), classes)], "title"))
    said = " ".join(console.file.getvalue().split())
    assert "Shrunk to the tenth that every class keeps, though less may be asked for: ship." in said


@pytest.mark.parametrize("figure", [plan_figure, sweep_figure])
@pytest.mark.parametrize("name", ["$x^$", "$x^$ ship"])
def test_names_of_classes_are_no_formulas(tmp_path, figure, name):
    classes = tuple(ClassPlan(each, 2.0, 500, 0, 0, 0, 500, 1.0, 0.0, 0.0, "", None) for each in (name, "dog"))
    figure([Planned(Treatment(alpha=1.0), classes)], "title", tmp_path / "it.png")
    assert (tmp_path / "it.png").stat().st_size > 0
