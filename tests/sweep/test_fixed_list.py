"""A list of treatments on the same engine: each once, in order, compared in the end."""

import dataclasses
import json
import pickle
from collections import Counter

import optuna
import pytest
import ray
from mlflow import MlflowClient

from hardtune import Recipe, Treatment
from hardtune.errors import InputError
from hardtune.sweep import Comparison, Sweep, engine, main, parser
from hardtune.sweep.search import FINISHED, StudySearch
from hardtune.sweep.space import corners, numbered, proposer

TREATMENTS = (Treatment(loss="focal"), Treatment(alpha=1.0), Treatment(entropy_weight=0.3))


def sweep(**changes):
    return Sweep(**{"name": "list", "data": "digits", "recipe": Recipe(), "space": TREATMENTS, **changes})


def search(tmp_path, **options):
    return StudySearch(
        pickle.loads(pickle.dumps(proposer(TREATMENTS))),  # as Tune does
        {"final/accuracy": "max"},
        study_name="list",
        storage=optuna.storages.RDBStorage(f"sqlite:///{tmp_path}/study.db"),
        seed=0,
        **options,
    )


def handed_out(searcher, trial):
    return numbered(searcher.suggest(trial))


def test_a_list_is_tried_whole_and_compared_with_the_control():
    assert sweep().trials == len(TREATMENTS)
    assert list(sweep().compared) == [Comparison(TREATMENTS)]
    assert sweep(trials=99).trials == len(TREATMENTS)
    more = dataclasses.replace(sweep(), space=(*TREATMENTS, Treatment(loss="focal", alpha=0.1)))
    assert list(more.compared) == [Comparison(more.treatments)], "what nobody asked for is not kept of another list"
    asked = Comparison(TREATMENTS[:1])
    assert list(sweep(comparisons=[asked]).compared) == [asked]
    assert corners(TREATMENTS) == [treatment.canonical() for treatment in TREATMENTS]


def test_treatments_are_handed_out_once_each_in_order(tmp_path):
    searcher = search(tmp_path)
    assert [handed_out(searcher, name) for name in "abc"] == list(enumerate(TREATMENTS))


def test_after_a_kill_the_unfinished_come_first_and_each_keeps_its_number(tmp_path):
    killed = search(tmp_path)
    for name in "ab":
        killed.suggest(name)
    killed.on_trial_complete("b", {FINISHED: True, "final/accuracy": 0.5})
    resumed = search(tmp_path, adopt=True)
    assert [handed_out(resumed, name) for name in "xy"] == [(0, TREATMENTS[0]), (2, TREATMENTS[2])]


def test_an_empty_list_is_refused():
    with pytest.raises(InputError, match="the list of treatments is empty"):
        sweep(space=())


def test_a_smoke_run_tries_every_treatment_and_still_compares_them():
    small = sweep(corruptions=["fog"]).smoke()
    assert small.trials == len(TREATMENTS)
    assert small.treatments[1] == Treatment(alpha=1.0, policy="shift"), "networks of one epoch have no paper's ratio"
    assert small.compared[0].treatments == tuple(small.treatments)
    assert list(small.severities) == [5], "one severity shows as much as five"


@pytest.fixture(scope="module")
def smoke(shared_script):
    return shared_script.here("reliability.py", "--smoke")


def test_reliability_compares_the_method_with_rivals_and_controls(smoke, shared_script):
    (folder,) = shared_script.sweeps()
    rows = json.loads((folder / "comparison.json").read_text())
    against = Counter((row["reference"], row["metric"]) for row in rows)
    assert set(against.values()) == {8, 2}
    metrics = {metric for _, metric in against}
    assert {"test/accuracy", "test/ece", "test/ece_scaled", "ood/msp_auroc", "corruptions/ece"} <= metrics
    methods = {row["treatment"] for row in rows if row["reference"] == "control"}
    assert {"λ=0.3 rmd", "λ=0.3 shuffled", "λ=0.3 mean", "λ=0.3 constant", "label_smoothing", "crl"} <= methods
    assert "Against control: difference × 100 ± 95 % interval, paired over 2 members" in smoke
    assert "Against λ=0.3 rmd" in smoke
    assert all(row["images_share"] is not None for row in rows)
    assert "over test images, on one split" in " ".join(smoke.split())
    assert str(folder / "comparison.png") in smoke


def test_mlflow_has_the_comparison_on_the_parent_and_every_trials_diagnostics(smoke, shared_script):
    client, runs = shared_script.runs("reliability-digits-smoke")
    assert isinstance(client, MlflowClient)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.params["ood"] == "inverted"
    assert parent.data.tags["mlflow.note.content"].startswith(
        "**Pareto front of reliability-digits-smoke: 8 trials**\n"
    )
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {"comparison.json", "comparison.png", "pareto.json", "classes.png"} <= names
    children = [run for run in runs if run is not parent]
    assert len(children) == 9
    (control,) = [run for run in children if run.data.tags["control"] == "true"]
    assert control.data.tags["mlflow.note.content"] == "changes nothing, for comparison"
    assert {run.data.tags["hardtune.chart"] for run in children} == {"true"}, "a list is compared whole"
    for child in children:
        names = {artifact.path for artifact in client.list_artifacts(child.info.run_id)}
        assert names == {"per_class.json", "corruptions.json", "diagnostics.png"}
        assert {"ood/mahalanobis_auroc", "ood_std/msp_fpr95", "corruptions/ece"} <= child.data.metrics.keys()
        assert ("weights/q50" in child.data.metrics) == (child.data.params["entropy_weight"] != "0.0")
        assert len(child.data.metrics) < 250


def test_a_finished_list_resumes_to_the_same_comparison_without_training_and_is_held_until_all_is_in_mlflow(
    smoke, shared_script, monkeypatch
):
    (folder,) = shared_script.sweeps()
    before, networks = (folder / "comparison.json").read_text(), stored(shared_script)
    conclude, refused = engine._conclude, []

    def concluding(sweep, ledger, *rest):
        assert not ray.is_initialized(), "its nodes are free by then"
        try:
            with ledger.held():
                pass
        except InputError as error:
            refused.append(str(error))
        return conclude(sweep, ledger, *rest)

    monkeypatch.setattr(engine, "_conclude", concluding)
    shared_script.here("reliability.py", "--smoke", "--resume")
    assert shared_script.sweeps() == [folder]
    assert (folder / "comparison.json").read_text() == before
    assert stored(shared_script) == networks
    assert len(refused) == 1, "a second driver would change what the first tells MLflow"


def stored(script):
    """Each of the store's networks, and when it was written."""
    found = {path: path.stat().st_mtime_ns for path in (script.storage / "store" / "member").iterdir()}
    assert found
    return found


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--trials", "3"], "--trials is for searches, and this sweep tries a list of 3 treatments"),
        (["--ood", "svhn"], "unknown out-of-distribution set 'svhn': choose from"),
        (["--ood", "digits"], "'digits' cannot be out of distribution for itself"),
        (["--corruptions", "smog"], "unknown corruption 'smog': choose from all, brightness"),
        (["--severities", "0"], "severity must be a whole number from 1 to 5, got 0"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(capsys, tmp_path, flags, sentence):
    recipe = Recipe(model="small_cnn", encoder="pixels")
    comparison = Comparison(TREATMENTS, metrics=("test/ece",))
    flags = ["--storage", str(tmp_path), "--corruptions", "fog", *flags]
    with pytest.raises(SystemExit) as stop:
        main(sweep(recipe=recipe, comparisons=[comparison]), parser("").parse_args(flags))
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


@pytest.mark.parametrize(
    ("metric", "flags"), [("ood/msp_auroc", []), ("test/ece_scaled", ["--recipe", "validation=test"])]
)
def test_a_comparison_of_what_is_not_measured_is_refused(capsys, tmp_path, metric, flags):
    unmeasured = Comparison(TREATMENTS, metrics=(metric,))
    with pytest.raises(SystemExit):
        main(sweep(comparisons=[unmeasured]), parser("").parse_args(["--storage", str(tmp_path / "results"), *flags]))
    assert f"error: '{metric}' is compared, but the sweep does not measure it" in capsys.readouterr().err


def test_resampling_compares_the_method_with_its_parts_and_with_the_wrong_way_round(script):
    script.here("resampling.py", "--smoke", "--imbalance", "10", "--label-noise", "0.1")
    (folder,) = script.sweeps()
    assert folder.name.startswith("resampling-digits-imbalance-10-label-noise-0.1-smoke-")
    sizes = json.loads((folder / "trials" / "control.json").read_text())["per_class"]
    assert sizes["0"]["size"] > 2 * sizes["9"]["size"]
    rows = json.loads((folder / "comparison.json").read_text())
    tried = Counter(row["treatment"] for row in rows if row["metric"] == "test/recall_gap")
    assert len(tried) == 13, "none failed, and a smoke run leaves them apart"
    assert tried["aum α=1 reversed easiest/random"] == 2, "against the control, and against the method"
    assert tried["class_dro"] == 2, "against the control, and against resampling"
    assert {row["members"] for row in rows} == {2}
