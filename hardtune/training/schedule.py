"""The learning rate as a function of how much of the run is done."""

from __future__ import annotations

import math

from hardtune.recipe import Recipe


def learning_rate(recipe: Recipe, done: float) -> float:
    """The learning rate after the fraction ``done`` in [0, 1) of all steps.

    >>> recipe = Recipe()
    >>> [round(learning_rate(recipe, epoch / 200), 6) for epoch in (0, 59, 60, 120)]
    [0.1, 0.1, 0.02, 0.004]
    """
    if done < recipe.warmup:
        return recipe.learning_rate * done / recipe.warmup
    if recipe.schedule == "steps":
        passed = sum(done >= milestone for milestone in recipe.milestones)
        return recipe.learning_rate * recipe.decay**passed
    left = (1 - done) / (1 - recipe.warmup)
    if recipe.schedule == "linear":
        return recipe.learning_rate * left
    return recipe.learning_rate * (1 - math.cos(math.pi * left)) / 2
