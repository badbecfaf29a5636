"""A recipe that cannot be followed is refused before anybody starts cooking."""

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
        ({"schedule": "exponential"}, "choose from cosine, linear, steps"),
        ({"milestones": (0.5, 60)}, "fractions of the run"),
        ({"validation": 1.0}, "between 0 and 1"),
        ({"validation": "train"}, "a fraction or 'test'"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"seed": -1}, "seed"),
        ({"warmup": float("nan")}, "warmup"),
    ],
)
def test_values_out_of_range_are_refused_in_a_sentence(change, says):
    with pytest.raises(InputError, match=says):
        Recipe(**change)


def test_what_does_not_decide_a_network_is_left_out_of_its_identity():
    same = Recipe(members=3, scoring_members=2, encoder="pixels", validation=0.2, seed=7)
    assert same.training_identity() == Recipe().training_identity()
    assert Recipe(epochs=100).training_identity() != Recipe().training_identity()
