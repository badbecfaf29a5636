"""The main job, as a newcomer does it: a real cluster, a real study, a real tracking database."""

import json
import signal
from collections import Counter

import pytest

SMALL = ("digits.py", "--trials", "6", "--recipe", "members=3", "scoring_members=3", "epochs=6")


@pytest.fixture(scope="module")
def smoke(shared_script):
    """The output of ``digits.py --smoke``, run twice."""
    return shared_script.run("digits.py", "--smoke"), shared_script.run("digits.py", "--smoke")


def test_the_front_is_printed_with_the_control_the_figure_and_the_command_for_mlflow(smoke, shared_script):
    out, _ = smoke
    assert "Pareto front of digits-smoke" in out
    assert "changes nothing" in out
    figure = shared_script.sweeps()[0] / "pareto.png"
    assert str(figure) in out
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert f"mlflow ui --workers 1 --backend-store-uri sqlite:///{shared_script.storage}/mlflow.db" in out


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


def test_ctrl_c_keeps_what_is_finished_and_resume_goes_on(script, assert_whole):
    process = script.start(*SMALL)
    script.wait_for_records(1, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert "--resume" in out + err
    _, runs = script.runs("digits")
    assert "RUNNING" not in {run.info.status for run in runs}

    assert "reusing 3 of 3" in script.run(*SMALL, "--resume")
    assert_whole(script, 6)


def test_a_killed_driver_loses_nothing_and_a_resumed_sweep_can_be_extended(script, assert_whole):
    for strike in (1, 3):
        process = script.start(*SMALL, *([] if strike == 1 else ["--resume"]))
        script.wait_for_records(strike, process)
        script.kill(process)
    script.run(*SMALL, "--resume")
    assert_whole(script, 6)
    script.run(*SMALL, "--resume", "--trials", "7")
    assert_whole(script, 7)


def test_two_drivers_cannot_share_a_sweep(script):
    process = script.start(*SMALL)
    script.wait_for_records(1, process)
    process.send_signal(signal.SIGSTOP)  # it holds its lock for as long as this takes
    try:
        assert "is running in another process" in script.run(*SMALL, "--resume", code=2)
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def test_another_recipe_is_another_sweep(script):
    script.run("digits.py", "--smoke")
    said = script.run("digits.py", "--smoke", "--resume", "--recipe", "epochs=2", code=2)
    assert "whose recipe differed" in said


@pytest.mark.parametrize("objective", ["nll", "ece"])
def test_the_entropy_weight_alone_can_be_searched(script, objective):
    out = script.run("entropy_weight.py", "--smoke", "--objective", objective)
    assert f"Best of entropy_weight-digits-{objective}-smoke" in out
