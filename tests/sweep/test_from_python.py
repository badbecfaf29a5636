"""A sweep in a notebook's kernel, with a loss that a cell defines, and what ``run`` does without a cluster."""

import errno
import logging
import os
import re
import warnings
from pathlib import Path

import nbformat
import pytest
import ray
from nbclient import NotebookClient

from hardtune import InputError, Recipe, Treatment
from hardtune.errors import HardtuneWarning
from hardtune.recipe import ON_DIGITS
from hardtune.report.sweeps import Kept
from hardtune.sweep import Sweep, engine, run, trials

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
(SWEEP,) = (code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "run(sweep)" in code)
ANY = Sweep("any", "digits", ON_DIGITS, [Treatment(entropy_weight=0.2, entropy_target="constant")])

DEFINES = """
import os
os.environ["RAY_OVERRIDE_RESOURCES"] = '{"CPU": 1}'
from torch.nn.functional import cross_entropy
from hardtune.training.losses import LOSSES, Loss

@LOSSES.register("doubled")
class Doubled(Loss):
    def forward(self, logits, labels, ids):
        return 2 * cross_entropy(logits, labels, reduction="none")
"""
RUNS = SWEEP.replace('"shift"}', '"shift", "loss": "doubled"}').replace(
    "(sweep)", "(sweep, smoke=True, storage='results')"
)
READS = "' '.join([found.id, str(len(found.records)), *{record.treatment.loss for record in found.records[1:]}])"
AGAIN = "run(sweep, smoke=True, storage='results', resume=True) == found"
CONNECTS = "import ray; ray.init(address='local', include_dashboard=False); run(sweep, smoke=True, storage='results')"


@pytest.mark.slow
def test_a_notebook_runs_the_readmes_sweep_with_its_own_loss_and_resumes_it(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    sources = (DEFINES, RUNS, READS, "found", AGAIN, CONNECTS, "ray.shutdown()")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=300, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    _, runs, reads, (table,), again, connects, _ = (cell.outputs for cell in notebook.cells)
    assert [output.ename for output in runs if output.output_type == "error"] == []
    (sweep,) = (tmp_path / "results" / "sweeps").iterdir()
    said = "".join(output.text for output in runs if output.get("name") == "stdout")
    assert said.startswith("hardtune · mine-smoke\nresults in "), "nothing of it is cleared, and nothing is redrawn"
    assert re.search(r"\nPareto front of mine-smoke *\n", said)
    assert f"\nfigure  {sweep}/pareto.png\n" in said
    assert "\x1b" not in said
    assert re.match(r"(control|aum α=|doubled).* 0\.\d+ 0\.\d+$", said.splitlines()[-1])
    assert shown(reads) == f"'{sweep.name} 5 doubled'"
    assert table.data["text/markdown"].startswith(f"**Pareto front of {sweep.name}**\n\n| trial | treatment |")
    assert shown(again) == "True"
    assert connects[-1].evalue == "this process is connected to Ray already: call ray.shutdown() first"


def shown(outputs) -> str:
    (result,) = (output.data["text/plain"] for output in outputs if output.output_type == "execute_result")
    return result


def test_what_is_wrong_is_said_before_anything_runs(tmp_path):
    with pytest.raises(InputError, match="unknown field of the recipe 'epoch': choose from epochs, "):
        run(ANY, storage=tmp_path, recipe={"epoch": 3})
    with pytest.raises(
        InputError, match="http://head:8265 is a job server, which takes scripts: run one with --address"
    ):
        run(ANY, storage=tmp_path, address="http://head:8265")
    with pytest.raises(InputError, match="concurrent must be a whole number of at least 1, got 0"):
        run(ANY, storage=tmp_path, concurrent=0)
    with pytest.raises(InputError, match="there is no sweep named any to resume in "):
        run(ANY, storage=str(tmp_path), resume=True)
    with pytest.raises(InputError, match="--confirm is for searches"):
        run(ANY, storage=tmp_path, confirm=True)
    with pytest.raises(InputError, match=r"run\(\) takes a Sweep, got 'digits'"):
        run("digits", storage=tmp_path)
    assert not ray.is_initialized()


def test_it_runs_what_it_is_given_where_the_environment_says_and_leaves_warnings_as_they_were(
    tmp_path, monkeypatch, capsys
):
    given = []

    def interrupted(sweep, place, view):
        given.append((sweep, place))
        warnings.warn("a file is damaged", HardtuneWarning, stacklevel=1)
        warnings.warn("a library's, which nobody needs to read", stacklevel=1)
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "run_sweep", interrupted)
    monkeypatch.setenv("HARDTUNE_STORAGE", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///the-environments.db")
    before = warnings.showwarning, list(warnings.filters)
    with pytest.raises(KeyboardInterrupt):
        run(ANY, smoke=True, recipe={"members": 3}, data_dir="data", study_storage="sqlite:///mine.db")
    assert (warnings.showwarning, warnings.filters) == before
    assert capsys.readouterr().out == "hardtune · any-smoke\na file is damaged\n"
    ((sweep, place),) = given
    assert (sweep.name, sweep.recipe.members, sweep.recipe.epochs) == ("any-smoke", 3, 1)
    assert (place.storage, place.tracking_uri, place.data_dir) == (tmp_path, "http://mlflow:5000", Path("data"))
    assert place.study_storage == "sqlite:///mine.db"
    assert place.subset
    assert not place.resume


def test_an_interrupt_stops_the_notebook_too_and_its_results_are_there(tmp_path, monkeypatch):
    class Stopped:
        interrupted = True
        ledger = Kept(tmp_path)

    monkeypatch.setattr("hardtune.sweep.from_python.run_and_show", lambda *_: Stopped())
    with pytest.raises(KeyboardInterrupt, match="go on with resume=True"):
        run(ANY, storage=tmp_path)

    def while_it_scores(sweep, place, view, *_):
        view.begin(tmp_path)
        raise KeyboardInterrupt

    with monkeypatch.context() as scoring:
        scoring.setattr("hardtune.sweep.from_python.run_and_show", while_it_scores)
        with pytest.raises(KeyboardInterrupt, match="go on with resume=True"):
            run(ANY, storage=tmp_path)
    Stopped.interrupted = False
    assert run(ANY, storage=tmp_path, recipe={"seed": Recipe().seed}) == Kept(tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"recipe": ON_DIGITS}, "recipe must be a dict of changes to the sweep's recipe, got Recipe"),
        ({"recipe": ["epochs=3"]}, "recipe must be a dict of changes"),
        ({"tracking_uri": Path("mlflow.db")}, "tracking_uri must be a URI, got "),
        ({"study_storage": Path("study.db")}, "study_storage must be a URL, got "),
        ({"address": 8265}, "address must be that of a Ray cluster"),
        ({"storage": 3}, "storage must be a path, got 3"),
        ({"smoke": "yes"}, "smoke must be True or False, got 'yes'"),
        ({"confirm": 3}, "confirm must be True or False, or a search or its id, got 3"),
        ({"concurrent": "2"}, "concurrent must be a whole number of at least 1, got '2'"),
        ({"confirm": ""}, "--confirm is for searches"),
    ],
)
def test_an_argument_of_another_kind_is_named(tmp_path, given, says):
    with pytest.raises(InputError, match=says):
        run(ANY, **{"storage": tmp_path, **given})


def test_an_environment_that_makes_no_sense_is_an_error_and_no_exit(tmp_path, monkeypatch):
    monkeypatch.setenv("HARDTUNE_CONCURRENT", "abc")
    with pytest.raises(InputError, match="an environment variable that stands for a flag has no valid value"):
        run(ANY, storage=tmp_path)


def test_a_job_of_a_cluster_needs_a_storage_that_outlives_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(InputError, match="on a cluster --storage must be an absolute path that all nodes see"):
        run(ANY, storage="results")


def test_a_search_that_run_returned_can_be_confirmed_as_it_is(tmp_path, monkeypatch):
    asked = []

    def confirming(sweep, storage, changes, wanted):
        asked.append(wanted)
        raise InputError("so far")

    monkeypatch.setattr("hardtune.sweep.from_python.confirming", confirming)
    for confirm in (True, "any-1", Kept(tmp_path / "any-2")):
        with pytest.raises(InputError, match="so far"):
            run(ANY, storage=tmp_path, confirm=confirm)
    assert asked == [None, "any-1", "any-2"]


def test_a_full_disk_is_named_with_the_way_on(tmp_path, monkeypatch):
    def full(sweep, place, view):
        view.begin(tmp_path / "sweep")
        raise RuntimeError("a worker's") from OSError(errno.ENOSPC, "No space left on device", "weights")

    monkeypatch.setattr(engine, "run_sweep", full)
    with pytest.raises(OSError, match=r"the sweep cannot go on: .*No space left on device: .*resume=True goes on"):
        run(ANY, storage=tmp_path)


def test_only_one_runs_at_a_time_in_a_process(tmp_path, monkeypatch):
    def inner(*_):
        with pytest.raises(InputError, match="another sweep is running in this process"):
            run(ANY, storage=tmp_path)
        raise KeyboardInterrupt

    monkeypatch.setattr("hardtune.sweep.from_python.run_and_show", inner)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(ANY, storage=tmp_path)


def test_ones_own_use_of_tune_afterwards_is_as_it_would_have_been():
    before = dict(os.environ), logging.getLogger("ray.tune").level
    with trials._settings():
        assert os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] == "1"
        assert logging.getLogger("ray.tune").level == logging.CRITICAL
    assert (dict(os.environ), logging.getLogger("ray.tune").level) == before
