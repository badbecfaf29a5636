"""One network of an ensemble: a treatment of the training data and a seed in, logits out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardtune.data import Split
from hardtune.errors import InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.recipe import Recipe
from hardtune.resampling.oversamplers import OVERSAMPLERS, Request
from hardtune.resampling.plan import ClassPlan, Plan, make_plan, preview
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.store import Store, digest
from hardtune.training.fit import Objective, Observer, build_model, fit, predict
from hardtune.training.images import DeviceImages
from hardtune.training.losses import LOSSES, regularised
from hardtune.training.weights import SCALES, TARGETS, entropy_weights
from hardtune.treatment import Treatment

VERSION = 1
"""Raise it when a change makes networks come out differently, so that stored ones are not mistaken for new ones."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a sweep share, read-only."""

    split: Split
    scores: Mapping[str, NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    """Of the training samples (N,), by estimator; higher = harder."""
    features: NDArray[np.float32] | None = None
    """Of the training samples (N, D), from the recipe's frozen encoder."""

    def scores_of(self, estimator: str) -> NDArray[np.float32]:
        """The scores of an estimator whose name is known to be right."""
        ESTIMATORS[estimator]
        return self.scores[estimator]


@dataclass(frozen=True)
class Logits:
    """A trained member's whole legacy: what it says of the held-out (H, K) and of the test samples (N_test, K)."""

    held_out: NDArray[np.float32]
    test: NDArray[np.float32]


def member_seed(recipe: Recipe, member: int, purpose: str) -> int:
    """An independent seed for each use of randomness; the same for member i of every treatment."""
    entropy = [recipe.seed, member, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def identity(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, device: str) -> dict[str, Any]:
    """Everything that decides a member's logits, for the store."""
    treatment = treatment.canonical()
    used = {name: digest(prepared.scores_of(name)) for name in sorted(needed_scores(treatment))}
    if needs_features(treatment) and prepared.features is not None:
        used["features"] = digest(prepared.features)
    return {
        "kind": "member",
        "version": VERSION,
        "data": prepared.split.fingerprint,
        "held_out": "test" if prepared.split.chooses_on_test else "training",
        "recipe": recipe.training_identity(),
        "treatment": dataclasses.asdict(treatment),
        "used": used,
        "seed": [recipe.seed, member],
        "device": device.partition(":")[0],
    }


def check_names(treatment: Treatment) -> None:
    """Raise ``InputError``, with the valid choices, for a name in the treatment that nothing is registered under."""
    for registry, name in (
        (ESTIMATORS, treatment.estimator),
        (POLICIES, treatment.policy),
        (UNDERSAMPLERS, treatment.undersample),
        (OVERSAMPLERS, treatment.oversample),
        (PRUNERS, treatment.prune),
        (LOSSES, treatment.loss),
        (ESTIMATORS, treatment.entropy_estimator),
        (TARGETS, treatment.entropy_target),
        (SCALES, treatment.entropy_scale),
    ):
        registry[name]


def needed_scores(treatment: Treatment) -> set[str]:
    """The estimators whose scores a treatment reads."""
    treatment = treatment.canonical()
    names = set()
    if treatment.alpha > 0 or treatment.prune_rate > 0:
        names.add(treatment.estimator)
    if treatment.entropy_weight > 0 and treatment.entropy_target != "constant":
        names.add(treatment.entropy_estimator)
    return names


def needs_features(treatment: Treatment) -> bool:
    """Whether resampling itself looks into encoder space (scores made from features are another matter)."""
    return OVERSAMPLERS[treatment.canonical().oversample].needs == "features"


def check_sources(split: Split, treatment: Treatment) -> None:
    """Raise ``InputError`` if a class could not gain a sample, as far as that shows before anything is scored."""
    treatment = treatment.canonical()
    if treatment.alpha == 0 or treatment.prune_rate > 0:
        return
    none = np.empty(0, np.int64)
    unknown_scores = np.zeros(len(split.train), np.float32)
    for label, name in enumerate(split.classes):
        members = np.flatnonzero(split.train.labels == label)
        request = Request(name, label, 1, members, none, split.train, unknown_scores, unknown_scores[:, None])
        problem = OVERSAMPLERS[treatment.oversample].infeasible(request)
        if problem is not None:
            raise InputError(problem)


def preview_plan(prepared: Prepared, treatment: Treatment) -> tuple[ClassPlan, ...]:
    """What the treatment will do to each class.

    Raises:
        InputError: it cannot be done; the message names the class.
    """
    treatment = treatment.canonical()
    scored = treatment.alpha > 0 or treatment.prune_rate > 0
    rows = preview(
        treatment,
        prepared.split.train,
        prepared.split.classes,
        scores=prepared.scores_of(treatment.estimator) if scored else None,
        low_is_hard=ESTIMATORS[treatment.estimator].low_is_hard,
        features=prepared.features if needs_features(treatment) else None,
    )
    for row in rows:
        if row.infeasible is not None:
            raise InputError(row.infeasible)
    return rows


def plan_for(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int) -> Plan:
    """What the treatment makes of the training samples for one member."""
    treatment = treatment.canonical()
    scored = treatment.alpha > 0 or treatment.prune_rate > 0
    return make_plan(
        treatment,
        prepared.split.train,
        prepared.split.classes,
        scores=prepared.scores_of(treatment.estimator) if scored else None,
        low_is_hard=ESTIMATORS[treatment.estimator].low_is_hard,
        seed=member_seed(recipe, member, "plan"),
        features=prepared.features if needs_features(treatment) else None,
    )


def weights_for(prepared: Prepared, recipe: Recipe, treatment: Treatment) -> NDArray[np.float32] | None:
    """The entropy weights s (N,) of the training samples, or None where the entropy term is off."""
    treatment = treatment.canonical()
    if treatment.entropy_weight == 0:
        return None
    constant = treatment.entropy_target == "constant"
    scores = np.zeros(len(prepared.split.train), np.float32)
    return entropy_weights(
        treatment.entropy_target,
        scores if constant else prepared.scores_of(treatment.entropy_estimator),
        scale=treatment.entropy_scale,
        temperature=treatment.temperature,
        seed=recipe.seed,
    )


def train_member(
    prepared: Prepared,
    recipe: Recipe,
    treatment: Treatment,
    member: int,
    *,
    device: str,
    observer: Observer | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> Logits:
    """Train one network and return what it says of the held-out and the test samples.

    On a CPU the result is a function of the arguments alone, to the bit (at the same number of threads).
    """
    treatment = treatment.canonical()
    split = prepared.split
    plan = plan_for(prepared, recipe, treatment, member)
    images = _images(split, split.train.images, device, plan.images)
    labels = torch.from_numpy(np.concatenate([split.train.labels, plan.labels])).to(device)
    made = len(split.train) + np.arange(len(plan.labels))
    rows = torch.from_numpy(np.concatenate([plan.indices, made])).to(device)
    model = build_model(
        recipe,
        split.train.images.shape[1:],
        split.num_classes,
        seed=member_seed(recipe, member, "init"),
        device=device,
    )
    fit(
        model,
        images,
        labels,
        rows,
        recipe,
        seed=member_seed(recipe, member, "order"),
        objective=_objective(prepared, recipe, treatment, plan, device),
        observer=observer,
        on_epoch=on_epoch,
    )
    held_out = _predict(model, split, split.held_out.images, device)
    return Logits(held_out, held_out if split.chooses_on_test else _predict(model, split, split.test.images, device))


def stored_member(
    prepared: Prepared,
    recipe: Recipe,
    treatment: Treatment,
    member: int,
    store: Store | None,
    *,
    device: str,
    on_epoch: Callable[[int], None] | None = None,
) -> tuple[Logits, bool]:
    """The member from the store, or trained now and stored; and whether it had to be trained."""
    key = identity(prepared, recipe, treatment, member, device) if store is not None else {}
    found = store.get(key) if store is not None else None
    if found is not None:
        return Logits(found["held_out"], found["test"]), False
    logits = train_member(prepared, recipe, treatment, member, device=device, on_epoch=on_epoch)
    if store is not None:
        store.put(key, dataclasses.asdict(logits))
    return logits, True


def _objective(prepared: Prepared, recipe: Recipe, treatment: Treatment, plan: Plan, device: str) -> Objective:
    count = len(prepared.split.train) + len(plan.labels)
    loss = LOSSES[treatment.loss](count, prepared.split.num_classes, device)
    weights = weights_for(prepared, recipe, treatment)
    if weights is None:
        return lambda logits, labels, ids: loss(logits, labels, ids).mean()
    # A synthesised image is as difficult as the sample that it was made from.
    s = torch.from_numpy(np.concatenate([weights, weights[plan.parents]])).to(device)
    strength = treatment.entropy_weight
    return lambda logits, labels, ids: regularised(loss(logits, labels, ids), logits, s[ids], strength)


def _images(
    split: Split, images: NDArray[np.uint8], device: str, synthesised: NDArray[np.uint8] | None = None
) -> DeviceImages:
    return DeviceImages(images, mean=split.mean, std=split.std, device=device, synthesised=synthesised)


def _predict(model: torch.nn.Module, split: Split, images: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    logits = predict(model, _images(split, images, device), torch.arange(len(images), device=device))
    return logits.cpu().numpy()
