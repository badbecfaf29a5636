"""A resumed sweep is the same sweep, or it is refused."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import ray
from filelock import FileLock
from ray import tune

from hardtune import Recipe, Treatment, load
from hardtune.errors import InputError
from hardtune.evaluation.metric import METRICS, Metric
from hardtune.hardness.estimators import ESTIMATORS, estimator
from hardtune.needs import Needs
from hardtune.report.comparison import Comparison
from hardtune.report.sweeps import Kept, kept
from hardtune.sweep import Sweep
from hardtune.sweep.databases import study_database
from hardtune.sweep.ledger import open_ledger

SWEEP = Sweep("digits", "digits", Recipe(), {"alpha": tune.uniform(0, 1), "policy": "shift"})


@pytest.fixture(scope="module")
def split():
    return load("digits").hold_out(0.1, 0)


def test_each_sweep_has_a_folder_of_its_own_and_the_latest_is_resumed(split, tmp_path):
    first, second = (open_ledger(SWEEP, split, tmp_path, resume=False) for _ in range(2))
    assert first.folder != second.folder
    assert open_ledger(SWEEP, split, tmp_path, resume=True) == second


def test_of_many_that_begin_in_one_second_the_last_is_resumed(split, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "gmtime", lambda: time.struct_time((2026, 1, 1, 12, 0, 0, 3, 1, 0)))
    begun = [open_ledger(SWEEP, split, tmp_path, resume=False) for _ in range(11)]
    assert begun[-1].id == "digits-20260101-120000-11"
    assert [sweep.id for sweep in kept(tmp_path, "digits")] == [ledger.id for ledger in begun]
    assert open_ledger(SWEEP, split, tmp_path, resume=True) == begun[-1]


def test_a_later_sweep_of_the_same_name_and_other_content_is_passed_over(split, tmp_path):
    other, third = (dataclasses.replace(SWEEP, recipe=Recipe(epochs=epochs)) for epochs in (3, 4))
    first = open_ledger(SWEEP, split, tmp_path, resume=False)
    second = open_ledger(other, split, tmp_path, resume=False)
    assert open_ledger(SWEEP, split, tmp_path, resume=True) == first
    with pytest.raises(InputError, match=f"cannot resume {second.id}, whose recipe \\(epochs was 3, is 4\\) differed"):
        open_ledger(third, split, tmp_path, resume=True)


def test_more_trials_are_the_same_sweep(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    assert open_ledger(dataclasses.replace(SWEEP, trials=99), split, tmp_path, resume=True) == ledger


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"recipe": Recipe(epochs=3)}, "recipe"),
        ({"space": {"alpha": tune.uniform(0, 2), "policy": "shift"}}, "space"),
        ({"space": {"alpha": tune.quniform(0, 1, 0.5), "policy": "shift"}}, "space"),
        ({"space": {"alpha": tune.uniform(0, 1), "policy": "paper"}}, "space"),
        ({"space": {"alpha": tune.choice([0, 1]), "policy": "shift"}}, "space"),
        ({"objectives": {"final/ece": "min"}}, "objectives"),
        ({"no_worse_than_control": ("final/ece",)}, "no_worse_than_control"),
        ({"no_worse_than_control": {"final/ece": 0.1}}, "no_worse_than_control"),
    ],
)
def test_what_changed_is_named(split, tmp_path, change, named):
    open_ledger(SWEEP, split, tmp_path, resume=False)
    with pytest.raises(InputError, match=f"whose {named} .*differed"):
        open_ledger(dataclasses.replace(SWEEP, **change), split, tmp_path, resume=True)


def test_a_sweep_of_before_there_was_a_choice_of_budget_had_equal_epochs(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    path = ledger.folder / "sweep.json"
    content = json.loads(path.read_text())
    del content["recipe"]["budget"]
    path.write_text(json.dumps(content))
    assert open_ledger(SWEEP, split, tmp_path, resume=True).id == ledger.id
    by_steps = dataclasses.replace(SWEEP, recipe=Recipe(budget="steps"))
    with pytest.raises(InputError, match=r"whose recipe \(budget was epochs, is steps\) differed"):
        open_ledger(by_steps, split, tmp_path, resume=True)


def test_steps_on_another_scale_are_another_space(split, tmp_path):
    even = dataclasses.replace(SWEEP, space={"alpha": tune.quniform(0.1, 1, 0.1), "policy": "shift"})
    logarithmic = dataclasses.replace(SWEEP, space={"alpha": tune.qloguniform(0.1, 1, 0.1), "policy": "shift"})
    open_ledger(even, split, tmp_path, resume=False)
    with pytest.raises(InputError, match=r"whose space .*differed"):
        open_ledger(logarithmic, split, tmp_path, resume=True)


def test_numbers_of_a_space_may_be_written_otherwise(split, tmp_path):
    def space(one, half):
        return {
            "alpha": tune.uniform(0 * one, one),
            "balance": one,
            "prune_rate": tune.quniform(0, half, half),
            "temperature": tune.choice([one, half]),
        }

    ledger = open_ledger(dataclasses.replace(SWEEP, space=space(1, 0.5)), split, tmp_path, resume=False)
    assert open_ledger(dataclasses.replace(SWEEP, space=space(1.0, 0.5)), split, tmp_path, resume=True) == ledger
    for other in (space(1.0, 0.05), space(10, 0.5), space(1.5, 0.5)):
        with pytest.raises(InputError, match=r"whose space .*differed"):
            open_ledger(dataclasses.replace(SWEEP, space=other), split, tmp_path, resume=True)


def test_names_of_a_space_are_not_written_otherwise(split, tmp_path):
    """Those of one's own may look like numbers."""
    named, renamed = (
        dataclasses.replace(SWEEP, space={"alpha": tune.uniform(0, 1), "policy": tune.choice([name, "it's 1"])})
        for name in ("1.0", "1")
    )
    ledger = open_ledger(named, split, tmp_path, resume=False)
    assert open_ledger(named, split, tmp_path, resume=True) == ledger
    with pytest.raises(InputError, match=r"whose space \(policy was .*\) differed"):
        open_ledger(renamed, split, tmp_path, resume=True)


def test_what_a_resumed_sweep_compares_is_what_it_is_asked_now(split, tmp_path):
    first, second = Treatment(alpha=1.0, policy="shift"), Treatment(alpha=2.0, policy="shift")
    listed = dataclasses.replace(SWEEP, space=[first, second], objectives={"final/ece": "min"}, comparisons=())
    folder = open_ledger(listed, split, tmp_path, resume=False).folder
    assert Kept(folder).comparisons == [Comparison((first, second))]
    asked = [Comparison((second,), first, ("test/nll",))]
    resumed = dataclasses.replace(listed, comparisons=asked)
    open_ledger(resumed, split, tmp_path, resume=True).asked(resumed)
    assert Kept(folder).comparisons == asked


def test_the_latest_sweep_is_the_latest_whatever_the_time_zone(split, tmp_path, monkeypatch):
    made = []
    for zone in ("Asia/Tokyo", "UTC", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        made.append(open_ledger(SWEEP, split, tmp_path, resume=False).id)
    monkeypatch.undo()
    time.tzset()
    assert [one.id for one in kept(tmp_path, SWEEP.name)] == made
    assert made == sorted(made)


def test_networks_of_another_version_are_another_sweeps(split, tmp_path, monkeypatch):
    open_ledger(SWEEP, split, tmp_path, resume=False)
    monkeypatch.setattr("hardtune.member.VERSION", -1)
    with pytest.raises(InputError, match="whose version of hardtune differed"):
        open_ledger(SWEEP, split, tmp_path, resume=True)


@pytest.mark.parametrize(
    ("version", "measured"),
    [
        ("OOD_VERSION", {"ood": np.zeros((3, 8, 8, 1), np.uint8)}),
        ("CORRUPTION_VERSION", {"corruptions": (("fog", 3),)}),
    ],
)
def test_a_version_counts_if_the_sweep_measures_what_it_is_of(split, tmp_path, monkeypatch, version, measured):
    without, measuring = split, dataclasses.replace(split, **measured)
    first, _ = (open_ledger(SWEEP, each, tmp_path, resume=False) for each in (without, measuring))
    monkeypatch.setattr(f"hardtune.answers.{version}", -1)
    assert open_ledger(SWEEP, without, tmp_path, resume=True) == first
    with pytest.raises(InputError, match="whose version of hardtune differed"):
        open_ledger(SWEEP, measuring, tmp_path, resume=True)


def test_code_of_ones_own_that_changed_is_named(split, tmp_path, monkeypatch):
    def measured_by(function):
        monkeypatch.setitem(METRICS._entries, "mine", Metric(function, "min"))
        monkeypatch.delitem(METRICS._digests, "mine", raising=False)

    measured_by(lambda predictions: 0.0)
    second = open_ledger(SWEEP, split, tmp_path, resume=False)
    assert open_ledger(SWEEP, split, tmp_path, resume=True) == second
    measured_by(lambda predictions: 1.0)
    with pytest.raises(
        InputError, match=rf"cannot resume {second.id}, whose plug-ins \(metric mine: edited, or .*\) differed"
    ):
        open_ledger(SWEEP, split, tmp_path, resume=True)


def test_a_sweep_of_another_version_that_recorded_less_differs(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    left = {"about": ledger.content["about"], "owner": ledger.content["owner"]}
    (ledger.folder / "sweep.json").write_text(json.dumps(left))
    with pytest.raises(InputError, match=f"cannot resume {ledger.id}, whose version of hardtune and data and "):
        open_ledger(SWEEP, split, tmp_path, resume=True)


def up_to(most, trial):
    return {"alpha": trial.suggest_float("alpha", 0, most), "policy": "shift"}


def test_a_space_may_be_a_partial_function_and_what_it_was_given_counts(split, tmp_path):
    one, two = (dataclasses.replace(SWEEP, space=functools.partial(up_to, most)) for most in (1, 2))
    ledger = open_ledger(one, split, tmp_path, resume=False)
    assert open_ledger(one, split, tmp_path, resume=True) == ledger
    with pytest.raises(InputError, match="whose space differed"):
        open_ledger(two, split, tmp_path, resume=True)
    open_ledger(one.smoke(), split, tmp_path, resume=False)
    with pytest.raises(InputError, match="whose space differed"):
        open_ledger(two.smoke(), split, tmp_path, resume=True)


def given(estimators):
    def space(trial):
        return {"estimator": trial.suggest_categorical("estimator", estimators), "policy": "shift"}

    return space


class Given:
    def __init__(self, most):
        self.most = most

    def __call__(self, trial):
        return {"alpha": trial.suggest_float("alpha", 0, self.most), "policy": "shift"}


@pytest.mark.parametrize("space", [given, Given])
@pytest.mark.parametrize("smoke", [False, True])
def test_what_a_space_reads_from_around_it_counts(split, tmp_path, space, smoke):
    def sweep(value):
        changed = dataclasses.replace(SWEEP, space=space(value))
        return changed.smoke() if smoke else changed

    ledger = open_ledger(sweep(("aum",)), split, tmp_path, resume=False)
    assert open_ledger(sweep(("aum",)), split, tmp_path, resume=True) == ledger
    with pytest.raises(InputError, match="whose space differed"):
        open_ledger(sweep(("el2n", "rmd")), split, tmp_path, resume=True)


RATES = (0.1, 0.2)


def rated(trial):
    return {"prune": "class", "prune_rate": trial.suggest_categorical("prune_rate", RATES), "policy": "shift"}


def test_what_a_space_reads_of_its_module_counts(split, tmp_path, monkeypatch):
    sweep = dataclasses.replace(SWEEP, space=rated)
    ledger = open_ledger(sweep, split, tmp_path, resume=False)
    assert open_ledger(sweep, split, tmp_path, resume=True) == ledger
    monkeypatch.setattr(sys.modules[__name__], "RATES", (0.1, 0.3))
    with pytest.raises(InputError, match="whose space differed"):
        open_ledger(sweep, split, tmp_path, resume=True)


def test_the_same_space_is_described_alike_by_every_process(tmp_path):
    """Whatever it reads: sets have another order in each, functions and objects another address."""
    script = tmp_path / "script.py"
    script.write_text("""
import math
import numpy as np
from hardtune import Treatment
from hardtune.sweep.ledger import _describe_space

NAMES, BASE, ELSE = {"aum", "el2n", "rmd", "forgetting"}, {"t": Treatment(), "of": (print, object())}, object()
GRID = np.linspace(0, 1, 3)

def around(helper):
    def space(trial):
        return {"estimator": helper(sorted(NAMES), BASE, ELSE, GRID, math, np.ndarray)}
    return space

print(_describe_space(around(lambda *read: read[0][0])))
""")
    described = {
        subprocess.run(
            [sys.executable, script], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        ).stdout
        for seed in "12"
    }
    (one,) = described
    assert one.strip()


def test_where_the_data_came_from_and_with_which_packages_is_kept_and_may_be_otherwise_when_it_is_resumed(
    split, tmp_path
):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    about = json.loads((ledger.folder / "sweep.json").read_text())["about"]
    assert (about["data"], about["image_size"]) == ("digits", None)
    assert about["versions"]["ray"] == ray.__version__
    assert about["versions"].keys() >= {"python", "torch", "numpy", "hardtune"}
    moved = dataclasses.replace(SWEEP, data="/elsewhere/digits")
    assert open_ledger(moved, split, tmp_path, resume=True) == ledger


def test_other_data_are_another_sweep(split, tmp_path):
    open_ledger(SWEEP, split, tmp_path, resume=False)
    other = load("digits").subset(classes=10, train=50, test=5, seed=0).hold_out(0.1, 0)
    with pytest.raises(InputError, match="whose data differed"):
        open_ledger(SWEEP, other, tmp_path, resume=True)


def test_another_pool_is_another_sweep(split, tmp_path):
    pool = split.test.take(np.arange(100))
    open_ledger(SWEEP, dataclasses.replace(split, pool=pool), tmp_path, resume=False)
    inverted = dataclasses.replace(pool, images=255 - pool.images)
    for other in (inverted, None):
        with pytest.raises(InputError, match="whose pool differed"):
            open_ledger(SWEEP, dataclasses.replace(split, pool=other), tmp_path, resume=True)


def test_what_the_recipe_leaves_to_the_device_is_decided_once_a_sweep(split, tmp_path):
    """A busy machine may find another precision faster the next time; a resumed sweep trains on as it began."""
    decided = dataclasses.replace(SWEEP.recipe, precision="bfloat16", layout="channels_first", compile=False)
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    began = ledger.resolved(lambda: decided, "cpu")
    resumed = open_ledger(SWEEP, split, tmp_path, resume=True).resolved(lambda: pytest.fail("decided again"), "cpu")
    assert began == resumed == decided


def test_a_sweep_is_not_resumed_on_another_kind_of_device(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    ledger.resolved(lambda: SWEEP.recipe, "cuda")
    assert ledger.resolved(lambda: pytest.fail("decided again"), "cuda") == SWEEP.recipe
    with pytest.raises(InputError, match=f"{ledger.id} began on cuda and would go on on cpu"):
        ledger.resolved(lambda: pytest.fail("decided again"), "cpu")


def test_a_kill_as_the_sweep_begins_leaves_nothing_half_described(split, tmp_path):
    """Whatever a killed process left of a folder, the one before it is the one that is resumed."""
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    (tmp_path / "sweeps" / f"{SWEEP.name}-29991231-235959").mkdir()
    (tmp_path / "sweeps" / f"{SWEEP.name}-29991231-235959" / "sweep.tmp").write_text("{")
    assert open_ledger(SWEEP, split, tmp_path, resume=True) == ledger


def test_a_sweep_of_a_similar_name_is_not_resumed(split, tmp_path):
    open_ledger(dataclasses.replace(SWEEP, name="digits-2"), split, tmp_path, resume=False)
    with pytest.raises(InputError, match="no sweep named digits to resume"):
        open_ledger(SWEEP, split, tmp_path, resume=True)


def test_a_sweep_whose_folder_of_images_was_renamed_is_hinted_at(split, tmp_path):
    open_ledger(SWEEP.on("/images/birds"), split, tmp_path, resume=False)
    with pytest.raises(InputError) as renamed:
        open_ledger(SWEEP.on("/images/all-birds"), split, tmp_path, resume=True)
    there = f"there is no sweep named digits-all-birds to resume in {tmp_path / 'sweeps'}, only digits-birds"
    assert str(renamed.value).startswith(f"{there}: a sweep's name has that of its folder of images, so if the folder")
    with pytest.raises(InputError, match=r"no sweep named digits to resume in .*sweeps, only digits-birds$"):
        open_ledger(SWEEP, split, tmp_path, resume=True)


@pytest.mark.parametrize("name", ["", "../digits", ".digits", "what?", "{digits", "$a_{b$", "two\nlines", "é" * 101])
def test_a_name_that_a_folder_a_url_or_a_figure_cannot_have_is_refused(name):
    with pytest.raises(InputError, match=r"without slashes, quotes and any of .* at most 200 bytes"):
        dataclasses.replace(SWEEP, name=name)


def test_the_longest_name_and_an_odd_one_are_folders_with_a_study_in_them(split, tmp_path):
    for name in ("x" * 200, "50% off #1 [ü]: a&b=c"):
        ledger = open_ledger(dataclasses.replace(SWEEP, name=name), split, tmp_path, resume=False)
        study_database(ledger.study_url, ledger.id)
        assert (ledger.folder / "study.db").exists()


def test_the_lock_goes_with_its_process(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    hold = (
        "import sys; from pathlib import Path; from hardtune.sweep.ledger import Ledger\n"
        "with Ledger(Path(sys.argv[1])).held(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(ledger.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="is running in another process"), ledger.held():
        pass
    holder.kill()
    holder.wait()
    with ledger.held():
        assert json.loads((ledger.folder / "sweep.json").read_text())["space"]["policy"] == "'shift'"


def test_who_only_looks_whether_a_sweep_is_running_keeps_nobody_from_it(split, tmp_path):
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    looking = FileLock(ledger.folder / ".lock", thread_local=False)  # as ``is_running`` does, only longer
    looking.acquire(timeout=0)
    threading.Timer(0.2, looking.release).start()
    with ledger.held():
        assert not looking.is_locked


def test_a_resumed_sweep_trains_with_the_threads_that_it_began_with(split, tmp_path):
    def resumed(cpus):
        sweep = dataclasses.replace(SWEEP, cpus_per_trial=cpus)
        open_ledger(sweep, split, tmp_path, resume=True).asked(sweep)
        return Kept(ledger.folder).content["about"]["cpus_per_trial"]

    ledger = open_ledger(SWEEP, split, tmp_path, resume=False)
    assert resumed(2) == 2, "nothing is trained yet"
    ledger.resolved(lambda: SWEEP.recipe, "cpu")
    assert resumed(2.5) == 2.5
    with pytest.raises(InputError, match=r"with 2 threads and would go on with 1, .* with --cpus-per-trial 2\.5, or"):
        resumed(1)
    (ledger.folder / "settled.json").unlink()
    ledger.resolved(lambda: SWEEP.recipe, "cuda")
    assert resumed(1) == 1, "a GPU trains its networks"


def test_another_price_of_racing_is_another_sweep(split, tmp_path):
    first = open_ledger(dataclasses.replace(SWEEP, racing=0.01), split, tmp_path, resume=False)
    assert open_ledger(dataclasses.replace(SWEEP, racing=0.01), split, tmp_path, resume=True) == first
    for other in (0.02, 0.0):
        with pytest.raises(InputError, match=r"whose racing \(was 0.01, is (0.02|None)\) differed"):
            open_ledger(dataclasses.replace(SWEEP, racing=other), split, tmp_path, resume=True)


def test_other_images_from_elsewhere_are_another_sweep(split, tmp_path):
    some, others = (dataclasses.replace(split, ood=np.full((3, 8, 8, 1), grey, np.uint8)) for grey in (0, 9))
    first = open_ledger(SWEEP, some, tmp_path, resume=False)
    assert open_ledger(SWEEP, some, tmp_path, resume=True) == first
    for other in (others, split):
        with pytest.raises(InputError, match="whose out-of-distribution images differed"):
            open_ledger(SWEEP, other, tmp_path, resume=True)


def test_arrays_that_a_space_reads_from_around_it_count(split, tmp_path):
    def sweep(most):
        return dataclasses.replace(SWEEP, space=given(np.array(["aum", most])))

    ledger = open_ledger(sweep("el2n"), split, tmp_path, resume=False)
    assert open_ledger(sweep("el2n"), split, tmp_path, resume=True) == ledger
    with pytest.raises(InputError, match="whose space differed"):
        open_ledger(sweep("rmd"), split, tmp_path, resume=True)


def test_scores_of_ones_own_that_have_changed_make_it_another_sweep(split, tmp_path, monkeypatch):
    """They may be read from a file, which says nothing of itself in the code."""
    monkeypatch.setattr(ESTIMATORS, "_entries", dict(ESTIMATORS._entries))
    file, needs = tmp_path / "mine.npy", Needs(frozenset({"mine", "aum"}))
    estimator("mine", of="data")(lambda split: np.load(file)[split.kept])
    scores = np.arange(split.origin_size)
    np.save(file, scores)
    ledger = open_ledger(SWEEP, split, tmp_path, resume=False, needs=needs)
    assert open_ledger(SWEEP, split, tmp_path, resume=True, needs=needs) == ledger
    np.save(file, scores[::-1])
    with pytest.raises(InputError, match=f"cannot resume {ledger.id}, whose scores of one's own \\(mine\\) differed"):
        open_ledger(SWEEP, split, tmp_path, resume=True, needs=needs)
