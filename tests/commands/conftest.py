"""A sweep script and a store that its scores are in."""

import pytest

from hardtune.commands import main

SCRIPT = """
import dataclasses
from ray import tune
from hardtune import Recipe
from hardtune.sweep import Sweep, main

recipe = Recipe(model="small_cnn", epochs=2, batch_size=64, flip=False, crop_padding=1, members=1, scoring_members=4,
                encoder="pixels", validation=0.3)
fixed = {"policy": "shift"}
sweep = Sweep("small", "digits", recipe, {
    **fixed,
    "estimator": tune.choice(["aum", "rmd"]),
    "oversample": tune.choice(["random", "smote"]),
    "alpha": tune.uniform(0.0, 2.0),
    "entropy_weight": tune.uniform(0.0, 0.4),
})
foreign = Sweep("foreign", "digits", dataclasses.replace(recipe, members=2, scoring_members=2), {
    "alpha": tune.uniform(0.0, 2.0), **fixed
}, ood="inverted", corruptions=["fog"], severities=[3])
short = Sweep("short", "digits", recipe, {
    **fixed, "prune": "class", "prune_rate": 0.1, "oversample": "holdout", "alpha": tune.choice([0.1, 5.0]),
})

def made(data="digits"):
    return Sweep(f"made-{data}", data, recipe, {"alpha": tune.uniform(0, 1), **fixed})

def needy(data):
    return sweep

if __name__ == "__main__":
    raise SystemExit("a command must not run the sweep")
"""


@pytest.fixture(scope="session")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweeps") / "small.py"
    path.write_text(SCRIPT)
    return str(path)


@pytest.fixture(scope="session")
def storage(tmp_path_factory, script):
    """A storage with the scores of the script's sweep."""
    folder = tmp_path_factory.mktemp("storage")
    with pytest.raises(SystemExit, match="0"):
        main(["plan", script, "--score", "--storage", str(folder)])
    return folder


@pytest.fixture
def command(capsys):
    """Run a command; what it printed, what it complained of, and its exit code."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return printed.out, printed.err, exit.value.code

    return run
