"""One treatment in, one result out, member by member; no cluster needed.

>>> from hardtune import Recipe, Treatment, load, run
>>> recipe = Recipe(model="small_cnn", epochs=1, members=2, scoring_members=1, validation=0.25, encoder="pixels")
>>> result = run(Treatment(alpha=1.0, policy="shift"), load("digits"), recipe)
>>> sorted(result.held_out.member_mean)[:2]
['accuracy', 'accuracy_at_80']
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Dataset
from hardtune.evaluation import MemberSummary, evaluate_members
from hardtune.member import Logits, Prepared, plan_for, stored_member, weights_for
from hardtune.recipe import Recipe
from hardtune.scoring import prepare
from hardtune.store import Store
from hardtune.treatment import Treatment


@dataclass(frozen=True)
class Progress:
    """A trial after one more member."""

    done: int
    of: int
    trained: bool
    """False where the member came from the store."""
    held_out: dict[str, float]
    """The metrics of the newest member alone, on held-out samples."""


@dataclass(frozen=True)
class Result:
    """A finished trial. The search may look at ``held_out``; ``test`` is for the report."""

    treatment: Treatment
    held_out: MemberSummary
    test: MemberSummary
    class_counts: NDArray[np.int64]
    """How many samples of each class (K,) an epoch of the first member's training had."""
    weight_quantiles: dict[str, float]
    """Of the entropy weights s: minimum, quartiles, maximum; empty where the entropy term is off."""

    def metrics(self) -> dict[str, float]:
        """Every figure by name: ``final/`` and ``ensemble/`` on held-out samples, ``test/`` and ``test_ensemble/``."""
        named = {
            "final": self.held_out.member_mean,
            "final_std": self.held_out.member_std,
            "ensemble": self.held_out.ensemble,
            "test": self.test.member_mean,
            "test_std": self.test.member_std,
            "test_ensemble": self.test.ensemble,
            "weights": self.weight_quantiles,
        }
        return {f"{prefix}/{name}": value for prefix, values in named.items() for name, value in values.items()}


def run_trial(
    treatment: Treatment,
    prepared: Prepared,
    recipe: Recipe,
    store: Store | None = None,
    *,
    device: str = "cpu",
    on_member: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Result:
    """Train the treatment's ensemble (or find its members in the store) and measure it.

    Raises:
        InputError: the treatment cannot be carried out on these data.
        DivergedError: a member's training left the finite numbers.
    """
    split = prepared.split
    members: list[Logits] = []
    for member in range(recipe.members):
        logits, trained = stored_member(prepared, recipe, treatment, member, store, device=device, on_epoch=on_epoch)
        members.append(logits)
        if on_member is not None:
            newest = evaluate_members(logits.held_out[None], split.held_out.labels)
            on_member(Progress(member + 1, recipe.members, trained, newest.member_mean))
    plan = plan_for(prepared, recipe, treatment, 0)
    trained_on = np.concatenate([split.train.labels[plan.indices], plan.labels])
    weights = weights_for(prepared, recipe, treatment)
    held_out = np.stack([logits.held_out for logits in members])
    return Result(
        treatment,
        evaluate_members(held_out, split.held_out.labels),
        # Temperatures are fitted on held-out samples; under the papers' protocol there are none apart from the test.
        evaluate_members(
            np.stack([logits.test for logits in members]),
            split.test.labels,
            held_out=None if split.chooses_on_test else (held_out, split.held_out.labels),
        ),
        np.bincount(trained_on, minlength=split.num_classes),
        {} if weights is None else _quantiles(weights),
    )


def metric_names() -> set[str]:
    """Every name that ``Result.metrics`` has, which is what an objective may be called."""
    summary = evaluate_members(np.eye(2, dtype=np.float32)[None], np.arange(2))
    return set(Result(Treatment(), summary, summary, np.ones(2, np.int64), {}).metrics())


def run(
    treatment: Treatment,
    dataset: Dataset,
    recipe: Recipe,
    store: Store | None = None,
    *,
    device: str = "cpu",
    on_member: Callable[[Progress], None] | None = None,
) -> Result:
    """Score, treat, train and measure in one call: the whole of hardtune without a cluster.

    Without a ``store`` nothing is kept.
    """
    split = dataset.hold_out(recipe.validation, recipe.seed)
    with tempfile.TemporaryDirectory() as scratch:
        kept = store if store is not None else Store(scratch)
        prepared = prepare(split, recipe, [treatment], kept, device=device)
        return run_trial(treatment, prepared, recipe, kept, device=device, on_member=on_member)


def _quantiles(weights: NDArray[np.float32]) -> dict[str, float]:
    points = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
    return {name: float(np.quantile(weights, q)) for name, q in points.items()}
