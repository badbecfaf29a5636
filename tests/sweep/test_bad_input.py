"""What is wrong with a sweep is said in one sentence on stderr, with exit code 2, before anything is trained."""

import dataclasses
import re
import socket
import threading
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from ray import tune
from torch import nn

from hardtune import Recipe, Treatment
from hardtune.errors import InputError
from hardtune.evaluation import METRICS, class_recall, metric
from hardtune.hardness.estimators import ESTIMATORS, Estimator
from hardtune.sweep import Comparison, Sweep, main, parser
from hardtune.sweep.databases import OWNER, study_database
from hardtune.sweep.space import corners
from hardtune.training.losses import LOSSES
from hardtune.training.models import MODELS

RECIPE = Recipe(
    model="small_cnn", epochs=1, members=1, scoring_members=1, encoder="pixels", validation=0.25, crop_padding=1
)
SPACE = {"alpha": tune.uniform(0, 1), "policy": "shift"}


def said(capsys, tmp_path, *, recipe=None, space=None, flags=(), **changes):
    """The one line that a sweep with these changes says before it exits with 2."""
    storage = [] if "--storage" in flags else ["--storage", str(tmp_path / "results")]
    try:
        fields = {"name": "bad", "data": "digits", "recipe": dataclasses.replace(RECIPE, **(recipe or {}))}
        sweep = Sweep(**{**fields, "space": {**SPACE, **(space or {})}, **changes})
    except InputError as error:  # a script's own mistake is an exception where it is written
        return f"error: {error}"
    with pytest.raises(SystemExit) as stop:
        main(sweep, parser("").parse_args([*storage, *flags]))
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1, "one sentence is one line"
    assert not list(tmp_path.rglob("*.safetensors")), "nothing may be trained"
    return err


def another(tmp_path):
    """A sweep of the same name and other content, which --resume refuses once the data are read; its id."""
    folder = tmp_path / "results" / "sweeps" / "bad-20260101-000000"
    folder.mkdir(parents=True)
    (folder / "sweep.json").write_text("{}")
    return folder.name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"space": {"estimator": "aumm"}}, "unknown estimator 'aumm': choose from aum, "),
        ({"space": {"estimator": tune.choice(["aum", "el3n"])}}, "unknown estimator 'el3n'"),
        ({"space": {"oversample": "smoote"}}, "unknown oversampling 'smoote': choose from .*smote"),
        ({"space": {"undersample": "hardest"}}, "unknown undersampling 'hardest': choose from adjust, easiest"),
        ({"space": {"policy": "papper"}}, "unknown policy 'papper': choose from margin, paper, reversed, shift"),
        (
            {"space": {"prune": "all", "prune_rate": 0.1}},
            "unknown pruning 'all': choose from class, dataset, hardest, none, quotas, random",
        ),
        ({"space": {"loss": "mse"}}, "unknown loss 'mse': choose from .*cross_entropy"),
        ({"space": {"entropy_weight": 0.1, "entropy_scale": "log"}}, "unknown entropy scale 'log': choose from clip"),
        ({"space": {"entropy_weight": 0.1, "entropy_target": "all"}}, "unknown entropy target 'all': choose from con"),
        (
            {"space": {"entropy_weight": tune.uniform(0.0, 0.1), "estimator": "luck"}},
            "unknown estimator 'luck': choose from aum",
        ),
        ({"space": {"alhpa": 1}}, "unknown field of a treatment 'alhpa': choose from alpha, "),
        ({"space": {"alpha": tune.uniform(-1, 1)}}, "alpha must be a finite number of at least 0, got -1"),
        ({"space": {"alpha": tune.choice(["one"])}}, "alpha must be a number, got 'one'"),
        ({"space": {"entropy_weight": tune.uniform(-0.1, 0)}}, "entropy_weight must be a finite number of at least 0"),
        ({"space": {"prune": "class", "prune_rate": tune.choice([0.5, 1])}}, "prune_rate must be below 1"),
        ({"space": {"temperature": 0}}, "temperature must be above 0"),
        ({"space": {"alpha": tune.grid_search([1, 2])}}, "alpha is a grid_search, which Optuna cannot propose"),
        ({"space": {"alpha": 1}}, "the space has nothing to search"),
        ({"space": {"oversample": tune.choice(["pool_hard", "random"])}}, "needs a pool of synthetic images"),
        ({"space": {"oversample": "holdout"}}, "class '0' .*prun"),
        ({"recipe": {"model": "resnet19"}}, "unknown model 'resnet19': choose from resnet18, small_cnn"),
        ({"objectives": {"accuracy": "max"}}, "unknown metric 'accuracy': choose from .*final/accuracy"),
        ({"objectives": {"test/accuracy": "max"}}, "the search must not see the test split"),
        (
            {"objectives": {"final/ece": "down"}},
            "the direction of objective 'final/ece' must be min or max, got 'down'",
        ),
        ({"objectives": {"final/ece": "max"}}, "objective 'final/ece' is 'max', but 'min' is better"),
        ({"objectives": {"ensemble/accuracy": "min"}}, "objective 'ensemble/accuracy' is 'min', but 'max' is better"),
        (
            {"objectives": {"final_std/accuracy": "min"}, "recipe": {"members": 1}},
            "'final_std/accuracy' is 0 for every trial of 1 network: it needs recipe.members to be at least 2",
        ),
        ({"objectives": {}}, "a sweep needs at least one objective"),
        ({"no_worse_than_control": ("test/ece",)}, "the search must not see the test split"),
        ({"trials": 0}, "trials must be a whole number of at least 1, got 0"),
        ({"data": "mnist3d"}, "unknown data set 'mnist3d': choose from cifar10, .*or give the path of a folder"),
        ({"flags": ["--data", ""]}, "unknown data set '': choose from cifar10, .*or give the path of a folder"),
        ({"flags": ["--recipe", "epoch=3"]}, "unknown field of the recipe 'epoch': choose from epochs, batch_size, "),
        ({"flags": ["--recipe", "epochs=three"]}, "epochs must be a whole number, got 'three'"),
        ({"flags": ["--recipe", "epochs"]}, "--recipe takes name=value pairs, got 'epochs'"),
        ({"flags": ["--recipe", "epochs=0"]}, "epochs must be a whole number of at least 1"),
        (
            {"flags": ["--recipe", "validation=1.5"]},
            "validation must be between 0 and 1, 'val', or 'test' to hold none out, got 1.5",
        ),
        ({"flags": ["--recipe", "schedule=exp"]}, "unknown schedule 'exp': choose from cosine, linear, steps"),
        ({"flags": ["--recipe", "budget=images"]}, "unknown budget 'images': choose from epochs, steps"),
        ({"flags": ["--recipe", "flip=maybe"]}, "flip must be true or false, got 'maybe'"),
        ({"flags": ["--trials", "-3"]}, "trials must be a whole number of at least 1, got -3"),
        ({"flags": ["--members-at-once", "0"]}, "members_at_once must be a whole number of at least 1, got 0"),
        ({"flags": ["--concurrent", "0"]}, "--concurrent must be a whole number of at least 1, got 0"),
        ({"flags": ["--cpus-per-trial", "0"]}, "cpus_per_trial must be a number above 0"),
        ({"flags": ["--gpus-per-trial", "-1"]}, "gpus_per_trial must be a share of a GPU or a whole"),
        (
            {"flags": ["--gpus-per-trial", "1.5"]},
            "gpus_per_trial must be a share of a GPU or a whole number of them, got 1.5",
        ),
        ({"flags": ["--data", "cifar10", "--data-dir", "/no/such/folder"]}, "'/no/such/folder' is not a directory"),
        ({"flags": ["--image-size", "16"]}, "an image size is for folders of images; digits has a size of its own"),
        ({"flags": ["--image-size", "0"]}, "image_size must be a whole number of at least 1, got 0"),
        ({"flags": ["--resume"]}, "there is no sweep named bad to resume"),
        ({"flags": ["--storage", "/proc/results"]}, "cannot write results to /proc/results"),
        ({"flags": ["--storage", ""]}, "the storage has no name: give the path of a folder"),
        (
            {"flags": ["--storage", "s3://bucket/results"]},
            "is a folder, .*not a URL such as s3://bucket/results: mount",
        ),
        (
            {"flags": ["--tracking-uri", "postgresql+psycopg://127.0.0.1:9/mlflow"]},
            "no tracking database answers at postgresql\\+psycopg://127.0.0.1:9/mlflow: ",
        ),
        ({"flags": ["--tracking-uri", "mlruns"]}, "cannot track at 'mlruns': give http"),
        ({"flags": ["--tracking-uri", "sqlite:///mlflow.db"]}, "the tracking database needs an absolute path"),
        ({"flags": ["--tracking-uri", "sqlite:////no/such/mlflow.db"]}, "there is no folder /no/such to keep"),
        ({"flags": ["--recipe", "encoder=ViT-Z-99/openai"], "space": {"entropy_weight": 0.1}}, "ViT-Z-99"),
        ({"flags": ["--recipe", "encoder=ViT-B-32/nobody"], "space": {"entropy_weight": 0.1}}, "nobody.*openai"),
        (
            {"flags": ["--recipe", "encoder=ViT-B-32@/no/weights.pt"], "space": {"entropy_weight": 0.1}},
            "/no/weights.pt",
        ),
        ({"flags": ["--recipe", "encoder=file:/no/f.npy"], "space": {"entropy_weight": 0.1}}, "/no/f.npy"),
        ({"flags": ["--imbalance", "0.5"]}, "imbalance is how many times as large the first class is as the last, got"),
        ({"flags": ["--label-noise", "1"]}, "label_noise is a share of the training samples, from 0 to below 1, got 1"),
        ({"imbalance": "10"}, "imbalance is how many times as large the first class is as the last, got '10'"),
        (
            {"flags": ["--imbalance", "1000"]},
            "classes '6', '7', '8' and 1 more have 1 training sample each, and setting some aside needs at least 2",
        ),
        (
            {"no_worse_than_control": {"final/ece": -1}},
            "how much worse final/ece may be than the control's must be a num",
        ),
        ({"no_worse_than_control": "final/accuracy"}, "no_worse_than_control must be a list, got 'final/accuracy'"),
        ({"corruptions": "fog"}, "corruptions must be a list, got 'fog'"),
        ({"name": None}, "name must be a name or a path, got NoneType"),
        ({"name": Path("it")}, "name must be a name or a path, got PosixPath"),
        ({"data": 3}, "data must be a name or a path, got int"),
        ({"name": "a%20b"}, "any of [?] { } [$], or a code like %20, .* got 'a%20b'"),
        ({"cpus_per_trial": "2"}, "cpus_per_trial must be a number above 0, got '2'"),
        ({"cpus_per_trial": True}, "cpus_per_trial must be a number above 0, got True"),
        ({"gpus_per_trial": True}, "gpus_per_trial must be a share of a GPU or a whole number of them, got True"),
        ({"gpus_per_trial": "x"}, "gpus_per_trial must be a share of a GPU or a whole number of them, got 'x'"),
        ({"comparisons": ["a"]}, "comparisons has Comparisons in it, got 'a'"),
        ({"severities": 3}, "severities must be a list, got 3"),
        ({"flags": ["--severities", "2"]}, "--severities are of corruptions, and none is named: see --corruptions"),
    ],
    ids=lambda value: None if isinstance(value, dict) else re.sub(r"\W+", "-", value)[:40],
)
def test_a_wrong_input_gets_its_sentence(capsys, tmp_path, changes, sentence):
    assert re.search(sentence, said(capsys, tmp_path, **changes))


def test_a_storage_that_is_a_file_is_said_to_be_one(capsys, tmp_path):
    file = tmp_path / "afile"
    file.touch()
    assert f"the storage is a folder, and {file} is a file" in said(capsys, tmp_path, flags=["--storage", str(file)])


def test_a_network_that_has_no_features_to_tell_foreign_images_by_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))

    @MODELS.register("no_linear_layer_at_all")
    def no_linear_layer(channels, classes, size):
        return nn.Sequential(nn.Conv2d(channels, classes, size), nn.Flatten())

    line = said(capsys, tmp_path, recipe={"model": "no_linear_layer_at_all"}, ood="inverted")
    assert "has no linear layer (nn.Linear)" in line
    assert not list(tmp_path.glob("results/sweeps/*"))


def test_a_variable_of_the_environment_that_is_empty_is_as_one_that_is_not_set(monkeypatch):
    variables = (
        "MLFLOW_TRACKING_URI",
        "OPTUNA_STORAGE",
        "RAY_ADDRESS",
        "RAY_API_SERVER_ADDRESS",
        "HARDTUNE_CONCURRENT",
    )
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    unset = parser("").parse_args([])
    for variable in variables:
        monkeypatch.setenv(variable, "")
    assert parser("").parse_args([]) == unset


def test_what_is_no_recipe_no_treatment_and_no_point_is_named_where_it_is_written():
    with pytest.raises(InputError, match=r"recipe must be a Recipe, got .'epochs': 1."):
        Sweep("bad", "digits", {"epochs": 1}, SPACE)
    for space in (None, "alpha", (treatment for treatment in [Treatment(alpha=1)])):
        with pytest.raises(InputError, match="space maps fields of Treatment to search spaces or values, or is a func"):
            Sweep("bad", "digits", RECIPE, space)
    with pytest.raises(InputError, match="a list of treatments has Treatments in it, got 'control'"):
        Sweep("bad", "digits", RECIPE, [Treatment(), "control"])
    with pytest.raises(InputError, match="has none that changes anything"):
        Sweep("bad", "digits", RECIPE, [Treatment(), Treatment(estimator="rmd")])
    with pytest.raises(InputError, match="a comparison's metrics must be a tuple, got 'test/ece'"):
        Comparison((Treatment(),), metrics="test/ece")
    with pytest.raises(InputError, match="returns fields of a treatment, as a dict, or None, and got 3"):
        corners(lambda trial: 3)


class Mean(nn.Module):
    """What torch's own losses do, and a sample's own loss is lost in it."""

    def __init__(self, num_samples, num_classes, device):
        super().__init__()

    def forward(self, logits, labels, ids):
        return nn.functional.cross_entropy(logits, labels)


class LogOfNothing(Mean):
    """The logarithm of a logit, taken for a probability."""

    def forward(self, logits, labels, ids):
        return -logits.log()[torch.arange(len(labels)), labels]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nn.CrossEntropyLoss, "loss 'mine' fails on 128 samples: TypeError: "),
        (LogOfNothing, r"loss 'mine' or its gradient is not finite for logits around 0"),
        (Mean, r"loss 'mine' gives \(\) for 128 samples; it must give \(128,\), a loss for each"),
    ],
)
def test_a_loss_of_ones_own_is_tried(capsys, tmp_path, monkeypatch, make, sentence):
    monkeypatch.setattr(LOSSES, "_entries", {**LOSSES._entries, "mine": make})
    assert re.search(sentence, said(capsys, tmp_path, space={"loss": tune.choice(["cross_entropy", "mine"])}))


def test_an_estimator_of_ones_own_reads_features_or_data(capsys, tmp_path, monkeypatch):
    mine = Estimator("mine", "dynamics", "what the networks do, in a way that nobody measures")
    monkeypatch.setattr(ESTIMATORS, "_entries", {**ESTIMATORS._entries, "mine": mine})
    line = said(capsys, tmp_path, space={"estimator": "mine"})
    assert (
        "nothing computes the scores of estimator 'mine': register a function of features or data by @estimator" in line
    )


def test_a_metric_of_ones_own_is_tried_on_as_many_classes_as_there_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    metric("last", better="max")(lambda predictions: class_recall(predictions)[9])
    former = another(tmp_path)
    fine = said(capsys, tmp_path, objectives={"final/last": "max"}, flags=["--resume"])
    assert f"cannot resume {former}" in fine, "which is compared when all else is right"
    metric("next", better="max")(lambda predictions: class_recall(predictions)[10])
    assert "metric 'next' fails: IndexError: index 10 is out of bounds" in said(capsys, tmp_path)


def raises(channels, classes, size):
    raise RuntimeError("no such layer\nand more")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda c, k, s: nn.Sequential(nn.Flatten(), nn.Linear(c * s * s, k + 1)),
            r"gives (2, 11) for 2 images of 10 ",
        ),
        (lambda c, k, s: nn.Conv2d(c, k, 3), r"gives (2, 10, 6, 6) for 2 images of 10 classes; it must give (2, 10)"),
        (lambda c, k, s: nn.Linear(3, k), "fails on images of 8 x 8 x 1: RuntimeError: mat1 and mat2 shapes"),
        (
            lambda c, k, s: nn.Sequential(nn.Flatten(), nn.LSTM(c * s * s, k)),
            "gives a tuple for 2 images of 10 classes; it must give (2, 10), in one tensor",
        ),
        (raises, "fails on images of 8 x 8 x 1: RuntimeError: no such layer"),
        (
            lambda c, k, s: nn.Sequential(nn.Flatten(), nn.Linear(c * s * s, k), nn.Softmax(1)),
            "gives probabilities, and the loss would take a softmax of them again: leave its softmax out",
        ),
        (
            lambda c, k, s: nn.Sequential(nn.Flatten(), nn.Linear(c * s * s, k), nn.Threshold(9, float("nan"))),
            "gives logits that are not finite, before any training",
        ),
    ],
    ids=[
        "too-many-outputs",
        "a-map-of-logits",
        "other-inputs",
        "no-tensor",
        "cannot-be-made",
        "probabilities",
        "not-a-number",
    ],
)
def test_a_model_that_does_not_fit_the_data_is_named_before_ray_starts(capsys, tmp_path, monkeypatch, make, sentence):
    monkeypatch.setitem(MODELS._entries, "mine", make)
    monkeypatch.setattr("hardtune.sweep.cluster.connected", lambda address: pytest.fail("Ray starts"))
    assert f"model 'mine' {sentence}" in said(capsys, tmp_path, recipe={"model": "mine"})


def test_images_that_are_too_small_for_the_model_are_named(capsys, tmp_path):
    data = folder(tmp_path / "images", {"cat": 12, "dog": 12})
    line = said(capsys, tmp_path, data=data, flags=["--image-size", "3"])
    assert "model 'small_cnn' fails on images of 3 x 3 x 1: " in line


def test_a_tracking_server_that_does_not_answer_is_named(capsys, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    assert f"no MLflow server answers at {uri}" in said(capsys, tmp_path, flags=["--tracking-uri", uri])


def test_a_tracking_server_that_hangs_is_given_up_on(capsys, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=lambda: server.accept(), daemon=True).start()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert "no MLflow server answers" in said(capsys, tmp_path, flags=["--tracking-uri", uri])


def test_an_experiment_that_was_deleted_in_mlflow_is_named_with_the_ways_out(capsys, tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    client.delete_experiment(client.create_experiment("bad"))
    line = said(capsys, tmp_path, flags=["--tracking-uri", uri])
    assert re.search(r"experiment 'bad' at sqlite.* was deleted: .*restore --experiment-id 1.* another name", line)


@pytest.mark.parametrize("name", ["st?q", "a{b", "a}b", "a%20b"])
def test_a_storage_whose_databases_would_be_elsewhere_is_refused(capsys, tmp_path, name):
    line = said(capsys, tmp_path, flags=["--storage", str(tmp_path / name)])
    assert "the storage's path must have none of ? { } %" in line
    assert not list(tmp_path.iterdir())


def test_a_study_of_the_same_name_in_a_teams_database_is_left_alone(tmp_path):
    url = f"sqlite:///{tmp_path}/team.db"
    theirs = optuna.create_study(study_name="bad-20260101-120000", storage=url)
    theirs.ask()
    with pytest.raises(InputError, match=r"bad-20260101-120000 in sqlite.* is that of another sweep .*--study-storage"):
        study_database(url, "bad-20260101-120000", owner="mine")
    theirs.set_user_attr(OWNER, "mine")
    study_database(url, "bad-20260101-120000", owner="mine")


@pytest.mark.parametrize("url", ["foo", "sqlite:////no/such/team.db", "postgresql+psycopg://127.0.0.1:9/optuna"])
def test_a_database_that_cannot_keep_the_study_is_named_before_the_sweep_has_a_folder(capsys, tmp_path, url):
    line = said(capsys, tmp_path, flags=["--study-storage", url])
    assert f"Optuna cannot keep its study in {url}: " in line
    assert not list(tmp_path.glob("results/sweeps/*"))


def folder(root, sizes):
    """An image folder whose classes have ``sizes`` images."""
    rng = np.random.default_rng(0)
    for name, size in sizes.items():
        (root / name).mkdir(parents=True)
        for index in range(size):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(root / name / f"{index}.png")
    return str(root)


def test_a_class_with_fewer_samples_than_smotes_neighbours_is_named(capsys, tmp_path):
    data = folder(tmp_path / "images", {"cat": 20, "lynx": 6})
    line = said(capsys, tmp_path, data=data, space={"oversample": "smote"})
    assert re.search(r"class 'lynx' .*neighbours.* such as random$", line)


def test_all_classes_with_fewer_samples_than_that_are_named(capsys, tmp_path):
    data = folder(tmp_path / "images", {"cat": 20, "lynx": 6, "ocelot": 6, "puma": 6})
    line = said(capsys, tmp_path, data=data, space={"oversample": "smote"})
    assert re.search(r"class 'lynx' .*neighbours.*; classes 'ocelot', 'puma' cannot gain samples, either$", line)


def test_a_folder_with_one_class_is_no_data_set(capsys, tmp_path):
    assert "class" in said(capsys, tmp_path, data=folder(tmp_path / "images", {"cat": 5}))


def test_images_of_different_sizes_name_the_flag_that_brings_them_to_one(capsys, tmp_path):
    data = folder(tmp_path / "images", {"cat": 12, "dog": 12})
    Image.new("L", (9, 9)).save(tmp_path / "images" / "dog" / "3.png")
    line = said(capsys, tmp_path, data=data)
    assert re.search(r"dog/3\.png is 9x9, but .*cat/\d+\.png is 8x8 \(width x height; --image-size N ", line)
    # With it the data are read, and something else is wrong.
    former = another(tmp_path)
    assert f"cannot resume {former}" in said(capsys, tmp_path, data=data, flags=["--image-size", "4", "--resume"])


def test_a_validation_split_that_is_trained_on_is_said_once_in_a_line_of_its_own(capsys, tmp_path):
    for split in ("train", "val", "test"):
        folder(tmp_path / "images" / split, {"cat": 12, "dog": 12})
    former = another(tmp_path)
    with pytest.raises(SystemExit):
        main(
            Sweep("bad", str(tmp_path / "images"), RECIPE, SPACE),
            parser("").parse_args(["--storage", str(tmp_path / "results"), "--resume"]),
        )
    out, err = capsys.readouterr()
    assert f"cannot resume {former}" in err
    assert f"\n{tmp_path}/images/val became a part of the training data, which --recipe validation=val holds out" in out
    assert out.count("became a part of the training data") == 1


def test_a_file_that_is_no_image_is_named(capsys, tmp_path):
    data = folder(tmp_path / "images", {"cat": 12, "dog": 12})
    (tmp_path / "images" / "dog" / "3.png").write_bytes(b"woof")
    assert re.search(r"dog/3\.png", said(capsys, tmp_path, data=data))
    nothing = said(capsys, tmp_path, data=data, flags=["--resume"])
    assert "there is no sweep named bad to resume" in nothing, "before all images are read"


def test_features_of_another_length_say_both_lengths(capsys, tmp_path):
    np.save(tmp_path / "features.npy", np.zeros((7, 3), np.float32))
    flags = ["--recipe", f"encoder=file:{tmp_path / 'features.npy'}"]
    line = said(capsys, tmp_path, flags=flags, space={"entropy_weight": 0.1})
    assert "7" in line
    assert "1258" in line


def test_a_trial_larger_than_every_node_is_refused(capsys, tmp_path):
    line = said(capsys, tmp_path, flags=["--cpus-per-trial", "4096"])
    assert re.search(r"a trial asks for 4096 CPUs and 0 GPUs, and the largest node has", line)


def test_a_cluster_that_does_not_answer_is_named(capsys, tmp_path):
    line = said(capsys, tmp_path, flags=["--address", "127.0.0.1:1"])
    assert "no Ray cluster answers at '127.0.0.1:1'" in line


def test_a_mistyped_flag_is_refused_by_name(capsys):
    with pytest.raises(SystemExit) as stop:
        parser("").parse_args(["--trial", "3"])
    assert stop.value.code == 2
    assert "--trial" in capsys.readouterr().err
