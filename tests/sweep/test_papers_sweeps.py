"""The papers' sweep runs, at its smallest, on images of the right shape in the layout of an image folder.

That of CIFAR-100 is the same with other numbers, and runs on a cluster in ``tests/cluster/test_launcher.py``.
"""

import dataclasses
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardtune import load
from hardtune.checks import check_sources
from hardtune.data import harder
from hardtune.resampling.plan import make_plan
from hardtune.sweep.cli import configured, parser
from hardtune.sweep.space import corners

SWEEPS = Path(__file__).parents[2] / "sweeps"


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for split, size in (("train", 10), ("test", 3)):
        for label in range(10):
            folder = tmp_path / "cifar10" / split / f"class_{label}"
            folder.mkdir(parents=True)
            for index in range(size):
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    return tmp_path / "cifar10"


@pytest.mark.slow
def test_every_code_path_of_the_papers_sweep(script, images):
    smallest = ("--smoke", "--trials", "1", "--recipe", "members=1", "scoring_members=1")
    out = script.here("cifar10.py", *smallest, "--data-dir", str(images))
    assert "Pareto front of cifar10-smoke" in out
    _, runs = script.runs("cifar10-smoke")
    assert {run.data.params.get("model") for run in runs} == {"resnet18", None}


def test_on_images_of_ones_own_it_is_named_after_them():
    sweep = runpy.run_path(str(SWEEPS / "cifar10.py"))["sweep"]

    def named(*flags):
        return configured(sweep, parser("").parse_args(flags)).name

    assert named("--data", "/images/birds/") == "cifar10-birds"
    assert named("--data", "/images/bob's birds", "--smoke") == "cifar10-bob-s-birds-smoke"
    assert named("--data", "cifar10") == "cifar10"


@pytest.mark.parametrize("script", ["digits", "entropy_weight", "pruning", "reliability", "resampling"])
def test_every_sweep_can_be_named_after_any_folder_alike(script, tmp_path, monkeypatch):
    sweep = runpy.run_path(str(SWEEPS / f"{script}.py"))["sweep"]

    def named(data):
        return configured(sweep(data) if callable(sweep) else sweep, parser("").parse_args(["--data", data])).name

    (tmp_path / "birds").mkdir()
    monkeypatch.chdir(tmp_path / "birds")
    ending = "-nll" if script == "entropy_weight" else ""
    assert named("/images/a{b} c/") == f"{script}-a-b-c{ending}"
    assert named(".") == named("../birds/") == f"{script}-birds{ending}"
    assert named("..") == f"{script}-{tmp_path.name}{ending}"
    (tmp_path / "birds" / "cifar10").symlink_to("/images")  # a data set's name is no folder's
    assert named("cifar10") == f"{script}-cifar10{ending}"


def test_a_flag_that_is_given_twice_takes_nothing_back():
    flags = ["--recipe", "epochs=3", "seed=1", "--recipe", "members=2"]
    flags += ["--corruptions", "fog", "--corruptions", "contrast", "--severities", "1", "--severities", "3"]
    for _ in range(2):  # nor does one command line leave something for the next
        sweep = configured(runpy.run_path(str(SWEEPS / "cifar10.py"))["sweep"], parser("").parse_args(flags))
        assert (sweep.recipe.epochs, sweep.recipe.seed, sweep.recipe.members) == (3, 1, 2)
        assert (sweep.corruptions, sweep.severities) == (["fog", "contrast"], [1, 3])
    names = runpy.run_path(str(SWEEPS / "pruning.py"))
    assert names["flags"].parse_args(["--estimators", "aum", "--estimators", "rmd"]).estimators == ["aum", "rmd"]


def test_a_long_tail_is_made_of_balanced_data_sets_but_not_of_a_folder_of_images():
    made = runpy.run_path(str(SWEEPS / "long_tail.py"))["sweep"]
    assert [made(data).imbalance for data in ("digits", "cifar10", "path/to/images", "mine")] == [10, 10, 1, 1]


def test_reliability_takes_any_score_of_difficulty():
    made = runpy.run_path(str(SWEEPS / "reliability.py"))["sweep"]
    method = made("digits", 0.5, "el2n_mean").space[0]
    assert (method.entropy_weight, method.entropy_estimator) == (0.5, "el2n_mean")


@pytest.mark.parametrize("script", ["pruning", "resampling", "long_tail", "cifar10"])
def test_a_sweep_compares_at_equal_epochs_and_at_equal_steps_if_asked(script):
    made = runpy.run_path(str(SWEEPS / f"{script}.py"))["sweep"]
    sweep = made() if callable(made) else made
    assert sweep.recipe.budget == "epochs"
    assert configured(sweep, parser("").parse_args(["--recipe", "budget=steps"])).recipe.budget == "steps"


def test_all_methods_on_digits_are_those_that_need_no_pool_unless_there_is_one():
    everything = runpy.run_path(str(SWEEPS / "digits.py"))["everything"]
    split = load("digits").hold_out(0.3, 0)
    treatments = corners(everything().space)
    assert {"adjust", "smote_encoder"} <= {treatment.oversample for treatment in treatments}
    check_sources(split, treatments)
    assert "pool_hard" in {treatment.oversample for treatment in corners(everything("any").space)}


def test_on_both_data_sets_it_is_the_same_sweep_with_other_numbers():
    ten, hundred = (runpy.run_path(str(SWEEPS / f"{name}.py"))["sweep"] for name in ("cifar10", "cifar100"))
    assert (hundred.name, hundred.data) == ("cifar100", "cifar100")
    assert ten.space.keys() == hundred.space.keys()
    assert dataclasses.replace(ten, name="cifar100", data="cifar100", space=hundred.space) == hundred


def test_on_a_long_tail_classes_count_the_same_by_size_however_that_is_done():
    sweep = runpy.run_path(str(SWEEPS / "long_tail.py"))["sweep"]()
    data = harder(load("digits"), sweep.imbalance, sweep.label_noise)
    split = data.hold_out(sweep.recipe.validation, sweep.recipe.seed)
    sizes = np.bincount(split.train.labels)
    assert sizes[0] > 9 * sizes[-1]
    by_size = [treatment for treatment in sweep.treatments if treatment.balance == 1 and treatment.alpha == 0]
    assert {treatment.oversample for treatment in by_size} == {"random", "reweight", "adjust", "posthoc"}
    for treatment in by_size:
        plan = make_plan(treatment, split.train, split.classes, scores=None, seed=0)
        counts = np.array([row.count * row.factor for row in plan.classes])
        gaining = counts[sizes < sizes.mean()] if treatment.undersample == "none" else counts
        np.testing.assert_allclose(gaining, sizes.mean(), atol=1)
