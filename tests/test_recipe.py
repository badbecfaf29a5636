"""A recipe that cannot be followed is refused before anybody starts cooking."""

import json

import numpy as np
import pytest

from hardtune import Recipe
from hardtune.errors import InputError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"members": 1.5}, "members"),
        ({"batch_size": -3}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"momentum": 1}, "momentum must be in"),
        ({"budget": "images"}, "unknown budget 'images': choose from epochs, steps"),
        ({"budget": None}, "budget must be a name, got None"),
        ({"optimiser": "adam"}, "unknown optimiser 'adam': choose from adamw, sgd"),
        ({"optimiser": "adamw"}, "learning_rate 0.1 is one for SGD: AdamW needs one of at most 0.05, usually 0.001"),
        ({"schedule": "exponential"}, "choose from cosine, linear, steps"),
        ({"layout": "nchw"}, "unknown layout 'nchw': choose from auto, channels_first, channels_last"),
        ({"milestones": (0.5, 60)}, "fractions of the run"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"validation": "train"}, "validation must be between 0 and 1, 'val', or 'test' to hold none out, got"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"seed": -1}, "seed"),
        ({"warmup": float("nan")}, "warmup"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number, got inf"),
        ({"learning_rate": "0.1"}, "learning_rate must be a finite number, got '0.1'"),
        ({"milestones": 0.3}, "milestones must be a tuple of fractions of the run, got 0.3"),
        ({"milestones": "0.3"}, "milestones must be a tuple of fractions of the run, got '0.3'"),
        ({"compile": "maybe"}, "compile must be true, false or 'auto', got 'maybe'"),
        ({"compile": 2}, "compile must be true, false or 'auto', got 2"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"flip": "no"}, "flip must be true or false, got 'no'"),
        ({"flip": np.array([True, False])}, r"flip must be true or false, got array\(\[ True, False\]\)"),
        ({"compile": np.array([1, 0])}, r"compile must be true, false or 'auto', got array\(\[1, 0\]\)"),
        ({"milestones": np.array(0.3)}, r"milestones must be a tuple of fractions of the run, got array\(0.3\)"),
        ({"validation": None}, "validation must be a fraction, 'val' or 'test', got None"),
        ({"model": None}, "model must be a name, got None"),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence(change, says):
    with pytest.raises(InputError, match=says):
        Recipe(**change)


def test_what_does_not_decide_a_network_is_left_out_of_its_identity():
    same = Recipe(members=3, scoring_members=2, encoder="pixels", validation=0.2, seed=7)
    assert same.training_identity() == Recipe().training_identity()
    assert Recipe(epochs=100).training_identity() != Recipe().training_identity()
    assert not {"budget", "optimiser"} & Recipe().training_identity().keys(), (
        "networks of before there was a choice are found"
    )
    assert Recipe(budget="steps").training_identity() != Recipe().training_identity()
    by_adamw = Recipe(optimiser="adamw", learning_rate=0.001)
    assert by_adamw.training_identity() != Recipe(learning_rate=0.001).training_identity()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"warmup": 0}, {"warmup": 0.0}),
        ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
        ({"learning_rate": 1}, {"learning_rate": np.float64(1)}),
        ({"epochs": np.int64(3)}, {"epochs": 3}),
        ({"flip": 1}, {"flip": True}),
        ({"flip": np.bool_(False)}, {"flip": False}),
        ({"milestones": np.array([0.3, 0.6])}, {"milestones": (0.3, 0.6)}),
        ({"compile": 0}, {"compile": False}),
        ({"milestones": [0.6, 0.3]}, {"milestones": (0.3, 0.6)}),
        ({"schedule": "linear", "milestones": (0.5,), "decay": 0.5}, {"schedule": "linear"}),
    ],
)
def test_recipes_that_train_the_same_network_have_one_identity(one, other):
    """Networks are stored by it, as JSON."""
    identities = [json.dumps(Recipe(**changes).training_identity()) for changes in (one, other)]
    assert identities[0] == identities[1]


def test_milestones_are_a_part_of_the_identity_where_they_count():
    assert Recipe(milestones=(0.5,)).training_identity() != Recipe().training_identity()
    assert Recipe(decay=0.5).training_identity() != Recipe().training_identity()
