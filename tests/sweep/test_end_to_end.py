"""The main job, as a newcomer does it: a real cluster, a real study, a real tracking database."""

import json
import re
import runpy
import shutil
from collections import Counter
from pathlib import Path

import pytest

from hardtune.commands import main as command
from hardtune.report.metric_names import always_measured

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def smoke(shared_script):
    """The output of ``digits.py --smoke``, run twice: on all cores, and in this process."""
    shared_script.database = None  # a newcomer has none
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_OVERRIDE_RESOURCES", raising=False)
        first = shared_script.run("digits.py", "--smoke")
    return first, shared_script.here("digits.py", "--smoke")


def test_the_front_is_printed_with_the_control_the_figure_and_the_command_for_mlflow(smoke, shared_script):
    out, _ = smoke
    assert "Pareto front of digits-smoke" in out
    assert "changes nothing" in out
    figure = shared_script.sweeps()[0] / "pareto.png"
    assert str(figure) in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert f"mlflow ui --workers 1 --backend-store-uri sqlite:///{shared_script.storage}/mlflow.db" in out


def test_what_it_printed_can_be_seen_again(smoke, shared_script, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # as the sweeps had
    for out, folder in zip(smoke, shared_script.sweeps(), strict=True):
        flags = ["results", folder.name, "--storage", str(shared_script.storage)]
        assert f"again  python -m hardtune {' '.join(flags)}" in out
        with pytest.raises(SystemExit, match="0"):
            command(flags)
        again = capsys.readouterr().out.splitlines()
        figures = [[line.split() for line in text if " / " in line] for text in (out.splitlines(), again)]
        assert figures[0] == figures[1] != []
        (judged,) = (line for line in again if line.startswith(("On the test split ", "The control alone is")))
        assert judged in out.splitlines()
        _, runs = shared_script.runs("digits-smoke")
        of_sweep = (run for run in runs if run.data.tags["hardtune.sweep"] == folder.name)
        (parent,) = (run for run in of_sweep if "mlflow.parentRunId" not in run.data.tags)
        assert parent.data.tags["mlflow.note.content"].startswith(judged)


def test_the_files_that_it_left_are_those_that_are_documented_and_are_read_as_is_said(
    smoke, shared_script, tmp_path, monkeypatch
):
    page = (ROOT / "docs" / "files.md").read_text()
    *_, folder = shared_script.sweeps()
    for path in folder.glob("[!.]*"):
        assert f"`{path.name}" in page, path
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    code = code.replace("hardtune-results", str(shared_script.storage)).replace(', "digits")', ', "digits-smoke")')
    monkeypatch.chdir(tmp_path)  # it draws a figure there
    exec(code, names := {})
    assert [record.number for record in names["trials"]] == [0, 1, 2, 3]
    assert names["control"].is_control
    assert (tmp_path / "diagnostics.pdf").read_bytes().startswith(b"%PDF")


def test_a_second_run_reuses_the_cached_scores_and_says_so(smoke):
    first, second = smoke
    assert "reusing" not in first
    assert "reusing 2 of 2 members of the scoring ensemble from the store" in second


def test_mlflow_has_one_parent_a_sweep_and_one_child_a_trial_with_all_figures(smoke, shared_script):
    client, runs = shared_script.runs("digits-smoke")
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2
    assert {run.info.status for run in runs} == {"FINISHED"}
    for parent in parents:
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert Counter(run.data.tags["hardtune.trial"] for run in children) == Counter(["control", "0", "1", "2", "3"])
        assert "true" in {run.data.tags["pareto"] for run in children}
        names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
        assert {"pareto.png", "pareto.json"} <= names
        for child in children:
            assert {"alpha", "estimator", "oversample", "entropy_weight"} <= child.data.params.keys()
            assert {"final/recall_gap", "final/accuracy", "final/ece", "test/accuracy"} <= child.data.metrics.keys()
            steps = [metric.step for metric in client.get_metric_history(child.info.run_id, "members/accuracy")]
            assert steps == [1, 2]
            assert "per_class.json" in {artifact.path for artifact in client.list_artifacts(child.info.run_id)}


def test_the_front_in_mlflow_is_the_one_on_disk(smoke, shared_script):
    _, runs = shared_script.runs("digits-smoke")
    for folder in shared_script.sweeps():
        rows = json.loads((folder / "pareto.json").read_text())
        tagged = {
            run.data.tags["hardtune.trial"]
            for run in runs
            if run.data.tags["hardtune.sweep"] == folder.name and run.data.tags.get("pareto") == "true"
        }
        assert tagged == {str(row["trial"]) for row in rows if row["pareto"]}


def test_a_search_is_confirmed_in_a_copy_of_its_storage_and_both_are_kept(smoke, shared_script, script):
    *_, search = shared_script.sweeps()
    on_front = [row for row in json.loads((search / "pareto.json").read_text()) if row["pareto"]]
    tried = {str(row["trial"]): row["treatment"] for row in on_front if row["trial"] != "control"}
    if not tried:
        pytest.skip("here nothing beat the control in anything, so there is nothing to confirm")
    shutil.copytree(shared_script.storage, script.storage)
    before = script.sweeps()
    assert "it takes no --trials" in script.here("digits.py", "--smoke", "--confirm", "--trials", "2", code=2)
    out = script.here("digits.py", "--smoke", "--confirm")
    assert f"on the front of {search.name} (there {', '.join(tried)} of 4 trials, here 0" in out
    (confirmation,) = set(script.sweeps()) - set(before)
    assert confirmation.name.startswith("digits-smoke-confirmed-")
    rows = json.loads((confirmation / "comparison.json").read_text())
    assert list(dict.fromkeys(row["treatment"] for row in rows)) == list(tried.values())
    assert {row["metric"] for row in rows} == {"test/recall_gap", "test/accuracy", "test/ece", "test/nll"}
    assert {row["of"] for row in rows} == {len(tried)}
    assert (confirmation / "comparison.png").exists()


def test_another_recipe_is_another_sweep_and_what_is_refused_leaves_no_trace(smoke, shared_script):
    sweeps, (_, runs) = shared_script.sweeps(), shared_script.runs("digits-smoke")
    said = shared_script.here("digits.py", "--smoke", "--resume", "--recipe", "epochs=2", code=2)
    assert "whose recipe (epochs was 1, is 2) differed" in said
    assert shared_script.sweeps() == sweeps
    assert len(shared_script.runs("digits-smoke")[1]) == len(runs)


def test_the_entropy_weight_is_judged_by_the_log_likelihood_unless_asked_otherwise():
    of_script = runpy.run_path(str(ROOT / "sweeps" / "entropy_weight.py"))
    for flags, objective in (([], "nll"), (["--objective", "ece"], "ece")):
        sweep = of_script["sweep"](objective=of_script["flags"].parse_args(flags).objective)
        assert sweep.name == f"entropy_weight-digits-{objective}"
        assert sweep.objectives == {f"final/{objective}": "min"}
        assert sweep.objectives.keys() <= always_measured()
        assert sweep.tolerances == ({"final/accuracy": 0.005} if objective == "ece" else {})
