"""Names of plug-ins that one defines again."""

import subprocess
import sys

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
