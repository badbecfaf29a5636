"""A paper's main table: figures as they are, by numpy, and what is said of their spread."""

import csv
import itertools
import re

import numpy as np
import pytest
from scipy.stats import ttest_rel

from hardtune import Recipe, Treatment, load
from hardtune.report import records
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import kept
from hardtune.sweep import Sweep
from hardtune.sweep.ledger import open_ledger

TREATMENTS = [Treatment(alpha=0.5, policy="shift"), Treatment(loss="focal")]
ALPHAS = [Treatment(alpha=0.5, policy="shift"), Treatment(alpha=1.0, policy="shift")]
SPLIT = load("digits").hold_out(0.1, 0)
ASKED = ("test/accuracy", "test/temperature", "test_ensemble/accuracy", "ensemble/ece")

STEADY = {"final_std/accuracy": "min", "final/accuracy": "max"}


def members_of(seed, number):
    """Three networks' accuracies and temperatures."""
    drawn = np.random.default_rng([seed, number + 1])
    return {"test/accuracy": drawn.uniform(0.7, 0.9, 3), "test/temperature": drawn.uniform(1.0, 1.5, 3)}


def ensemble_of(seed, number):
    return {
        "test_ensemble/accuracy": 0.8 + 0.01 * seed + 0.001 * number * (1 + seed),
        "ensemble/ece": 0.0123,
        "test_ensemble/temperature": 1.2,
    }


def found(seed, number, treatment):
    members = members_of(seed, number)
    spread = {name.replace("/", "_std/"): values.std(ddof=1) for name, values in members.items()}
    metrics = {name: values.mean() for name, values in members.items()} | ensemble_of(seed, number) | spread
    return Record(number, treatment, "finished", metrics, members={n: list(v) for n, v in members.items()})


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """Two lists' sweeps with three seeds, one by how much members differ, and one that trained its control alone."""
    folder = tmp_path_factory.mktemp("storage")
    for seed, (name, listed) in itertools.product(range(3), [("curved", ALPHAS), ("pets", TREATMENTS)]):
        sweep = Sweep(name, "digits", Recipe(members=3, seed=seed), listed, objectives={"final/accuracy": "max"})
        ledger = open_ledger(sweep, SPLIT, folder, resume=False)
        for number, treatment in enumerate([Treatment(), *listed], start=CONTROL):
            records.write(ledger.trials, found(seed, number, treatment))
        records.write(ledger.trials, Record(2, Treatment(alpha=3.0), "failed", reason="it diverged"))
    steady = Sweep("steady", "digits", Recipe(members=3), TREATMENTS, objectives=STEADY)
    ledger = open_ledger(steady, SPLIT, folder, resume=False)
    for number, treatment in enumerate([Treatment(), *TREATMENTS], start=CONTROL):
        records.write(ledger.trials, found(0, number, treatment))
    one = Sweep("one", "digits", Recipe(members=1), TREATMENTS, objectives={"final/accuracy": "max"})
    ledger = open_ledger(one, SPLIT, folder, resume=False)
    records.write(
        ledger.trials,
        Record(CONTROL, Treatment(), "finished", {"test/accuracy": 0.5}, members={"test/accuracy": [0.5]}),
    )
    return folder


@pytest.fixture
def values(command, storage):
    def run(*flags, name="pets"):
        out, err, code = command("results", name, "--values", *flags, "--storage", storage)
        assert (err, code) == ("", 0)
        return " ".join(out.split())

    return run


def test_each_cell_is_the_mean_and_standard_deviation_over_members(values, tmp_path):
    out = values("--metrics", *ASKED, "--table", tmp_path / "it.csv")
    rows = list(csv.DictReader((tmp_path / "it.csv").read_text().splitlines()))
    assert [row["trial"] for row in rows] == 4 * ["control", "0", "1"]
    for row in rows:
        number = CONTROL if row["trial"] == "control" else int(row["trial"])
        if row["metric"] in ASKED[:2]:
            figures = members_of(2, number)[row["metric"]]
            assert float(row["mean"]) == pytest.approx(np.mean(figures))
            assert float(row["std"]) == pytest.approx(np.std(figures, ddof=1))
            assert (row["n"], row["over"]) == ("3", "members")
        else:
            assert float(row["mean"]) == ensemble_of(2, number)[row["metric"]]
            assert (row["std"], row["n"]) == ("", "1")
    accuracy, temperature = (members_of(2, 1)[name] for name in ASKED[:2])
    line = f"{100 * accuracy.mean():.1f} ±{100 * accuracy.std(ddof=1):.1f} {temperature.mean():.2f} ±"
    assert f"1: focal {line}" in out
    assert "82.30 1.23" in out, "of the ensemble, and the held-out one, without ±"
    assert "digits: mean × 100 ± standard deviation (n - 1) over 3 members" in out
    assert "one ensemble (of 3 networks), so its figures have no ±. Not × 100: temperature." in out
    assert "unless they say otherwise. ± says nothing of other test images." in out
    assert "accuracy ↑" in out
    assert not re.search("temperature [↑↓]", out)


def test_by_default_it_has_the_objectives_on_the_test_split_of_all_that_finished(values):
    out = values()
    assert re.findall(r"(control|\d: \w+) [^±]*?\d ±", out) == ["control", "0: aum", "1: focal"]
    assert "treatment accuracy ↑" in out
    assert "Figures are of the test split." in out
    only = values("1", "1")
    assert only.count("focal") == 1
    assert re.findall(r"control|\d:", only) == ["control", "1:"]


def test_an_objective_that_is_a_standard_deviation_is_shown_after_its_mean(values, tmp_path):
    out = values("--table", tmp_path / "it.csv", name="steady")
    rows = list(csv.DictReader((tmp_path / "it.csv").read_text().splitlines()))
    assert [row["metric"] for row in rows] == 3 * ["test/accuracy"], "once, though the mean is an objective, too"
    assert [float(row["std"]) for row in rows] == [
        pytest.approx(members_of(0, number)["test/accuracy"].std(ddof=1)) for number in (CONTROL, 0, 1)
    ]
    assert re.findall(r"(control|\d: \w+) [^±]*?\d ±", out) == ["control", "0: aum", "1: focal"]


@pytest.mark.parametrize("form", ["tex", "md"])
def test_in_a_file_many_figures_are_one_table_without_any_in_bold(values, tmp_path, form):
    many = (*ASKED, "test/accuracy", "test_ensemble/accuracy", "ensemble/ece")
    out = values("--metrics", *many, "--table", tmp_path / f"it.{form}")
    written = (tmp_path / f"it.{form}").read_text().replace(r"$\pm$", "±")
    assert "textbf" not in written
    assert written.count("**") in (0, 2), "only the title"
    figure = re.compile(r"\d+\.\d+ ±\d+\.\d+")
    assert sorted(figure.findall(written)) == sorted(figure.findall(out)) != []
    assert "over 3 members" in written


def test_over_several_sweeps_both_kinds_have_a_spread(values, tmp_path):
    out = values("--pool", "--metrics", "test/accuracy", "test_ensemble/accuracy", "--table", tmp_path / "it.csv")
    rows = {
        (row["metric"], row["trial"]): row for row in csv.DictReader((tmp_path / "it.csv").read_text().splitlines())
    }
    each = [members_of(seed, 0)["test/accuracy"].mean() for seed in range(3)]
    ensembles = [ensemble_of(seed, 0)["test_ensemble/accuracy"] for seed in range(3)]
    for metric, figures in (("test/accuracy", each), ("test_ensemble/accuracy", ensembles)):
        row = rows[metric, "0"]
        assert (float(row["mean"]), float(row["std"])) == pytest.approx((np.mean(figures), np.std(figures, ddof=1)))
        assert (row["n"], row["over"]) == ("3", "sweeps")
    assert "over 3 sweeps" in out
    assert "A sweep counts by the mean over its 3 networks, or by its one ensemble of 3 networks (3 ensembles)." in out
    assert "counted in the correction" not in out


@pytest.mark.parametrize("flags", [("pets", "--compare"), ("pets",), ("curved", "--curve", "alpha")])
def test_over_several_sweeps_their_ensembles_are_compared(command, storage, tmp_path, flags):
    where = ("--storage", storage, "--table", tmp_path / "it.csv", "--figure", tmp_path / "it.svg")
    asked = ("--pool", "--metrics", "test_ensemble/accuracy", "ensemble/ece")
    out, err, code = command("results", *flags, *asked, *where)
    assert (err, code) == ("", 0)
    rows = list(csv.DictReader((tmp_path / "it.csv").read_text().splitlines()))
    (row,) = [row for row in rows if (row["metric"], row["trial"]) == ("test_ensemble/accuracy", "0")]
    ours, theirs = ([ensemble_of(seed, n)["test_ensemble/accuracy"] for seed in range(3)] for n in (0, CONTROL))
    expected = ttest_rel(ours, theirs)
    assert float(row["difference"]) == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (float(row["low"]), float(row["high"])) == pytest.approx(tuple(expected.confidence_interval()))
    assert float(row["p"]) == pytest.approx(expected.pvalue)
    assert (row["better"], row["members"], row["over"]) == ("max", "3", "sweeps")
    assert {row["better"] for row in rows if row["metric"] == "ensemble/ece"} == {"min"}
    assert "paired over 3 sweeps" in out
    assert "test images" not in out, "of which an ensemble's figures have no parts"


def test_one_network_has_no_spread_and_an_unfinished_sweep_its_control(values):
    out = values(name="one")
    assert "control 50.00" in out
    assert "±" not in out.replace("no ±", "")
    assert "no ±, since one network has no spread" in out


def test_the_control_may_be_named_and_is_there_once(values, command, storage):
    assert values("control", "1") == values("1", "control") == values("1")
    alone = values("control", "--metrics", "test/accuracy")
    assert " control " in alone
    assert "focal" not in alone
    _, err, code = command("results", "pets", "--values", "contrl", "--storage", storage)
    assert ("invalid trial value: 'contrl'" in err, code) == (True, 2)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--values", "--metrics", "test/zeal"], "unknown figure 'test/zeal': choose from .*test_ensemble/accuracy"),
        (["--values", "--metrics", "test_std/accuracy"], "unknown figure 'test_std/accuracy'"),
        (["--values", "7"], "trial 7 is not there, so it cannot be shown: choose from 0, 1"),
        (["--values", "2"], "trial 2 has not finished, so it cannot be shown: choose from 0, 1"),
        (["--values", "--compare"], "--values is a table of figures as they are: leave --compare out"),
        (["--values", "--figure", "it.png"], "--values is a table of figures as they are: leave --figure out"),
        (
            ["--compare", "--metrics", "test_ensemble/accuracy"],
            "test_ensemble/accuracy is of one ensemble, which has no spread, so it cannot be compared: --v",
        ),
        (["--compare", "--metrics", "test/zeal"], "unknown figure of a member 'test/zeal': choose from (?!.*ens)"),
        (["--compare", "--pool", "--metrics", "test/zeal"], "unknown figure 'test/zeal': choose from .*ensemble/ece"),
        (
            ["--compare", "--pool", "--metrics", "test_ensemble/temperature"],
            "the sweep does not say which way test_ensemble/temperature is better, so it cannot be compared",
        ),
    ],
)
def test_what_has_no_value_or_spread_is_said_in_a_sentence(command, storage, flags, says):
    out, err, code = command("results", kept(storage, "pets")[-1].id, *flags, "--storage", storage)
    assert (out, code) == ("", 2)
    assert re.match(f"error: {says}", err), err
