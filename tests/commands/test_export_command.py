"""``python -m hardtune export``, as one would type it."""

import csv
import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hardtune import Store, Treatment, answers, load
from hardtune.commands.subject import load_sweep
from hardtune.member import entries, identity, plan_for, train_member, train_network, weights_for
from hardtune.needs import Needs, needs_of
from hardtune.registry import Registry
from hardtune.report import records
from hardtune.report.export import predictions_of, write_about, write_training_set
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import find
from hardtune.scoring import gather
from hardtune.scoring_member import finding_identities
from hardtune.sweep.ledger import open_ledger
from hardtune.sweep.trainable import TrialContext, carry_out
from hardtune.training.choices import resolved
from hardtune.training.models import MODELS

TREATED = Treatment(
    estimator="rmd", alpha=1.0, policy="shift", undersample="random", oversample="smote", entropy_weight=0.2
)
POSTHOC = Treatment(estimator="rmd", alpha=1.0, policy="shift", undersample="posthoc", oversample="posthoc")
STOPPED = Treatment(alpha=0.5, policy="shift")
FAILED = Treatment(alpha=5.0, policy="shift", prune="class", prune_rate=0.1, oversample="holdout")


@pytest.fixture(scope="module")
def swept(tmp_path_factory, script, storage):
    """A storage with a sweep of two networks a trial: a control, a trial, one that was stopped and one that failed. Its
    id, what its trials shared, and its recipe."""
    folder = tmp_path_factory.mktemp("swept")
    shutil.copytree(storage / "store", folder / "store")
    store = Store(folder / "store")
    sweep = load_sweep(script)
    recipe = dataclasses.replace(sweep.recipe, members=2)
    sweep = dataclasses.replace(sweep, recipe=recipe, objectives={"final/worst_recall": "max", "final/ece": "min"})
    data = load("digits")
    few = data.subset(classes=10, train=12, test=6, seed=0).hold_out(0.3, 0)
    open_ledger(dataclasses.replace(sweep, name="few"), few, folder, resume=False)
    split = data.hold_out(0.3, 0)
    ledger = open_ledger(dataclasses.replace(sweep, cpus_per_trial=2), split, folder, resume=False)
    recipe = ledger.resolved(lambda: resolved(sweep.recipe, "cpu"), "cpu")
    prepared = gather(split, recipe, needs_of([TREATED, STOPPED]), store, device="cpu")
    for number, treatment in ((CONTROL, Treatment()), (0, TREATED), (3, POSTHOC)):
        record = carry_out(number, treatment, TrialContext(prepared, recipe, store.root, "cpu", cpus=1, at_once=1))
        records.write(ledger.trials, record)
    records.write(ledger.trials, Record(1, STOPPED, "stopped"))
    records.write(ledger.trials, Record(2, FAILED, "failed", reason="it cannot be done"))
    for path in (folder / "sweeps").glob("few-*"):
        shutil.copytree(ledger.trials, path / "trials")
    return folder, ledger.id, prepared, recipe


@pytest.fixture
def export(command, script, swept):
    def run(*arguments, code=0):
        out, err, got = command("export", script, "--storage", swept[0], *arguments)
        assert got == code, err
        assert (err.strip() == "") == (code == 0)
        return out if code == 0 else err

    return run


def table(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("trial", "treatment"), [("control", Treatment()), (0, TREATED), (3, POSTHOC)])
def test_a_trials_networks_come_home_as_the_sweep_had_them(export, swept, monkeypatch, trial, treatment):
    storage, sweep, prepared, recipe = swept
    threads = []
    monkeypatch.setattr("hardtune.training.worker.configure_process", threads.append)
    out = export("--trial", trial, "--members", 2, "--recipe", "epochs=2")
    assert threads == [2], "as many as the sweep's trials had, whatever the script says now"
    assert f"{treatment}" in out
    assert len(re.findall(r"member \d: equal to the sweep's own network", out)) == 2
    folder = storage / "exports" / f"{sweep}-{'control' if trial == 'control' else f'trial-{trial}'}"
    assert str(folder) in out
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "who may read one may read all"
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "model.json", "training-set.csv", "predictions.npz"),
        *("member-0.safetensors", "member-1.safetensors"),
    }
    about = json.loads((folder / "model.json").read_text())
    assert (about["sweep"], about["trial"], about["state"]) == (sweep, trial, "finished")
    assert Treatment(**about["treatment"]) == treatment
    assert about["recipe"]["precision"] in ("float32", "bfloat16"), "as it was settled"
    assert all(
        tensor.dtype in (torch.float32, torch.int64) for tensor in load_file(folder / "member-0.safetensors").values()
    )

    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[-1]
    monkeypatch.chdir(folder)
    test = prepared.split.test
    for member in range(2):
        own = answers.find(Store(storage / "store"), entries(prepared, recipe, treatment, member, "cpu"))
        names = {"images": torch.from_numpy(test.images).permute(0, 3, 1, 2)}
        exec(code.replace('["members"][0]', f'["members"][{member}]'), names)
        posthoc = np.float32(about["members"][member]["posthoc"])
        assert posthoc.any() == (treatment == POSTHOC)
        np.testing.assert_allclose(names["logits"], own.test + posthoc, atol=1e-4)
        accuracy = np.mean(np.array(names["names"]) == np.array(about["classes"])[test.labels])
        assert about["members"][member]["accuracy"]["test"] == pytest.approx(accuracy)
    mean = np.mean([member["accuracy"]["held_out"] for member in about["members"]])
    assert about["figures"]["final/accuracy"] == pytest.approx(mean)
    text = (folder / "README.md").read_text()
    assert f"{mean:.4f}" in text
    assert "networks | worst recall ↑ | ECE ↓ | accuracy ↑ | recall gap ↓ |" in text, "the sweep's objectives first"


def test_predictions_come_home_without_training_and_lead_to_the_sweeps_figures(export, swept, tmp_path, monkeypatch):
    storage, sweep, prepared, _ = swept
    monkeypatch.setattr("hardtune.member.fit", None)
    out = export("--trial", 0, "--members", 0, "--out", tmp_path)
    assert "predictions.npz: those of 2 of its 2 networks" in out
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "model.json", "predictions.npz"}
    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(code, names := {})
    (record,) = (one for one in find(storage, sweep).records if one.number == 0)
    recalls = {name: figures["test_recall"] for name, figures in record.per_class.items()}
    assert names["recalls"] == pytest.approx(recalls)
    kept, data, split = names["kept"], load("digits"), prepared.split
    assert kept["members"].tolist() == [0, 1]
    assert kept["classes"].tolist() == list(data.classes)
    np.testing.assert_array_equal(kept["test_labels"], data.test.labels)
    np.testing.assert_array_equal(data.train.images[kept["held_out_rows"]], split.held_out.images)
    np.testing.assert_array_equal(kept["held_out_labels"], split.held_out.labels)
    for part in ("test", "held_out"):
        assert kept[f"{part}_logits"].dtype == np.float32
        right = kept[f"{part}_logits"].argmax(2) == kept[f"{part}_labels"]
        figure = record.members[{"test": "test", "held_out": "final"}[part] + "/accuracy"]
        assert right.mean(1) == pytest.approx(figure)


def test_predictions_name_their_files_and_have_no_held_out_part_if_choices_were_made_on_the_test_split():
    data = load("digits")
    split, files = data.hold_out(0.3, 0), ([f"{n}.png" for n in range(len(data.train))], ["t.png"] * len(data.test))
    own = answers.Answers(np.zeros((len(split.held_out), 10), np.float32), np.ones((len(data.test), 10), np.float32))
    arrays = predictions_of(split, {1: own, 4: own}, *files)
    assert arrays["members"].tolist() == [1, 4]
    assert arrays["test_files"].tolist() == files[1]
    assert arrays["held_out_files"].tolist() == [f"{row}.png" for row in arrays["held_out_rows"]]
    assert arrays["held_out_logits"].shape == (2, len(split.held_out), 10)
    chosen = predictions_of(data.hold_out("test", 0), {0: own}, *files)
    assert set(chosen) == {"members", "classes", "test_logits", "test_labels", "test_files"}


def test_the_training_set_is_told_sample_by_sample(export, swept, tmp_path):
    _, _, prepared, recipe = swept
    out = tmp_path / "deep" / "home"
    export("--trial", 0, "--members", 2, "--out", out)
    rows, data, kept = table(out / "training-set.csv"), load("digits"), prepared.split.kept
    assert [int(row["row"]) for row in rows] == list(range(len(data.train)))
    assert [row["class"] for row in rows] == [data.classes[label] for label in data.train.labels]
    assert [n for n, row in enumerate(rows) if row["part"] == "training"] == kept.tolist()
    held_out = [row for row in rows if row["part"] == "held-out"]
    assert len(held_out) == len(data.train) - len(kept)
    assert {(row["copies_0"], row["synthesised_1"], row["entropy_weight_0"]) for row in held_out} == {("0", "0", "")}
    training = [rows[n] for n in kept]
    assert {row["weight"] for row in training} == {"1.0"}
    for member in range(2):
        plan = plan_for(prepared, recipe, TREATED, member)
        copies = np.array([int(row[f"copies_{member}"]) for row in training])
        np.testing.assert_array_equal(copies, np.bincount(plan.indices, minlength=len(kept)))
        made = np.array([int(row[f"synthesised_{member}"]) for row in training])
        assert copies.sum() + made.sum() == len(plan)
        assert made.sum() == len(plan.labels) > 0
        weights = np.array([float(row[f"entropy_weight_{member}"]) for row in training], np.float32)
        np.testing.assert_array_equal(weights, weights_for(prepared, recipe, TREATED, member, plan))


def test_files_are_named_and_no_entropy_term_has_no_weights(swept, tmp_path):
    _, _, prepared, recipe = swept
    files = [f"{n}.png" for n in range(len(load("digits").train))]
    files[0] = "caf\udce9.png"  # a name that is not UTF-8, as Python reads it
    write_training_set(prepared, recipe, Treatment(), 1, files, tmp_path / "it.csv")
    rows = table(tmp_path / "it.csv")
    assert [row["file"] for row in rows] == files
    assert {(row["part"], row["copies_0"]) for row in rows} == {("training", "1"), ("held-out", "0")}
    assert {row["entropy_weight_0"] for row in rows} == {""}


def test_how_long_networks_trained_is_told_where_treatments_differ_in_it(swept, tmp_path):
    storage, sweep, prepared, recipe = swept
    half = Record(0, Treatment(prune="random", prune_rate=0.5), "stopped")
    control = math.ceil(len(prepared.split.train) / recipe.batch_size)
    halved = math.ceil(len(plan_for(prepared, recipe, half.treatment, 0)) / recipe.batch_size)
    for budget, times in (("epochs", 1), ("steps", control / halved)):
        of_it = dataclasses.replace(recipe, budget=budget)
        write_about(tmp_path, find(storage, sweep), half, prepared, of_it, predictions={}, members=[])
        about = json.loads((tmp_path / "model.json").read_text())
        assert (about["epochs"], about["recipe"]["epochs"]) == (times * recipe.epochs, recipe.epochs)


def test_what_a_reweighted_samples_loss_counts_is_told(swept, tmp_path):
    _, _, prepared, recipe = swept
    treatment = Treatment(alpha=1.0, policy="shift", undersample="reweight", oversample="reweight")
    write_training_set(prepared, recipe, treatment, 2, None, tmp_path / "it.csv")
    training = [row for row in table(tmp_path / "it.csv") if row["part"] == "training"]
    assert {row["copies_1"] for row in training} == {"1"}
    weight = {row.name: row.weight for row in plan_for(prepared, recipe, treatment, 0).classes}
    assert min(weight.values()) < 1 < max(weight.values())
    assert [float(row["weight"]) for row in training] == pytest.approx([weight[row["class"]] for row in training])


def test_a_network_is_held_against_the_sweeps_own_where_there_are_answers_of_it(export, swept, tmp_path):
    storage, _, prepared, recipe = swept
    out = export("--trial", 1, "--out", tmp_path)
    assert "no predictions.npz: the store has no predictions of its networks" in out
    assert not (tmp_path / "predictions.npz").exists()
    assert "not compared with the sweep's own network, since the store has no predictions of it" in out
    assert "no figures of it: the trial stopped" in (tmp_path / "README.md").read_text()
    store, key = Store(storage / "store"), identity(prepared, recipe, STOPPED, 0, "cpu")
    own = train_member(prepared, recipe, STOPPED, 0, device="cpu")
    count = len(own.held_out) + len(own.test)
    rounded = own.test.copy()
    rounded[0, np.argsort(rounded[0])[0]] = rounded[0].max() + 0.5  # one prediction is another
    store.put(key, {"held_out": own.held_out, "test": rounded})
    out = export("--trial", 1, "--out", tmp_path)
    assert f"not equal: 1 of its {count} predictions differ, and its logits by up to" in out
    assert "as rounding differs" in out
    store.put(key, {"held_out": -own.held_out, "test": -own.test})
    out = export("--trial", 1, "--out", tmp_path)
    assert f"NOT the sweep's own network: {count} of its {count} predictions differ, more than rounding explains" in out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there the sweep's own kind of device is taken")
def test_a_sweep_on_gpus_comes_home_to_a_cpu_by_the_scores_that_it_had(command, script, swept, tmp_path):
    storage, _, prepared, recipe = swept
    shutil.copytree(storage / "sweeps", tmp_path / "sweeps")
    store, on_gpus, split = Store(storage / "store"), Store(tmp_path / "store"), prepared.split

    def copy(*keys):
        on_gpus.put(keys[1], store.get(keys[0]))

    for member in range(recipe.scoring_members):
        copy(*(finding_identities(split, recipe, Needs(), member, on)["dynamics"] for on in ("cpu", "cuda")))
        copy(*(identity(prepared, recipe, Treatment(), member, on) for on in ("cpu", "cuda")))
        # A later sweep on a CPU, whose control is in the same store, does not make this one a CPU's.
        on_gpus.put(*(lambda key: (key, store.get(key)))(identity(prepared, recipe, Treatment(), member, "cpu")))
    for settled in (tmp_path / "sweeps").glob("*/settled.json"):
        settled.write_text(json.dumps({**json.loads(settled.read_text()), "device": "cuda"}))
    out, _, code = command("export", script, "--trial", 1, "--storage", tmp_path)
    assert code == 0
    assert "the sweep trained on cuda, and this is cpu" in out
    (folder,) = (tmp_path / "exports").iterdir()
    rows, plan = table(folder / "training-set.csv"), plan_for(prepared, recipe, STOPPED, 0)
    assert sum(int(row["copies_0"]) for row in rows) == len(plan.indices)
    kept = split.kept[plan.indices]
    assert [int(row["copies_0"]) for row in rows] == np.bincount(kept, minlength=len(rows)).tolist()
    out, err, code = command("export", script, "--trial", 1, "--storage", tmp_path, "--device", "cuda")
    assert (out, code) == ("", 2)
    assert "torch sees no GPU here" in err


def test_predictions_that_the_store_lost_since_stay(command, script, swept, tmp_path):
    storage, folder = tmp_path / "storage", tmp_path / "out"
    shutil.copytree(swept[0], storage)
    flags = ["--trial", "control", "--storage", storage, "--out", folder]
    command("export", script, *flags, "--members", 0)
    before = (folder / "predictions.npz").read_bytes()
    command("store", "prune", "--older-than", 0, "--storage", storage)
    out, _, code = command("export", script, *flags, "--members", 1)
    assert code == 0
    assert "predictions.npz: those of 2 of its 2 networks, as the sweep stored them" in out
    assert (folder / "predictions.npz").read_bytes() == before
    assert "the logits of 2 of its 2 networks" in (folder / "README.md").read_text()


def test_a_folder_is_of_one_trial_and_of_the_networks_that_were_asked_for_last(export, tmp_path):
    export("--trial", "control", "--members", 2, "--out", tmp_path)
    export("--trial", "control", "--out", tmp_path)
    assert [path.name for path in tmp_path.glob("member-*")] == ["member-0.safetensors"]
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    export("--trial", "control", "--members", 0, "--out", tmp_path)  # predictions alone: networks stay, and are told
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there
    said = export("--trial", 1, "--out", tmp_path, code=2)
    assert said == f"error: there are other files in {tmp_path}: name a new folder with --out\n"


def test_networks_that_are_there_stay_until_another_is_in_their_place(command, script, swept, tmp_path, monkeypatch):
    flags = ["--trial", "control", "--storage", swept[0], "--out", tmp_path]
    command("export", script, *flags, "--members", 2)
    there = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stopped(*_, **__):
        raise KeyboardInterrupt

    training = iter([train_network, stopped, stopped])
    monkeypatch.setattr("hardtune.member.train_network", lambda *given, **more: next(training)(*given, **more))
    for members in (2, 1):  # stopped in its second network, which the first equals, and in its first
        assert command("export", script, *flags, "--members", members)[2] == 130
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == there


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "name the trial of small-.* with --trial: choose from control, 0, 1, 2, 3"),
        (["--trial", "7"], "small-.* has no trial '7' that has ended: choose from control, 0, 1, 2, 3"),
        (["--trial", "0", "--sweep", "cats"], "there is no sweep 'cats' in .*: choose from few-"),
        (["--trial", "0", "--sweep", "few"], "few-.* used other data than digits is here: give the --data"),
        (["--trial", "0", "--members", "3"], "--members must be from 0 to 2, which the sweep's ensembles had, got 3"),
        (["--trial", "0", "--recipe", "epochs=3"], "small-.* had epochs=2, and its networks are trained as they were"),
        (["--trial", "0", "--out", "/proc/nowhere"], "cannot write to /proc/nowhere"),
        (["--trial", "2"], "class '.' .* from the holdout"),
    ],
)
def test_what_cannot_be_taken_home_is_said_in_a_sentence(export, flags, says):
    said = export(*flags, code=2)
    assert said.count("\n") == 1
    assert re.match(f"error: {says}", said), said


def test_networks_by_code_that_has_changed_are_not_taken_for_the_sweeps(export, monkeypatch):
    monkeypatch.setattr(Registry, "code", lambda self, name: {"model mine": "now"} if self is MODELS else {})
    assert "your model mine is not what it was when small-" in export("--trial", "control", code=2)


def test_scores_that_are_gone_are_said_with_how_to_make_them_and_nothing_is_written(command, script, swept, tmp_path):
    shutil.copytree(swept[0] / "sweeps", tmp_path / "sweeps")
    out, err, code = command("export", script, "--trial", 1, "--storage", tmp_path)
    assert (out, code) == ("", 2)
    assert err.count("\n") == 1
    assert "lacks 4 of the scoring ensemble's 4 members" in err
    assert "--score" in err
    assert "had --recipe" not in err, "it has the sweep's own, in which nothing is left to the device"
    assert {path.name for path in tmp_path.iterdir()} == {"sweeps"}
    out, _, code = command("export", script, "--trial", 1, "--storage", tmp_path, "--score")
    assert code == 0
    assert "the store has no predictions of it" in out


@pytest.mark.parametrize("trial", ["control", 0])
def test_a_storage_that_came_home_without_its_store_is_said_to_lack_it(command, script, swept, tmp_path, trial):
    shutil.copytree(swept[0] / "sweeps", tmp_path / "sweeps")
    out, err, code = command("export", script, "--trial", trial, "--members", 0, "--storage", tmp_path)
    assert (out, code) == ("", 2)
    assert f"error: {tmp_path} has no store/, where a sweep keeps its networks' predictions: copy that, too" in err
    assert {path.name for path in tmp_path.iterdir()} == {"sweeps"}
