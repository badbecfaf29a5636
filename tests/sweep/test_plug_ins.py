"""What a sweep's script registers is known to the workers that train, and what they warn of to the one who waits."""

import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest

from hardtune.errors import InputError
from hardtune.evaluation.metric import METRICS, Metric
from hardtune.hardness.estimators import estimator
from hardtune.registry import plug_ins
from hardtune.resampling.oversamplers import oversampler
from hardtune.sweep.plug_ins import with_plug_ins
from hardtune.training.losses import LOSSES
from hardtune.training.models import MODELS

SCRIPT = """
import sys
import warnings

import numpy as np
import beside  # registers a metric
sys.path.insert(0, "lib")
import elsewhere  # registers another
from ray import tune
from torch.nn import functional as F

from hardtune import Recipe, load
from hardtune.data import DATASETS
from hardtune.errors import HardtuneWarning
from hardtune.sweep import Sweep, main
from hardtune.training.losses import LOSSES, Loss
from hardtune.training.models import MODELS

def warn(network, inputs):
    warnings.warn("training goes on without any doubt", HardtuneWarning, stacklevel=2)
    warnings.warn("a library's, which nobody needs to read", stacklevel=2)

@MODELS.register("wary")
def wary(channels, num_classes, image_size):
    network = MODELS["small_cnn"](channels, num_classes, image_size)
    network.register_forward_pre_hook(warn)
    return network

@LOSSES.register("mine")
class Mine(Loss):
    def forward(self, logits, labels, ids):
        return 2 * F.cross_entropy(logits.float(), labels, reduction="none")

images = np.zeros(65_000_000, np.uint8)

@DATASETS.register("mine")
def mine(data_dir, progress):
    assert len(images)
    return load("digits")

recipe = Recipe(model="wary", epochs=1, members=1, scoring_members=1, encoder="pixels", validation=0.3)
space = {"loss": "mine", "entropy_weight": tune.uniform(0.0, 0.1)}
sweep = Sweep("plugged", "mine", recipe, space, objectives={"final/twice_confidence": "max"}, trials=1)

if __name__ == "__main__":
    main(sweep)
"""
BESIDE = """
from pathlib import Path
from numbers_of_mine import times
from hardtune.evaluation.metric import metric

@metric("twice_confidence", better="max")
def twice_confidence(predictions):
    return times(float(Path("twice.txt").read_text()), float(predictions.confidence.mean()))
"""
NUMBERS = """
def times(a, b):
    return a * b
"""
ELSEWHERE = """
import package.numbers
from hardtune.evaluation.metric import metric

@metric("thrice_confidence", better="max")
def thrice_confidence(predictions):
    from late import times
    return times(package.numbers.THRICE, float(predictions.confidence.mean()))
"""
LATE = """
import elsewhere  # a second time where the metric is measured, since it was sent without its module

def times(a, b):
    return a * b
"""


def write(folder, **modules):
    """Modules by name, and the folder ``package`` with ``numbers`` in it."""
    (folder / "package").mkdir(parents=True)
    (folder / "package" / "__init__.py").write_text("import package.numbers")
    (folder / "package" / "numbers.py").write_text("THRICE = 3")
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize("decorator", [LOSSES.register, MODELS.register, oversampler, estimator])
def test_a_decorator_without_a_name_says_that_it_needs_one(decorator):
    with pytest.raises(InputError, match="is registered under a name, in parentheses and quotes, got <function"):

        @decorator
        def mine():
            pass


@pytest.mark.slow
def test_a_loss_and_a_model_of_the_script_and_metrics_of_modules_that_only_it_finds_work_in_every_worker(
    script, tmp_path
):
    for name, text in {"mine": SCRIPT, "beside": BESIDE, "numbers_of_mine": NUMBERS}.items():
        (tmp_path / f"{name}.py").write_text(text)
    write(tmp_path / "lib", elsewhere=ELSEWHERE, late=LATE)
    (script.home / "twice.txt").write_text("2")  # which the metric reads from where the script was started
    out = script.run(str(tmp_path / "mine.py"))  # but for the data set, which is too large to be sent with the others
    (path,) = script.records()
    record = json.loads(path.read_text())
    assert record["state"] == "finished"
    assert record["treatment"]["loss"] == "mine"
    assert record["metrics"]["final/twice_confidence"] > 0.2
    assert record["metrics"]["final/thrice_confidence"] == pytest.approx(
        record["metrics"]["final/twice_confidence"] * 1.5
    )
    assert record["warning"] == "training goes on without any doubt"
    assert out.count("training goes on without any doubt") == 2  # of the scoring ensemble, and of the trial
    assert "a library's" not in out


SENDER = """
import sys
from pathlib import Path
import ray
from hardtune.sweep.plug_ins import with_plug_ins
sys.path[:0] = ["lib", "archive.zip"]
import zipped
import bare.inner  # of a folder without __init__.py
from package import register
bare.inner.OFFSET = 1  # what is changed here is changed there
Path("sent").write_bytes(ray.cloudpickle.dumps(with_plug_ins()["worker_process_setup_hook"]))
from hardtune.evaluation.metric import METRICS
print(METRICS.code("mine"))
"""
REGISTER = """
import bare.inner
import package.numbers
import package.register  # itself
from hardtune.evaluation.metric import metric

import zipped

@metric("mine", better="max")
def mine(predictions):
    return zipped.double(package.numbers.THRICE * predictions) + bare.inner.OFFSET
"""


def python(folder, code, *script, **environment):
    """What Python says in the folder to the code, out of a script or typed."""
    for path in script:
        path.write_text(code)
    done = subprocess.run(
        [sys.executable, *script],
        input=None if script else code,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_node_that_has_none_of_the_folders_is_told_everything(tmp_path):
    lib = tmp_path / "lib"
    write(lib)
    (lib / "package" / "register.py").write_text(REGISTER)
    (lib / "bare").mkdir()
    (lib / "bare" / "inner.py").write_text("OFFSET = 0")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "def double(x): return 2 * x")
    code = python(tmp_path, SENDER)
    shutil.rmtree(lib)
    (tmp_path / "archive.zip").unlink()
    there = "import pickle; pickle.load(open('sent', 'rb'))()\n"
    there += "from hardtune.evaluation.metric import METRICS; print(METRICS['mine'].compute(5), METRICS.code('mine'))"
    assert python(tmp_path, there) == f"31 {code}"


@pytest.mark.parametrize("script", [["script.py"], []], ids=["script", "typed"])
def test_what_any_python_finds_goes_by_name_and_all_else_does_not(tmp_path, script):
    for name in ("beside", "linked", "named", "lib"):
        write(tmp_path / name, **{f"in_{name}": ""})
        shutil.move(tmp_path / name / "package", tmp_path / name / f"package_{name}")
        (tmp_path / name / f"package_{name}" / "__init__.py").write_text("")
    for name in ("named", "lib"):  # one of a name is not the other
        (tmp_path / name / "tools.py").write_text("")
    (tmp_path / "named" / "sitecustomize.py").write_text(f"import sys; sys.path.append({str(tmp_path / 'linked')!r})")
    code = "import sys; sys.path.insert(0, '../lib'); import numpy, ray, torch, tools\n"
    for name in ("beside", "linked", "named", "lib"):
        code += f"import in_{name}, package_{name}.numbers\n"
    code += "from hardtune.sweep.plug_ins import own_modules\nprint(*sorted(str(place) for _, place in own_modules()))"
    folders = [str(tmp_path / "named"), os.environ.get("PYTHONPATH", "")]
    if script:
        folders.append(str(tmp_path / "beside"))  # where a cluster's other nodes may not have it
    out = python(
        tmp_path / "beside", code, *(tmp_path / "beside" / name for name in script), PYTHONPATH=os.pathsep.join(folders)
    )
    assert out.split() == [
        "in_beside.py",
        "in_lib.py",
        "package_beside/__init__.py",
        "package_beside/numbers.py",
        "package_lib/__init__.py",
        "package_lib/numbers.py",
        "tools.py",
    ]


def test_what_cannot_be_sent_is_said_before_anything_is_trained(monkeypatch):
    lock = threading.Lock()
    monkeypatch.setitem(METRICS._entries, "locked", Metric(lambda predictions: float(lock.locked()), "min"))
    with pytest.raises(InputError, match=r"the metric 'locked' cannot be sent to the workers \(.*lock"):
        with_plug_ins()


def test_what_is_too_large_to_be_sent_is_said_before_anything_is_trained(monkeypatch):
    table = np.zeros(9_000_000)
    monkeypatch.setitem(METRICS._entries, "large", Metric(lambda predictions: table[0], "min"))
    with pytest.raises(
        InputError, match=r"\(metric 'large'\) is 72 MB with all that it uses, and at most 64 MB are sent"
    ):
        with_plug_ins()


def test_hardtunes_own_are_no_plug_ins():
    assert plug_ins() == {}
