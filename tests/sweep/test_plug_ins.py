"""What a sweep's script registers is known to the workers that train, and what they warn of to the one who waits."""

import json
import threading

import pytest

from hardtune.errors import InputError
from hardtune.evaluation.metric import METRICS, Metric
from hardtune.registry import plug_ins
from hardtune.sweep.plug_ins import with_plug_ins

SCRIPT = """
import warnings

import beside  # registers a metric
from ray import tune
from torch.nn import functional as F

from hardtune import Recipe
from hardtune.sweep import Sweep, main
from hardtune.training.losses import LOSSES, Loss
from hardtune.training.models import MODELS

def warn(network, inputs):
    warnings.warn("training goes on without any doubt", stacklevel=2)
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

recipe = Recipe(model="wary", epochs=1, members=1, scoring_members=1, encoder="pixels", validation=0.3)
space = {"loss": "mine", "entropy_weight": tune.uniform(0.0, 0.1)}
sweep = Sweep("plugged", "digits", recipe, space, objectives={"final/twice_confidence": "max"}, trials=1)

if __name__ == "__main__":
    main(sweep)
"""
BESIDE = """
from numbers_of_mine import TWICE, times
from hardtune.evaluation.metric import metric

@metric("twice_confidence", better="max")
def twice_confidence(predictions):
    return times(TWICE, float(predictions.confidence.mean()))
"""
NUMBERS = """
TWICE = 2

def times(a, b):
    return a * b
"""


@pytest.mark.slow
def test_a_loss_and_a_model_of_the_script_and_a_metric_of_a_module_beside_it_work_in_every_worker(script, tmp_path):
    for name, text in {"mine": SCRIPT, "beside": BESIDE, "numbers_of_mine": NUMBERS}.items():
        (tmp_path / f"{name}.py").write_text(text)
    out = script.run(str(tmp_path / "mine.py"))
    (path,) = script.records()
    record = json.loads(path.read_text())
    assert record["state"] == "finished"
    assert record["treatment"]["loss"] == "mine"
    assert record["metrics"]["final/twice_confidence"] > 0.2
    assert record["warning"] == "training goes on without any doubt"
    assert out.count("training goes on without any doubt") == 2  # of the scoring ensemble, and of the trial
    assert "a library's" not in out


def test_what_cannot_be_sent_is_said_before_anything_is_trained(monkeypatch):
    lock = threading.Lock()
    monkeypatch.setitem(METRICS._entries, "locked", Metric(lambda predictions: float(lock.locked()), "min"))
    with pytest.raises(InputError, match=r"the metric 'locked' cannot be sent to the workers \(.*lock"):
        with_plug_ins()


def test_hardtunes_own_are_no_plug_ins():
    assert plug_ins() == {}
