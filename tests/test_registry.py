"""Names of plug-ins that one defines again."""

import linecache
import subprocess
import sys

import numpy as np

from hardtune import Recipe, Treatment, load, run
from hardtune.training.losses import LOSSES

TWICE = """
from hardtune.errors import InputError
from hardtune.evaluation.metric import METRICS, metric

def define(name, sign):
    metric(name, "max")(lambda predictions: sign * predictions.confidence.mean())

define("mine", 1)
before = METRICS.code("mine")
define("mine", -1)
assert METRICS.code("mine") != before
try:
    define("accuracy", 1)
except InputError as error:
    assert "taken" in str(error)
else:
    raise AssertionError("a metric of hardtune's own was replaced")
"""


def said(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_a_notebooks_cell_replaces_what_it_registered_and_nothing_of_hardtunes():
    done = said("-c", TWICE)
    assert done.returncode == 0, done.stderr


def test_in_a_script_two_of_one_name_are_a_mistake(tmp_path):
    (tmp_path / "script.py").write_text(TWICE)
    assert "the metric name 'mine' is taken: choose another" in said(tmp_path / "script.py").stderr


def test_nor_may_a_module_that_a_notebook_imports_replace_what_another_registered(tmp_path):
    for name in ("one", "other"):
        code = 'from hardtune.evaluation.metric import metric\nmetric("mine", "max")(lambda predictions: 1.0)\n'
        (tmp_path / f"{name}.py").write_text(code)
    command = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import one, other"
    assert "the metric name 'mine' is taken: choose another" in said("-c", command).stderr


CELLS = """
from torch.nn.functional import cross_entropy
from hardtune.training.losses import LOSSES, Loss

def factor():
    return 1.0

@LOSSES.register("scaled")
class Scaled(Loss):
    def forward(self, logits, labels, ids):
        return factor() * cross_entropy(logits, labels, reduction="none")
"""


def cell(code, notebook):
    """Run it as a notebook's kernel does, which keeps the source."""
    name = f"<cell {len(linecache.cache)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    exec(compile(code, name, "exec"), notebook)


def test_a_cell_that_what_is_registered_calls_may_be_run_again(monkeypatch, tmp_path):
    """Its networks are others then, though the cell that registered it was not run again."""
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))
    notebook = {"__name__": "__main__"}
    cell(CELLS, notebook)
    recipe = Recipe(
        model="small_cnn", epochs=1, members=1, scoring_members=1, encoder="pixels", crop_padding=1, validation=0.3
    )
    few = load("digits").subset(classes=2, train=20, test=10, seed=0)

    def logits():
        return run(Treatment(loss="scaled"), few, recipe, tmp_path).test_logits

    before = logits()
    np.testing.assert_array_equal(logits(), before)
    cell("def factor():\n    return 0.001\n", notebook)
    assert not np.array_equal(logits(), before)
