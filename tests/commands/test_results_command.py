"""What a sweep found can be seen again, by other figures, against the control and as tables."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter

import pytest

from hardtune import Recipe, Treatment, load
from hardtune.errors import InputError
from hardtune.evaluation.metric import METRICS, Metric
from hardtune.report import records
from hardtune.report.comparison import Comparison
from hardtune.report.paper_tables import _escaped, _literal, write_tables
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import find
from hardtune.report.tables import plain_table
from hardtune.sweep import Sweep
from hardtune.sweep.ledger import open_ledger

SPACE = {"alpha": [0.0, 1.0], "policy": "shift"}
TREATMENTS = (Treatment(alpha=0.5, policy="shift"), Treatment(loss="focal"))


def finished(number, treatment, gap, accuracy, nll):
    """A trial of three members that differ by a little noise, and by what is given on the test split."""
    noise = (-0.01, 0.0, 0.012 + 0.001 * number)
    names = {"recall_gap": gap, "accuracy": accuracy, "ece": 0.1, "nll": nll, "aurc": 0.05, "mine": 0.3}
    figures = {f"{group}/{name}": value for group in ("final", "test") for name, value in names.items()}
    return Record(
        number,
        treatment,
        "finished",
        {**figures, **{name.replace("/", "_std/"): 0.01 for name in figures}},
        per_class={
            "cat": {"size": 12, "test_size": 5, "recall": accuracy},
            "dog": {"size": 30, "test_size": 9, "recall": accuracy + 0.1},
        },
        members={name: [value + error for error in noise] for name, value in figures.items()},
        recalls={
            name: {"members": [value + error for error in noise], "left_out": [value, value + 0.001]}
            for name, value in (("dog", accuracy + 0.1), ("cat", accuracy))
        },
    )


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """A storage with a search, a list of treatments, and a sweep that has just begun."""
    storage, split = tmp_path_factory.mktemp("storage"), load("digits").hold_out(0.1, 0)
    control = finished(CONTROL, Treatment(), 0.2, 0.80, 0.6)

    def begun(name, space, found, **options):
        ledger = open_ledger(Sweep(name, "digits", Recipe(), space, **options), split, storage, resume=False)
        for record in found:
            records.write(ledger.trials, record)
        return ledger.folder

    begun("pets", SPACE, [control, finished(0, TREATMENTS[0], 0.5, 0.1, 0.9)])  # an earlier one of the name
    search = [
        control,
        finished(0, TREATMENTS[0], 0.1, 0.79, 0.5),
        finished(1, TREATMENTS[1], 0.3, 0.95, 0.4),
        finished(2, Treatment(alpha=2.0, policy="shift"), 0.25, 0.70, 0.7),
        Record(3, Treatment(alpha=3.0), "failed", reason="it diverged, at once"),
    ]
    begun("pets", SPACE, search)
    asked = [Comparison(TREATMENTS, metrics=("test/ece",)), Comparison(TREATMENTS[1:], TREATMENTS[0], ("test/ece",))]
    begun("list", TREATMENTS, search[:3], comparisons=asked)
    again = [finished(1, TREATMENTS[0], 0.1, 0.79, 0.5), finished(2, Treatment(), 0.2, 0.80, 0.6)]
    begun("again", SPACE, [control, finished(0, TREATMENTS[0], 0.1, 0.79, 0.5), *again])
    raced = Record(1, TREATMENTS[1], "stopped", members={"final/ece": [0.3]}, reason="it came to nothing")
    begun("raced", SPACE, [control, finished(0, TREATMENTS[0], 0.1, 0.79, 0.5), raced])
    begun("fresh", SPACE, [])
    begun("begun", TREATMENTS, [control])
    with pytest.MonkeyPatch.context() as its_script:
        its_script.setitem(METRICS._entries, "mine", Metric(lambda predictions: 0.3, "max"))
        begun("own", SPACE, search[:3], objectives={"final/mine": "max"})
        begun("own-list", TREATMENTS, search[:3], comparisons=[Comparison(TREATMENTS, metrics=("test/mine",))])
    return storage


@pytest.fixture
def results(command, sweeps):
    def run(*arguments):
        out, err, code = command("results", *arguments, "--storage", sweeps)
        assert (err, code) == ("", 0)
        return out

    return run


def trials(out):
    """The first column of the lines that have figures."""
    lines = (line.split() for line in out.splitlines())
    return [words[0] for words in lines if words and (words[0].isdigit() or words[0] == "control")]


def test_the_sweeps_of_a_storage_are_listed_with_what_became_of_their_trials(results, sweeps, command, tmp_path):
    lines = [line.split() for line in results().splitlines()]
    counts = [(words[0].split("-")[0], *words[1:4]) for words in lines if len(words) > 4 and words[0] != "sweep"]
    assert sorted(counts) == [
        ("again", "3", "0", "0"),
        ("begun", "0", "0", "0"),
        ("fresh", "0", "0", "0"),
        ("list", "2", "0", "0"),
        ("own", "2", "0", "0"),
        ("own", "2", "0", "0"),
        ("pets", "1", "0", "0"),
        ("pets", "3", "0", "1"),
        ("raced", "1", "1", "0"),
    ]
    folder = next((sweeps / "sweeps").glob("fresh-*"))
    longer = tmp_path / "storage" / "sweeps" / f"fresh-{'and-long-' * 9}{folder.name}"
    shutil.copytree(folder, longer)
    assert longer.name in command("results", "--storage", tmp_path / "storage")[0], "in one piece"
    out, _, code = command("results", "--storage", tmp_path)
    assert (out.split()[:5], code) == (["no", "sweep", "left", "anything", "in"], 0)


OBJECTIVES = ("final/accuracy", "final/nll", "final/recall_gap", "final/aurc", "test/nll")


@pytest.mark.parametrize("columns", [40, 50, 60, 66, 72])
@pytest.mark.parametrize(
    "flags",
    [
        (),
        *(("--objectives", *OBJECTIVES[:count]) for count in (3, 5)),
        ("--compare", "--metrics", "test/accuracy", "test/nll", "test/recall_gap", "test/ece"),
        ("--classes",),
    ],
)
def test_nothing_is_cut_off_or_left_out_on_a_narrow_terminal(results, monkeypatch, columns, flags):
    def words(width):
        monkeypatch.setenv("COLUMNS", str(width))
        return Counter(results("pets", *flags).split())

    lacking = {word for word in words(300) - words(columns) if set(word) != {"─"}}
    assert lacking <= {"easiest/random"}, "of a treatment, which may be folded"


def test_the_front_of_the_latest_sweep_of_a_name_is_shown_again_or_that_of_an_id(results, sweeps):
    out = results("pets")
    assert trials(out) == ["0", "1", "control"]
    assert "0.100 / 0.100" in out
    assert "on held-out training data, which the search saw" in " ".join(out.split())
    first = min(path.name for path in (sweeps / "sweeps").glob("pets-*"))
    assert trials(results(first)) == ["control"]


def test_a_front_may_be_by_other_figures_and_drawn_for_a_paper(results, tmp_path):
    figure = tmp_path / "deep" / "front.pdf"
    out = results("pets", "--objectives", "test/nll", "test/recall_gap", "--figure", figure)
    assert trials(out) == ["1", "0", "control"]
    assert "which the search saw" not in out
    assert figure.read_bytes().startswith(b"%PDF")
    assert trials(results("pets", "--objectives", "test/nll", "--figure", tmp_path / "nll.png")) == ["1", "control"]
    assert trials(results("pets", "--objectives", "final/mine=max", "final/accuracy=max")) == ["1", "control"]


def test_what_racing_saved_is_said_again(results):
    members = Recipe().members
    assert f"1 of 2 trials was stopped, which saved {members - 1} of {members + 3} networks" in results("raced")
    assert "stopped, which saved" not in results("pets")


def test_figures_of_held_out_samples_say_so_beside_those_of_the_test_split(results):
    out = results("pets", "--objectives", "test/nll", "final/recall_gap")
    assert "test NLL ↓" in out
    assert "held-out recall gap ↓" in out


def test_which_way_a_scripts_own_metric_is_better_is_known_without_the_script(results, tmp_path):
    assert trials(results("own", "--objectives", "test/mine"))[-1] == "control"
    assert "better than the control: trial" in (said := results("own")) or "significantly better or worse" in said
    assert "mine ↑" in results("own", "--compare", 1), "the test split's of its objective"
    assert "mine ↑" in results("own", "--compare", 1, "--metrics", "test/mine")
    assert "mine ↑" in results("own-list", "--figure", tmp_path / "it.png")


def test_the_front_is_held_against_the_control_on_the_test_split(results, tmp_path):
    out = results("pets", "--compare", "--figure", tmp_path / "comparison.svg")
    assert "paired over 3 members" in out
    assert [line.split(":")[0].strip() for line in out.splitlines() if ": " in line][1:] == ["0", "1"]
    assert re.search(r"1: focal .*\+15\.\d+ ±0\.\d+ \*", out), "what its members' accuracies have more, by little noise"
    assert "<svg" in (tmp_path / "comparison.svg").read_text()
    assert "correction for all 3 treatments that were tried" in " ".join(out.split()), "whoever is chosen among three"
    out = results("pets", "--compare", 2, "--metrics", "final/nll")
    assert "2: aum α=2" in out
    assert "1: focal" not in out


@pytest.mark.parametrize("flag", ["--compare", "--classes"])
def test_what_was_chosen_on_the_test_split_says_so_wherever_it_is_compared(results, tmp_path, flag):
    asked = ("pets", "--objectives", "test/recall_gap", "test/nll", flag, "--table", tmp_path / "it.md")
    out = results(*asked)
    assert "Chosen on the test split." in " ".join(out.split())
    assert "Chosen on the test split." in " ".join((tmp_path / "it.md").read_text().split())
    if flag == "--compare":
        columns = "recall gap ↓ | NLL ↓ | accuracy ↑"
        assert columns in (tmp_path / "it.md").read_text(), "the figures that one chose by come first"
    assert "Chosen on" not in results("pets", flag)


FIGURE = re.compile(r"(?<!\S)[-+]?\d+\.\d+(?!\S)")


@pytest.mark.parametrize("flags", [(), ("--compare",)])
def test_what_is_shown_can_be_had_as_markdown(results, tmp_path, flags):
    out = results("pets", *flags, "--table", tmp_path / "it.md")
    title, _, *lines = (tmp_path / "it.md").read_text().splitlines()
    assert title.strip("*") in " ".join(out.split())
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert FIGURE.findall("\n".join(lines)) == FIGURE.findall(out) != []
    assert "lower is better, ↑ higher" in lines[-1]


def test_a_comparison_by_many_metrics_is_one_table_in_a_file(results, tmp_path):
    metrics = [f"test/{name}" for name in ("recall_gap", "accuracy", "ece", "nll", "aurc", "mine")]
    out = results("own", "--compare", 1, "--metrics", *metrics, "--table", tmp_path / "it.md")
    assert len(re.findall("Against control", out)) == 2
    (head,) = [line for line in (tmp_path / "it.md").read_text().splitlines() if line.startswith("| treatment")]
    assert head == "| treatment | recall gap ↓ | accuracy ↑ | ECE ↓ | NLL ↓ | AURC ↓ | mine ↑ |"


@pytest.mark.parametrize("flags", [(), ("--compare",)])
def test_or_as_latex(results, tmp_path, flags):
    results("pets", *flags, "--table", tmp_path / "it.md")
    results("pets", *flags, "--table", tmp_path / "it.tex")
    markdown, latex = ((tmp_path / f"it.{form}").read_text() for form in ("md", "tex"))
    assert latex.isascii(), "no packages are needed for its symbols"
    assert sorted(FIGURE.findall(latex.replace("$-$", "-"))) == sorted(FIGURE.findall(markdown))


def test_latex_tables_are_centred_have_labels_and_take_both_columns_of_a_page_if_wide(results, tmp_path):
    metrics = [f"test/{name}" for name in ("recall_gap", "accuracy", "ece", "nll", "aurc", "mine")]
    results("own", "--compare", 1, "--metrics", *metrics, "--table", tmp_path / "wide it.tex")
    wide = (tmp_path / "wide it.tex").read_text().splitlines()
    assert (wide[1:3], wide[-1]) == ([r"\begin{table*}", r"\centering"], r"\end{table*}")
    (label,) = [line for line in wide if line.startswith(r"\label")]
    assert re.fullmatch(r"\\label{tab:own-\d{8}-\d{6}-wide-it}", label)
    results("pets", "--objectives", *OBJECTIVES, "--table", tmp_path / "front.tex")
    front = (tmp_path / "front.tex").read_text()
    assert r"\begin{tabular}{rlrrrrr}" in front
    assert r"\begin{table}" in front, "the trial before the treatment is no figure"
    results("list", "--compare", "--table", tmp_path / "it.tex")
    assert r"\begin{table}" in (tmp_path / "it.tex").read_text()
    assert len({*re.findall(r"\\label{.*}", (tmp_path / "it.tex").read_text())}) == (
        (tmp_path / "it.tex").read_text().count(r"\begin{tabular}")
    )


@pytest.mark.parametrize(
    ("flags", "columns"),
    [
        ((), {"trial", "treatment", "pareto", "final/recall_gap", "test/recall_gap"}),
        (("--compare",), {"reference", "metric", "trial", "difference", "low", "high", "p", "p_adjusted", "of"}),
        (("--classes",), {"class", "trial", "samples", "difference", "low", "high", "p", "p_adjusted", "verdict"}),
    ],
)
def test_or_as_csv_with_all_that_is_known_of_each_row(results, tmp_path, flags, columns):
    results("pets", *flags, "--table", tmp_path / "it.csv")
    with (tmp_path / "it.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert columns <= rows[0].keys()
    assert {row["trial"] for row in rows} == {"0", "1", *(() if flags else ("control",))}


def test_signs_that_latex_would_misread_are_escaped():
    assert _escaped("label_smoothing α=0.5 & 5% -0.1 a-b") == r"label\_smoothing $\alpha$=0.5 \& 5\% $-$0.1 a-b"
    assert _escaped("+1.93 ±∞ †") == r"+1.93 $\pm$$\infty$ $\dagger$"
    assert _escaped("[cat] *|") == r"{[}cat] {*}\textbar{}", "else, after a line break, they are its arguments"


def test_signs_that_markdown_would_misread_are_escaped():
    assert _literal("label_smoothing 1.0 -0.5 (×)") == "label_smoothing 1.0 -0.5 (×)"
    assert _literal("__init__ <b> `x` a|b *") == r"\_\_init\_\_ \<b> \`x\` a\|b \*"
    assert _literal("a\\|b [c](d)") == r"a\\\|b \[c](d)"


@pytest.mark.parametrize("form", ["tex", "md"])
def test_what_more_networks_would_do_is_said_on_the_terminal_alone(command, sweeps, tmp_path, form):
    """It is for those who can train them, not for a paper's readers."""
    storage = tmp_path / "storage"
    shutil.copytree(sweeps, storage)
    folder = find(storage, "list").trials
    for one in records.read_all(folder):
        parts = {name: [values[0] + 0.01 * one.number, values[0]] for name, values in one.members.items()}
        records.write(folder, dataclasses.replace(one, left_out=parts))
    flags = ("--compare", "--storage", storage, "--table", tmp_path / f"it.{form}")
    out, _, code = command("results", "list", *flags)
    assert (code, "with endlessly many networks the median interval" in " ".join(out.split())) == (0, True)
    written = (tmp_path / f"it.{form}").read_text()
    assert "over test images, on one split." in written
    assert "endlessly" not in written


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
@pytest.mark.parametrize("flags", [(), ("--compare",)])
def test_latex_itself_reads_it(results, tmp_path, flags):
    results("pets", *flags, "--table", tmp_path / "it.tex")
    assert typeset(tmp_path)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_reads_classes_of_any_name(tmp_path):
    table = plain_table()
    for heading in ("class", "recall"):
        table.add_column(heading)
    for name in ("cat", "[cat]", "*", r"\cat", "US$_$", "{", "a|b", "#~^&%"):
        table.add_row(name, "0.5")
    write_tables([table], tmp_path / "it.tex")
    assert typeset(tmp_path)


@pytest.mark.parametrize("suffix", ["tex", "md"])
def test_a_class_whose_folders_name_is_not_utf_8_is_in_the_table_with_its_bytes(tmp_path, suffix):
    table = plain_table()
    table.add_column("class")
    table.add_row("caf\udce9")
    write_tables([table], tmp_path / f"it.{suffix}")
    assert b"caf\xe9" in (tmp_path / f"it.{suffix}").read_bytes()


def typeset(folder):
    """Whether LaTeX finds nothing wrong with a page that shows the folder's it.tex."""
    page = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{it.tex}\end{document}"
    (folder / "page.tex").write_text(page)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    return subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("trial", [(), (0,), (1,), (0, 1)])
def test_a_treatment_that_was_tried_twice_is_compared_once_whichever_trial_is_named(results, trial):
    out = results("again", "--compare", *trial)
    assert re.findall(r"^ *(\d): aum", out, re.MULTILINE) == ["0"]
    assert "correction for all lines" in " ".join(out.split())


def test_whoever_picks_trials_of_a_list_is_corrected_for_all_of_it(results):
    out = results("list", "--compare", 0)
    assert "correction for all 2 treatments that were tried" in " ".join(out.split())


def test_classes_are_compared_for_the_front_or_for_trials_that_are_named(results, tmp_path):
    def shown(out):
        text = " ".join(out.split())
        return re.findall(r"(\d): [^:]*?, against (control|\d)", text)

    out = results("pets", "--classes", "--figure", tmp_path / "it.png", "--table", tmp_path / "it.md")
    assert shown(out) == [("0", "control"), ("1", "control")]
    lines = [line.split() for line in out.splitlines() if line.strip().startswith(("cat", "dog"))]
    assert [(line[0], *line[3:6]) for line in lines[:2]] == [
        ("cat", "5", "80.03", "79.07"),
        ("dog", "9", "90.03", "89.07"),
    ]
    assert "for 6 differences" in " ".join(out.split()), "those of three trials, two of which are shown"
    assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "it.md").read_text().count("| class |") == 1
    assert shown(results("pets", "--classes", 2)) == [("2", "control")]
    assert shown(results("pets", "--classes", 2, 1, "--against", 0)) == [("2", "0"), ("1", "0")]
    assert len(shown(results("list", "--classes"))) == 2


def test_trials_may_be_compared_with_one_of_them(results):
    out = " ".join(results("pets", "--against", 0, "--metrics", "test/nll").split())
    assert f"Against {TREATMENTS[0]}: difference" in out
    assert f" 1: {TREATMENTS[1]} " in out, "the front's other trial"
    assert "-9.97 ±" in out, "0.4 instead of 0.5, and a little noise"
    assert "for all 2 treatments" in out
    both = results("pets", "--compare", 1, 2, "--against", 0, "--metrics", "test/nll")
    assert "2: aum" in both


def test_what_a_number_of_the_treatments_changes_is_a_curve_against_it(results, tmp_path, monkeypatch):
    asked = ("pets", "--curve", "alpha", "--metrics", "test/recall_gap", "test/accuracy")
    read_all, ended = records.read_all, []

    def of_a_running_sweep(folder):  # in which another trial ends after each look
        found = read_all(folder) + ended
        ended.append(finished(4, Treatment(alpha=3.5, policy="shift"), 0.3, 0.6, 0.8))
        return found

    with monkeypatch.context() as running:
        running.setattr(records, "read_all", of_a_running_sweep)
        out = results(*asked, "--figure", tmp_path / "it.pdf", "--table", tmp_path / "it.csv")
    assert re.findall(r"^ *(\d): aum", out, re.MULTILINE) == ["0", "2"]
    assert "focal" not in out
    assert "for all 3 treatments that were tried" in " ".join(out.split()), "as when they are picked by --compare"
    with (tmp_path / "it.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    both = [("0.5", "0"), ("2.0", "2")]
    assert [(row["alpha"], row["trial"]) for row in rows] == 2 * both
    assert {row["common"] for row in rows} == {"aum shift easiest/random"}
    compared = results("pets", "--compare", 0, 2, *asked[3:])
    assert FIGURE.findall(out) == FIGURE.findall(compared) != [], "with the same intervals"
    assert (tmp_path / "it.pdf").read_bytes().startswith(b"%PDF")


def test_curves_are_drawn_over_several_sweeps_too(command, tmp_path):
    split = load("digits").hold_out(0.1, 0)
    ends = [Treatment(alpha=alpha, policy="shift") for alpha in (0.5, 2.0)]
    for seed, gap in enumerate((0.1, 0.12, 0.11)):
        ledger = open_ledger(Sweep("line", "digits", Recipe(seed=seed), ends), split, tmp_path, resume=False)
        records.write(ledger.trials, finished(CONTROL, Treatment(), 0.2, 0.8, 0.6))
        for number, treatment in enumerate(ends):
            records.write(ledger.trials, finished(number, treatment, gap, 0.79, 0.5))
    flags = ("--pool", "--curve", "alpha", "--metrics", "test/recall_gap")
    out, err, code = command("results", "line", *flags, "--storage", tmp_path, "--figure", tmp_path / "it.svg")
    assert (err, code) == ("", 0)
    assert "paired over 3 sweeps" in out
    assert "-9.0 ±2.5" in out
    assert "whole sweeps" in " ".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "it.svg").read_text()))


def test_a_list_of_treatments_is_compared_as_it_asked_for(results):
    out = results("list")
    assert "ECE ↓" in out
    assert "accuracy" not in out
    assert "accuracy ↑" in results("list", "--compare", 1)
    assert trials(results("list", "--objectives", "test/nll")) == ["1", "control"]


def test_a_list_is_not_said_to_be_chosen_by_anything(results, tmp_path):
    for name, chosen_on in (("pets", "held-out training data"), ("list", "")):
        results(name, "--csv", tmp_path / "it.csv")
        rows = csv.DictReader((tmp_path / "it.csv").read_text().splitlines())
        assert {row["chosen_on"] for row in rows} == {chosen_on}
    by_test = " ".join(results("list", "--objectives", "test/nll").split())
    assert "The front is by figures of the test split." in by_test
    assert "Chosen" not in by_test
    held_out = " ".join(results("list", "--objectives", "final/nll").split())
    assert "on held-out training data / on the test split." in held_out


def test_by_other_metrics_a_lists_comparisons_are_corrected_as_it_asked_for(results, tmp_path):
    def families(*flags):
        results("list", *flags, "--table", tmp_path / "it.csv")
        rows = csv.DictReader((tmp_path / "it.csv").read_text().splitlines())
        return [(row["reference"], row["trial"], row["of"], row["metric"]) for row in rows]

    own = families()
    assert [it[:3] for it in own] == [("control", "0", "2"), ("control", "1", "2"), (str(TREATMENTS[0]), "1", "1")]
    assert families("--metrics", "test/nll") == [(*it[:3], "test/nll") for it in own]
    assert families("--compare", "--metrics", "test/nll") == [(*it[:3], "test/nll") for it in own[:2]]


def test_a_lists_comparisons_are_of_the_trials_that_have_ended_by_now(results, sweeps):
    """What a sweep left in comparison.json when it was stopped is not what there is after it was resumed."""
    (folder,) = (sweeps / "sweeps").glob("list-*")
    out = results("list")
    assert ("Against control" in out, f"Against {TREATMENTS[0]}" in out) == (True, True)
    last = records.read(folder / "trials", 1)
    records.remove(folder / "trials", 1)
    try:
        out = results("list")
    finally:
        records.write(folder / "trials", last)
    assert ("Against control" in out, f"Against {TREATMENTS[0]}" in out) == (True, False)


def test_sweeps_that_differ_in_their_seed_are_compared_together(command, sweeps, tmp_path):
    """The list is there with one seed; what another seed finds, and one without a treatment, are added to it."""
    storage = tmp_path / "storage"
    shutil.copytree(sweeps, storage)
    (first,) = (storage / "sweeps").glob("list-*")
    for seed, gap in ((1, 0.05), (2, 0.15)):
        other = storage / "sweeps" / f"list-29991231-00000{seed}"
        shutil.copytree(first, other)
        content = json.loads((other / "sweep.json").read_text())
        content["recipe"]["seed"] = seed
        (other / "sweep.json").write_text(json.dumps(content))
        records.write(other / "trials", finished(0, TREATMENTS[0], gap, 0.79, 0.5))
    records.remove(other / "trials", 1)
    out, err, code = command(
        "results", "list", "--pool", "--compare", "--metrics", "test/recall_gap", "--storage", storage
    )
    assert (err, code) == ("", 0)
    assert "paired over 3 sweeps" in out
    command("results", "list", "--pool", "--storage", storage, "--table", tmp_path / "it.csv")
    assert {row["sweep"] for row in csv.DictReader((tmp_path / "it.csv").read_text().splitlines())} == {"list"}
    assert "-10 ±12" in " ".join(out.split()), "gaps of 0.1, 0.05 and 0.15, and the control's 0.2"
    ids = f"{first.name}, list-29991231-000001, list-29991231-000002"
    assert f"pooled: {ids}; trial 1 is left out, unfinished in at least one, but counted in the correction" in out
    assert "hardly tell" not in out
    assert "paired over 3 sweeps" in command("results", "list", "--pool", "--classes", "0", "--storage", storage)[0]
    longer = storage / "sweeps" / "list-29991231-000000"
    shutil.copytree(first, longer)
    content["recipe"] |= {"seed": 3, "epochs": 7}
    (longer / "sweep.json").write_text(json.dumps(content))
    out, _, _ = command("results", "list", "--pool", "--storage", storage)
    assert f"not pooled: {longer.name} is another sweep: its recipe epochs is 7, not {Recipe().epochs}" in out
    shutil.rmtree(storage / "sweeps" / "list-29991231-000001")
    assert "two hardly tell how much sweeps differ" in command("results", "list", "--pool", "--storage", storage)[0]
    for flags, said in (
        (["list", "--pool", "--csv", "it.csv"], "--pool compares sweeps: leave --csv out"),
        (["pets", "--pool"], "is a search, whose treatments are its own"),
        (["begun", "--pool"], "there is no other sweep like begun-"),
        (["--pool"], "--pool is for a sweep: name one"),
    ):
        _, err, code = command("results", *flags, "--storage", storage)
        assert (said in err, code) == (True, 2), err


def test_everything_is_in_tables_by_trial_member_class_and_both(results, tmp_path):
    def table(*flags):
        results("pets", "--csv", tmp_path / "it.csv", *flags)
        with (tmp_path / "it.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    by_trial = table()
    assert [(row["trial"], row["state"]) for row in by_trial] == [
        ("control", "finished"),
        *((str(number), "finished") for number in range(3)),
        ("3", "failed"),
    ]
    assert (by_trial[2]["loss"], by_trial[2]["test/nll"]) == ("focal", "0.4")
    assert (by_trial[4]["test/nll"], by_trial[4]["reason"]) == ("", "it diverged, at once")
    by_member = table("--by", "member")
    assert [row["member"] for row in by_member] == 4 * ["0", "1", "2"]
    assert float(by_member[3]["test/nll"]) == pytest.approx(0.49)
    by_class = table("--by", "class")
    assert [(row["trial"], row["class"], row["size"], row["test_size"]) for row in by_class[2:4]] == [
        ("0", "cat", "12", "5"),
        ("0", "dog", "30", "9"),
    ]
    rows = table("--by", "class-member")
    assert [(row["trial"], row["class"], row["member"], row["test_size"]) for row in rows[6:]] == [
        (str(trial), name, str(member), size)
        for trial in range(3)
        for name, size in (("dog", "9"), ("cat", "5"))
        for member in range(3)
    ]
    assert [float(row["test_recall"]) for row in rows[6:9]] == pytest.approx([0.88, 0.89, 0.902])
    assert list(rows[0])[:4] == list(by_class[0])[:4] == ["sweep", "trial", "treatment", "state"]


def test_reliability_of_several_trials_is_drawn_and_every_point_is_in_a_file(command, sweeps, tmp_path):
    storage = tmp_path / "storage"
    shutil.copytree(sweeps, storage)
    folder = find(storage, "pets").trials
    curve = {"confidence": [0.3, 0.9], "accuracy": [0.2, 0.8], "share": [0.4, 0.6], "risk": [0.1, 0.2]}
    for number in (CONTROL, 0, 2):
        one = records.read(folder, number)
        records.write(folder, dataclasses.replace(one, curves={"members": curve, "ensemble": curve}))

    def asked(*flags):
        return command("results", "pets", "--diagnostics", *flags, "--storage", storage)

    out, err, code = asked("2", "control", "--figure", tmp_path / "it.pdf", "--table", tmp_path / "it.csv")
    assert (err, code) == ("", 0)
    figures = [line.split()[-4:] for line in out.splitlines() if "10.00" in line]
    assert len(figures) == 2
    assert (tmp_path / "it.pdf").read_bytes().startswith(b"%PDF")
    with (tmp_path / "it.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert [row["trial"] for row in points] == 8 * ["2"] + 8 * ["control"]
    assert "0: aum" in asked()[0], "the front's trial that has them"
    assert asked("1")[1] == "error: there are no curves of trial '1': choose from control, 0, 2\n"
    assert "as they are: leave --compare out" in asked("--compare")[1]


def test_figures_under_each_corruption_can_be_had_by_kind_and_severity(command, sweeps, tmp_path):
    storage = tmp_path / "storage"
    shutil.copytree(sweeps, storage)
    folder = find(storage, "pets").trials
    for number, fall in ((CONTROL, 0.1), (1, 0.05)):
        rows = [
            {"kind": kind, "severity": severity, "accuracy": 0.9 - fall * severity, "accuracy_std": 0.01, "ece": 0.1}
            for kind in ("fog", "snow")
            for severity in (1, 3)
        ]
        records.write(folder, dataclasses.replace(records.read(folder, number), corruptions=rows))
    table = tmp_path / "it.csv"
    _, err, code = command("results", "pets", "--csv", table, "--by", "corruption", "--storage", storage)
    assert (err, code) == ("", 0)
    with table.open(newline="") as file:
        found = list(csv.DictReader(file))
    kinds = [("fog", "1"), ("fog", "3"), ("snow", "1"), ("snow", "3")]
    assert [(row["trial"], row["kind"], row["severity"]) for row in found] == [
        (trial, *kind) for trial in ("control", "1") for kind in kinds
    ]
    assert float(found[-1]["accuracy"]) == pytest.approx(0.75)
    assert (found[-1]["treatment"], found[-1]["accuracy_std"]) == ("focal", "0.01")


@pytest.mark.parametrize(
    "flags",
    [
        *(("--csv", "--by", one) for one in ("trial", "member", "class", "class-member")),
        ("--table",),
        ("--table", "--compare"),
        ("--table", "--classes"),
    ],
)
def test_tables_of_several_sweeps_can_be_put_together(results, sweeps, tmp_path, flags):
    ids = sorted(path.name for path in (sweeps / "sweeps").glob("own*"))
    for one in ids:
        kind, *others = flags
        results(one, kind, tmp_path / "it.csv", *others)
        head, *lines = csv.reader((tmp_path / "it.csv").read_text().splitlines())
        assert (head[0], {line[0] for line in lines}) == ("sweep", {one})


def test_a_table_is_utf8_where_the_locale_is_not(sweeps, tmp_path):
    table = tmp_path / "it.csv"
    done = subprocess.run(
        [sys.executable, "-m", "hardtune", "results", "pets", "--csv", table, "--storage", sweeps],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "α" in table.read_text(encoding="utf-8")


def test_a_sweep_that_has_just_begun_hides_no_finished_one_of_its_name(tmp_path):
    sweep, split = Sweep("pets", "digits", Recipe(), SPACE), load("digits").hold_out(0.1, 0)
    first, second = (open_ledger(sweep, split, tmp_path, resume=False) for _ in range(2))
    assert find(tmp_path, "pets").id == second.id, "there is nothing better"
    records.write(first.trials, finished(CONTROL, Treatment(), 0.2, 0.80, 0.6))
    assert find(tmp_path, "pets").id == first.id
    for path in ("", f"{tmp_path}/sweeps/", "sweeps/"):  # as it was printed
        assert find(tmp_path, f"{path}{second.id}").id == second.id


def test_a_folder_that_was_renamed_is_named_since_no_sweep_is_found_in_it(tmp_path):
    sweep, split = Sweep("pets", "digits", Recipe(), SPACE), load("digits").hold_out(0.1, 0)
    first, second = (open_ledger(sweep, split, tmp_path, resume=False) for _ in range(2))
    first.folder.rename(first.folder.with_name("my-paper-run"))
    (tmp_path / "sweeps" / "notes").mkdir()
    says = f"choose from {second.id}; my-paper-run lost the date stamp that a sweep's folder ends in"
    with pytest.raises(InputError, match=says):
        find(tmp_path, "my-paper-run")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["cats"], "there is no sweep 'cats' in .*: choose from .*pets-"),
        (["fresh"], "sweep fresh-.* has no results yet"),
        (["anywhere/sweeps/cats"], "there is no sweep 'anywhere/sweeps/cats' in .*: choose from .*pets-"),
        (["pets", "--objectives", "test/zeal"], "unknown figure 'test/zeal': choose from .*test/nll"),
        (["pets", "--objectives", "test_std/nll"], "unknown figure 'test_std/nll'"),
        (["pets", "--objectives", "test/mine"], "say which way test/mine is better: test/mine=min or test/mine=max"),
        (["pets", "--objectives", "test/nll=up"], "say which way test/nll is better"),
        (["pets", "--compare", "3"], "trial 3 has not finished, so it cannot be compared: choose from 0, 1, 2"),
        (["pets", "--classes", "--compare", "1"], "--classes compares recall class by class: leave --compare out"),
        (
            ["pets", "--classes", "--metrics", "test/ece"],
            "--classes compares recall class by class: leave --metrics out",
        ),
        (["pets", "--classes", "3"], "trial 3 has not finished, so it cannot be compared: choose from 0, 1, 2"),
        (["again", "--classes", "2"], "trial 2 changes nothing, as the control: name others to compare with it"),
        (["pets", "--curve", "balance"], "no two finished trials differ in balance alone: choose from alpha"),
        (["list", "--curve", "alpha"], "no two finished trials differ in alpha alone, nor in another number"),
        (
            ["pets", "--curve", "alpha", "--compare", "2"],
            "--curve compares all trials that are on one: leave --compare",
        ),
        (["pets", "--classes", "--curve", "alpha"], "--classes compares recall class by class: leave --curve out"),
        (["--curve", "alpha"], "--curve is for a sweep: name one"),
        (["pets", "--compare", "99"], "trial 99 is not there, so it cannot be compared: choose from 0, 1, 2"),
        (["again", "--compare", "1", "--against", "0"], "trial 1 has the treatment of trial 0: name others"),
        (["pets", "--against", "3"], "trial 3 has not finished, so it cannot be compared: choose from 0, 1, 2"),
        (["--against", "3"], "--against is for a sweep: name one"),
        (["again", "--compare", "2"], "trial 2 changes nothing, as the control: name others to compare with it"),
        (["pets", "--metrics", "ood/msp_auroc"], "unknown figure of a member 'ood/msp_auroc': choose from .*test/nll"),
        (["pets", "--metrics", "test/ece=min"], "--metrics takes names alone, .*: leave '=' out of 'test/ece=min'"),
        (["pets", "--metrics", "test/mine"], "the sweep does not say which way test/mine is better"),
        (["pets", "--objectives", "final/nll=max"], "objective 'final/nll' is 'max', but 'min' is better"),
        (["pets", "--objectives", "final/nll", "--compare", "--csv", "it.txt"], "a CSV file's name must end in .csv"),
        (["pets", "--table", "it.txt"], "a table's name must end in .md, .tex or .csv, got 'it.txt'"),
        (["pets", "--figure", "it.txt"], "a figure's name must end in .png, .pdf or .svg, got 'it.txt'"),
        (["pets", "--by", "class"], "--by is for --csv"),
        (
            ["pets", "--csv", "it.csv", "--by", "corruption"],
            "pets-.* measured no corruptions: its script does with --cor",
        ),
        (["--csv", "it.csv"], "--csv is for a sweep: name one"),
        (["--compare"], "--compare is for a sweep: name one"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(command, sweeps, flags, says):
    out, err, code = command("results", *flags, "--storage", sweeps)
    assert (out, code) == ("", 2)
    assert err.count("\n") == 1
    assert re.match(f"error: {says}", err), err


def test_no_file_is_written_over_another_of_the_same_answer(command, sweeps, tmp_path):
    (tmp_path / "it.png").symlink_to(tmp_path / "it.csv")
    for one, other in (("--table", "--csv"), ("--figure", "--csv")):
        first = tmp_path / ("it.png" if one == "--figure" else "deep/../it.csv")
        out, err, code = command("results", "pets", one, first, other, tmp_path / "it.csv", "--storage", sweeps)
        assert (out, code) == ("", 2)
        assert err == f"error: {one} and {other} are one file, {tmp_path / 'it.csv'}: give each another name\n"
    assert not (tmp_path / "it.csv").exists()


def test_a_front_that_is_the_control_has_nothing_to_compare(command, sweeps):
    first = min(path.name for path in (sweeps / "sweeps").glob("pets-*"))
    out, err, code = command("results", first, "--compare", "--storage", sweeps)
    assert (out, code) == ("", 2)
    assert "is its control alone: name the trials to compare" in err
    out, err, code = command("results", first, "--against", "0", "--storage", sweeps)
    assert "is its control alone: name the trials to compare" in err
    out, err, code = command("results", "begun", "--storage", sweeps)
    assert "no trial of begun-" in err
    assert "has finished yet, so there is nothing to compare with its control" in err


def test_of_a_list_without_held_out_samples_the_note_does_not_say_that_treatments_were_chosen(command, tmp_path):
    ledger = open_ledger(
        Sweep("listed", "digits", Recipe(validation="test"), TREATMENTS),
        load("digits").hold_out("test", 0),
        tmp_path,
        resume=False,
    )
    for number, treatment in ((CONTROL, Treatment()), *enumerate(TREATMENTS)):
        records.write(ledger.trials, finished(number, treatment, 0.2, 0.8, 0.6))
    said = " ".join(command("results", "listed", "--storage", tmp_path)[0].split())
    assert "No samples were held out: who chooses a treatment by these figures chooses on the test split." in said
    assert "were chosen" not in said
