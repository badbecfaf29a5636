"""``python -m hardtune plan``, as one would type it."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardtune import Recipe, Store, Treatment, load
from hardtune.answers import with_shifts
from hardtune.checks import class_plans
from hardtune.commands.subject import load_sweep
from hardtune.member import Prepared, stored_member
from hardtune.needs import needs_of
from hardtune.scoring import gather
from hardtune.training.choices import resolved

RECIPE = Recipe(
    model="small_cnn",
    epochs=2,
    batch_size=64,
    flip=False,
    crop_padding=1,
    members=1,
    scoring_members=4,
    encoder="pixels",
    validation=0.3,
)


def read_csv(path):
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_treatment_is_a_row_for_each_class_as_training_will_have_it(command, script, storage):
    out, err, code = command("plan", script, "--alpha", 1.5, "--oversample", "smote", "--storage", storage)
    assert (err, code) == ("", 0)
    assert out.splitlines()[0].strip() == "aum α=1.5 shift easiest/smote on small"
    treatment = Treatment(alpha=1.5, policy="shift", oversample="smote")
    split = load("digits").hold_out(0.3, 0)
    prepared = gather(split, RECIPE, needs_of([treatment]), Store(storage / "store"), device="cpu")
    expected = class_plans(prepared, treatment)
    printed = {line.split()[0]: line.split() for line in out.splitlines()[4:14]}
    (file,) = (storage / "plans").glob("small-aum*.csv")
    for row, line in zip(expected, read_csv(file), strict=True):
        assert int(printed[row.name][2]) == row.size
        assert str(row.count) in printed[row.name]
        assert (line["class"], line["count"], line["source"]) == (row.name, str(row.count), row.source)
    hardness = [float(line.split()[1]) for line in out.splitlines()[4:14]]
    assert hardness == sorted(hardness, reverse=True)


def test_what_a_class_will_have_is_whole_on_a_narrow_terminal(command, script, storage, monkeypatch):
    def lines_at(width):
        monkeypatch.setenv("COLUMNS", str(width))
        out, _, _ = command("plan", script, "--alpha", 1.5, "--oversample", "smote", "--storage", storage)
        return [line.split() for line in out.splitlines()[4:14]]

    assert lines_at(40) == lines_at(100)


def test_evening_classes_out_takes_no_score(command, tmp_path):
    tail = ["--data", "digits", "--imbalance", 10, "--storage", tmp_path]
    out, err, code = command("plan", *tail, "--balance", 1, "--undersample", "random")
    assert (err, code) == ("", 0)
    assert out.splitlines()[0].strip().startswith("balance=1 random/random on digits")
    (file,) = (tmp_path / "plans").glob("*.csv")
    counts = [int(line["count"]) for line in read_csv(file)]
    assert max(counts) - min(counts) <= 1
    _, err, code = command("plan", *tail, "--balance", 1)
    assert code == 2
    assert "--score" in err, "the easiest samples go, and scores say which they are"


def test_a_sweep_is_a_row_for_each_different_plan_at_its_corners(command, script, storage):
    out, err, code = command("plan", script, "--storage", storage)
    assert (err, code) == ("", 0)
    assert "aum α=2 shift easiest / random" in out
    assert "rmd α=2 shift easiest / random" in out
    assert "smote" in out
    assert "λ" not in out  # entropy weights move no class counts
    assert len({line["treatment"] for line in read_csv(storage / "plans" / "small.csv")}) == 4


def test_the_figures_are_pictures_of_something(command, script, storage, tmp_path):
    for number, flags in enumerate([[], ["--alpha", 1], ["--prune", "class", "--prune-rate", 0.4]]):
        figure = tmp_path / f"{number}.png"
        command("plan", script, *flags, "--storage", storage, "--figure", figure)
        pixels = np.asarray(Image.open(figure).convert("RGB"))
        assert min(pixels.shape[:2]) > 200
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_what_cannot_be_carried_out_exits_with_1_and_says_why(command, script, storage):
    out, _, code = command("plan", f"{script}:short", "--storage", storage)
    assert code == 1
    assert "no (1)" in out
    assert "(1) class '" in out
    assert "from the holdout, and pruning set aside" in " ".join(out.split())
    assert "yes" in out  # at alpha = 0.1
    flags = ["--alpha", 5, "--prune", "class", "--prune-rate", 0.1, "--oversample", "holdout"]
    out, _, code = command("plan", script, *flags, "--storage", storage)
    assert code == 1
    assert "Not feasible: class" in out


def test_classes_that_lose_all_they_can_are_named(command, script, storage):
    out, _, code = command("plan", script, "--alpha", 50, "--storage", storage)
    assert code == 0
    assert "the tenth that every class keeps" in out
    out, _, _ = command("plan", script, "--alpha", 0.5, "--storage", storage)
    assert "tenth" not in out


def test_pruning_alone_needs_no_policy(command, script, storage):
    out, _, code = command(
        "plan", script, "--prune", "dataset", "--prune-rate", 0.3, "--estimator", "rmd", "--storage", storage
    )
    assert code == 0
    assert "-264" in out  # 30 % of 880


def test_a_large_number_and_a_small_one_have_figures_of_their_own(command, script, storage):
    for alpha in (1e9, 1e-9):
        command("plan", script, "--alpha", alpha, "--storage", storage)
    assert {"+09", "-09"} <= {path.stem.partition("1e")[2][:3] for path in (storage / "plans").glob("*.png")}


def test_the_scoring_ensemble_is_the_sweeps_control_whatever_that_is_asked(command, script, tmp_path):
    """Members that lacked the answers on foreign images would be trained again by the sweep."""
    _, err, code = command("plan", f"{script}:foreign", "--score", "--storage", tmp_path)
    assert code == 0, err
    sweep, data, store = load_sweep(f"{script}:foreign"), load("digits"), Store(tmp_path / "store")
    split = with_shifts(
        data.hold_out(0.3, 0), data, ood=sweep.ood, corruptions=sweep.corruptions, severities=sweep.severities
    )
    recipe = resolved(sweep.recipe, "cpu")
    for member in range(2):
        _, trained = stored_member(Prepared(split), recipe, Treatment(), member, store, device="cpu")
        assert not trained


def test_a_treatment_that_needs_no_scores_needs_no_store(command, tmp_path):
    out, _, code = command("plan", "--data", "digits", "--alpha", 0, "--storage", tmp_path)
    assert code == 0
    assert "control on digits" in out


def test_images_of_ones_own_are_brought_to_one_size_and_the_plan_is_named_after_them(command, script, tmp_path):
    for number in range(24):
        folder = tmp_path / "birds" / ("owl [barn]", "wren")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8 + number, 9), 9).save(folder / f"{number}.png")
    flags = ["--data", tmp_path / "birds", "--image-size", 8, "--alpha", 0, "--storage", tmp_path / "a[b]"]
    out, err, code = command("plan", script, *flags)
    assert (err.count("\n"), code) == (1, 0)
    assert "images are there as another class, too" in err
    assert "control on small-birds" in out
    assert "owl [barn]" in out
    assert f"{tmp_path}/a[b]/plans/" in out


def test_what_makes_scores_say_little_is_noted(command, tmp_path):
    tail = ["--data", "digits", "--imbalance", 20, "--recipe", "encoder=pixels", "--score", "--storage", tmp_path]
    for flags in (["plan", "--alpha", 1, "--policy", "shift"], ["hardest"]):
        _, err, code = command(*flags, "--estimator", "rmd", *tail)
        assert code == 0
        assert err.startswith("note: classes have ")
        assert "estimator 'rmd' calls samples of small classes easy" in err
        assert err.count("\n") == 1


def test_scores_that_are_not_there_are_said_with_how_to_make_them_and_nothing_is_written(command, script, tmp_path):
    _, err, code = command("plan", script, "--storage", tmp_path / "empty")
    assert code == 2
    assert err.count("\n") == 1
    assert "lacks 4 of the scoring ensemble's 4 members (small_cnn, 2 epochs, cpu) and the features" in err
    assert "--score" in err
    assert not (tmp_path / "empty").exists()


def test_scores_of_another_recipe_are_not_taken_for_these(command, script, storage):
    _, err, code = command("plan", script, "--recipe", "epochs=3", "--storage", storage)
    assert code == 2
    assert "3 epochs" in err


def test_a_function_that_returns_a_sweep_is_called_with_the_data(command, script, storage):
    out, err, code = command("plan", f"{script}:made", "--data", "digits", "--storage", storage)
    assert (err, code) == ("", 0)
    assert "made-digits" in out


def test_what_a_function_always_returns_is_fixed(command, script, storage, tmp_path):
    path = tmp_path / "asked.py"
    space = 'def space(trial):\n    trial.suggest_float("alpha", 0, 2)\n    return {"policy": "shift"}\n\n'
    asked = f'{space}asked = Sweep("asked", "digits", recipe, space)\nshort = Sweep'
    path.write_text(Path(script).read_text().replace("short = Sweep", asked))
    out, err, code = command("plan", f"{path}:asked", "--alpha", 1, "--storage", storage)
    assert (err, code) == ("", 0)
    assert "aum α=1 shift easiest/random on asked" in out


def test_what_a_function_returns_counts_where_it_has_an_effect(command, script, storage, tmp_path):
    path = tmp_path / "asked.py"
    space = """
def space(trial):
    trial.suggest_categorical("alpha", [0.0, 1.0])
    trial.suggest_categorical("balance", [0.0, 1.0])
    return {"policy": "shift", "estimator": "rmd", "undersample": "random"}

asked = Sweep("asked", "digits", recipe, space)
short = Sweep"""
    path.write_text(Path(script).read_text().replace("short = Sweep", space))
    out, err, code = command("plan", f"{path}:asked", "--alpha", 1.5, "--storage", storage)
    assert (err, code) == ("", 0)
    assert "rmd α=1.5 shift random/random on asked" in out


def pool_of(path, samples):
    np.savez(path, images=samples.images, labels=samples.labels)
    return path


def test_a_pool_may_lack_classes_that_lose_samples(command, script, storage, tmp_path):
    train = load("digits").hold_out(0.3, 0).train
    treatment = ["--alpha", 1, "--undersample", "random", "--oversample", "pool_random"]
    out, _, _ = command(
        "plan", script, *treatment, "--pool", pool_of(tmp_path / "all.npz", train), "--storage", storage
    )
    rows = read_csv(next((storage / "plans").glob("small-aum*pool_random.csv")))
    gaining = [int(row["class"]) for row in rows if int(row["added"])]
    assert 0 < len(gaining) < 10
    some = pool_of(tmp_path / "some.npz", train.take(np.flatnonzero(np.isin(train.labels, gaining))))
    again, err, code = command("plan", script, *treatment, "--pool", some, "--storage", storage)
    assert (again, err, code) == (out, "", 0)


def test_a_rate_that_a_function_fixes_for_ways_to_prune_that_it_does_not_is_not_taken(
    command, script, storage, tmp_path
):
    path = tmp_path / "asked.py"
    space = """
def space(trial):
    prune = trial.suggest_categorical("prune", ["class", "dataset"])
    return {"alpha": trial.suggest_float("alpha", 0.1, 1), "policy": "shift", "prune": prune, "prune_rate": 0.2}

asked = Sweep("asked", "digits", recipe, space)
short = Sweep"""
    path.write_text(Path(script).read_text().replace("short = Sweep", space))
    out, err, code = command("plan", f"{path}:asked", "--alpha", 1, "--storage", storage)
    assert (err, code) == ("", 0)
    assert "aum α=1 shift easiest/random on asked" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "name a sweep script"),
        (["nowhere.py"], "there is no sweep script 'nowhere.py'"),
        (["SCRIPT:other"], "defines no Sweep named 'other'; it has .*small.py:sweep, .*small.py:short"),
        (["SCRIPT:needy"], "needy in .* needs data: give its parameters defaults"),
        (["SCRIPT", "--estimator", "amu", "--alpha", "1"], "unknown estimator 'amu': choose from aum"),
        (["SCRIPT", "--estimator", "amu"], "unknown estimator 'amu': choose from aum"),
        (["SCRIPT", "--oversample", "smoote"], "unknown oversampling 'smoote': choose from .*smote"),
        (["SCRIPT", "--alpha", "-1"], "alpha must be a finite number of at least 0"),
        (["SCRIPT", "--alpha", "1", "--policy", "paper", "--estimator", "rmd"], "choose policy 'shift'"),
        (["SCRIPT", "--alpha", "1", "--oversample", "pool_hard"], "needs a pool of synthetic images"),
        (["SCRIPT", "--pool", "nowhere"], "no pool of images at nowhere"),
        (["SCRIPT", "--recipe", "epoch=3"], "unknown field of the recipe 'epoch'"),
        (["--data", "digitz"], "unknown data set 'digitz'"),
        (["SCRIPT", "--prune-rate", "0.3"], "--prune and --prune-rate go together"),
        (["SCRIPT", "--prune", "class"], "--prune and --prune-rate go together"),
        (["SCRIPT", "--figure", "plan.txt"], "must end in .png, .pdf or .svg, got 'plan.txt'"),
        (["SCRIPT", "--figure", "/proc/nowhere/plan.png"], "cannot write figures to /proc/nowhere"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(command, script, storage, arguments, says):
    filled = [argument.replace("SCRIPT", script) for argument in arguments]
    _, err, code = command("plan", *filled, "--storage", storage)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(says, err)


@pytest.mark.parametrize("name", ["plan", "stability"])
def test_a_figure_that_cannot_be_is_refused_before_anything_is_trained(command, script, tmp_path, name):
    _, err, code = command(name, script, "--figure", "it.txt", "--score", "--storage", tmp_path)
    assert code == 2
    assert "must end in .png, .pdf or .svg, got 'it.txt'" in err
    assert not list(tmp_path.rglob("*.safetensors"))


def test_it_runs_as_a_module_and_lists_its_commands():
    done = subprocess.run([sys.executable, "-m", "hardtune", "--help"], capture_output=True, text=True, check=True)
    assert "plan" in done.stdout
    assert "How many members a score needs" in done.stdout


def test_every_flag_of_a_treatment_is_explained(command):
    out, _, code = command("plan", "--help")
    assert code == 0
    assert "--prune-rate X" in out
    assert "the fraction of the training samples that pruning" in " ".join(out.split())


@pytest.mark.parametrize("name", ["plan", "hardest", "stability", "results"])
def test_help_says_in_which_forms_figures_can_be_had(command, name):
    out, _, _ = command(name, "--help")
    assert "(.png, .pdf or .svg)" in " ".join(out.split())
    assert "FILE.png" not in out, "as if that were the only one"
