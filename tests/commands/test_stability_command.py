"""``python -m hardtune stability``, as one would type it."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from hardtune import Store, Treatment, load
from hardtune.commands.subject import load_sweep
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.hardness.stability import agreement, nested_pruned_change
from hardtune.member import Prepared, entries
from hardtune.needs import Needs
from hardtune.report.stability import comparison_tables
from hardtune.scoring_member import finding_identities, findings_of
from hardtune.training.choices import resolved


@pytest.fixture(scope="module")
def members(storage, script):
    split = load("digits").hold_out(0.3, 0)
    store = Store(storage / "store")
    recipe = load_sweep(script).recipe
    return np.stack([findings_of(split, recipe, Needs(), i, store, device="cpu")["aum"] for i in range(4)])


def figures(storage):
    with open(storage / "stability" / "small.csv") as file:
        return {
            (row["estimator"], int(row["members"]), row["compared"], row["figure"]): float(row["mean"])
            for row in csv.DictReader(file)
            if row["class"] == row["other"] == ""
        }


def test_both_views_are_those_of_the_members_in_the_store(command, script, storage, members):
    out, err, code = command("stability", script, "--storage", storage, "--rate", 0.4, "--draws", 5)
    assert (err, code) == ("", 0)
    found = figures(storage)
    disjoint = agreement(members, 2, rate=0.4, draws=5)
    assert found["aum", 2, "disjoint", "rank_correlation"] == pytest.approx(disjoint.rank_correlation.mean())
    assert found["aum", 2, "disjoint", "pruned_overlap"] == pytest.approx(disjoint.pruned_overlap.mean())
    assert found["aum", 3, "nested", "pruned_change"] == pytest.approx(nested_pruned_change(members, 0.4)[2])
    assert f"{disjoint.rank_correlation.mean():.3f}" in out
    assert "two ensembles of 2 that share no member rank the samples with ρ = " in " ".join(out.split())


def test_every_estimator_in_the_store_is_compared_with_every_other(command, script, storage):
    out, _, _ = command("stability", script, "--storage", storage)
    table = out[out.index("estimators on small") :]
    for name in ("aum", "el2n", "forgetting", "rmd", "md", "kmeans"):
        assert f" {name} " in table
    assert " grand " not in table
    with open(storage / "stability" / "small.csv") as file:
        pairs = [row for row in csv.DictReader(file) if row["compared"] == "estimators"]
    correlation = {(r["estimator"], r["other"]): r["mean"] for r in pairs if r["figure"] == "rank_correlation"}
    shown = f"{float(correlation['aum', 'el2n']):.2f}".replace("0.", ".")
    assert shown in next(line for line in table.splitlines() if " el2n " in line).split(), "to be drawn by others"


def test_estimators_and_members_that_are_missing_are_made_with_score(command, script, storage):
    flags = ["stability", script, "--storage", storage, "--estimator", "grand", "--estimator", "aum"]
    _, err, code = command(*flags)
    assert code == 2
    assert "lacks 4 of the scoring ensemble's 4 members" in err
    out, _, code = command(*flags, "--score")
    assert code == 0
    assert "grand on small" in out
    out, _, code = command("stability", script, "--storage", storage, "--members", 5, "--score")
    assert code == 0
    assert max(size for _, size, _, _ in figures(storage)) == 5


def test_no_figure_of_the_estimators_is_cut_where_lines_are_short():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=100)
    scores = {name: (hard if "o" in name else -hard if "g" in name else rng.normal(size=100)) for name in ESTIMATORS}
    for width, tables in ((80, 2), (200, 1)):
        out = io.StringIO()
        parts = comparison_tables(scores, 0.3, "estimators", width)
        Console(file=out, width=width).print(*parts)
        assert len(parts) == tables
        assert "…" not in out.getvalue()
        rows = [line.split() for line in out.getvalue().splitlines()]
        for number, name in enumerate(scores, 1):
            cells = [cell for row in rows if row[:2] == [str(number), name] for cell in row[2:]]
            assert len(cells) == len(scores)
            assert cells[number - 1] == "·"
    assert "-1.00" in out.getvalue()


def test_every_figure_of_the_members_is_whole_on_a_narrow_terminal(command, script, storage, monkeypatch):
    def figures_at(width):
        monkeypatch.setenv("COLUMNS", str(width))
        out, _, _ = command("stability", script, "--storage", storage)
        return [line.split() for line in out.splitlines() if re.match(r" +[1-4]  .*% *$", line)]

    assert len(figures_at(100)) == 4
    assert figures_at(40) == figures_at(100)


@pytest.mark.parametrize(
    ("device", "compiled"),
    [
        ("cpu", False),
        *(
            pytest.param("cuda", compiled, marks=pytest.mark.skipif(torch.cuda.is_available(), reason="is for others"))
            for compiled in (False, True)
        ),
    ],
)
def test_scores_of_a_sweep_on_another_kind_of_machine_are_found(command, script, storage, tmp_path, device, compiled):
    split, store = load("digits").hold_out(0.3, 0), Store(storage / "store")
    recipe, needs, others = load_sweep(script).recipe, Needs(frozenset({"aum"})), Store(tmp_path / "store")
    decided = "bfloat16" if device == "cuda" or resolved(recipe, "cpu").precision == "float32" else "float32"
    there = dataclasses.replace(recipe, precision=decided, layout="channels_last", compile=compiled)
    for member in range(4):  # what that machine would have left, from this one
        here, away = (
            entries(Prepared(split), one, Treatment(), member, where)
            | finding_identities(split, one, needs, member, where)
            for one, where in ((recipe, "cpu"), (there, device))
        )
        for name, key in here.items():
            others.put(away[name], store.get(key))
    out, err, code = command("stability", script, "--storage", tmp_path)
    assert (err, code) == ("", 0)
    assert "aum on small" in out
    out, err, code = command("plan", script, "--alpha", 1, "--policy", "shift", "--storage", tmp_path)
    assert (err, code) == ("", 0)


def test_the_figures_are_pictures_of_something(command, script, storage):
    command("stability", script, "--storage", storage)
    for name in ("small.png", "small-estimators.png"):
        pixels = np.asarray(Image.open(storage / "stability" / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--estimator", "rmd"], "come from one frozen encoder, which has no members: choose from aum"),
        (["--estimator", "amu"], "unknown estimator 'amu'"),
        (["--members", "1"], "--members must be at least 2"),
        (["--rate", "1.5"], "--rate must be between 0 and 1"),
        (["--policy", "fair"], "unknown policy 'fair'"),
        (["--draws", "0"], "--draws must be at least 1"),
        (["--members", "9"], "lacks 4|5 of the scoring ensemble's 9 members"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(command, script, storage, flags, says):
    _, err, code = command("stability", script, "--storage", storage, *flags)
    assert code == 2
    assert err.count("\n") == 1
    assert re.search(says, err)


def test_a_rate_that_prunes_no_sample_is_refused_before_anything_is_trained(command, script, tmp_path):
    _, err, code = command("stability", script, "--storage", tmp_path, "--rate", 0.0001, "--score")
    assert code == 2
    assert err == "error: a rate of 0.0001 of 880 samples prunes none or all of them\n"
    assert not list(tmp_path.rglob("*.safetensors"))
