"""One network of an ensemble: from a treatment of the training data and a seed to its answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hardtune import answers
from hardtune.answers import Answers
from hardtune.data import Split
from hardtune.errors import DivergedError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.needs import named_in, needed_scores, needs_features, needs_judged_pool, needs_pool
from hardtune.recipe import Recipe
from hardtune.registry import Digests
from hardtune.resampling.oversamplers import Pool
from hardtune.resampling.plan import Plan, make_plan, preview
from hardtune.store import Store, digest
from hardtune.training.choices import resolved
from hardtune.training.fit import Probe, batches, build_model, fit
from hardtune.training.images import DeviceImages
from hardtune.training.losses import LOSSES, regularised
from hardtune.training.models import MODELS
from hardtune.training.step import Objective, Observer
from hardtune.training.weights import entropy_weights
from hardtune.treatment import Treatment

VERSION = 9
"""Increment it when a change alters trained networks, so that stored ones are not mistaken for new ones."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a sweep share, read-only."""

    split: Split
    scores: Mapping[str, NDArray[np.float32]] = dataclasses.field(default_factory=dict)
    """Scores (N,) of the training samples, by estimator; higher = harder."""
    features: NDArray[np.float32] | None = None
    """Features (N, D) of the training samples, from the recipe's frozen encoder."""
    pool: Pool | None = None
    """The split's pool of synthetic images, with the scoring ensemble's confidence in them if a treatment needs it."""
    hard_classes: NDArray[np.bool_] | None = None
    """(K,) mask of the hard classes, the same for all treatments (see ``scoring.hard_classes``); None if unknown."""

    def scores_of(self, estimator: str) -> NDArray[np.float32]:
        """An estimator's scores; ``InputError`` for an unknown name."""
        ESTIMATORS[estimator]
        return self.scores[estimator]


def member_seed(recipe: Recipe, member: int, purpose: str) -> int:
    """An independent seed for each use of randomness; the same for member i of every treatment."""
    entropy = [recipe.seed, member, *purpose.encode()]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)


def identity(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, device: str) -> dict[str, Any]:
    """The store identity: all that determines a network's logits."""
    treatment = treatment.trained()
    used = {name: digest(prepared.scores_of(name)) for name in sorted(needed_scores(treatment))}
    if needs_features(treatment) and prepared.features is not None:
        used["features"] = digest(prepared.features)
    pool = prepared.pool if needs_judged_pool(treatment) else prepared.split.pool
    if needs_pool(treatment) and pool is not None:
        used["pool"] = pool.fingerprint
    code: Digests = {}
    for registry, name in ((MODELS, recipe.model), *named_in(treatment)):
        code |= registry.code(name)
    return {
        "kind": "member",
        "version": VERSION,
        "data": prepared.split.fingerprint,
        "held_out": "test" if prepared.split.chooses_on_test else "training",
        "recipe": _described(prepared, resolved(recipe, device), treatment),
        "treatment": treatment.described(),
        "used": used,
        **({"code": code} if code else {}),
        "seed": [recipe.seed, member],
        "device": device.partition(":")[0],
    }


def entries(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, device: str) -> answers.Entries:
    """The store identities of a member's answers: its network's, and one for each further part that is asked for."""
    network = identity(prepared, recipe, treatment, member, device)
    return answers.entries(network, prepared.split, recipe.seed, posthoc_of(prepared, treatment))


def steps_of(prepared: Prepared, recipe: Recipe) -> int | None:
    """The steps of all networks, whose training sets differ in size, under a budget of steps: those of the control.

    None under one of epochs.
    """
    if recipe.budget == "epochs":
        return None
    return recipe.epochs * batches(len(prepared.split.train), recipe.batch_size)


def epochs_of(prepared: Prepared, recipe: Recipe, treatment: Treatment) -> float:
    """The epochs that the treatment's networks train: not whole where a budget of steps breaks the last one off."""
    treatment, steps = treatment.canonical(), steps_of(prepared, recipe)
    # Without a plan of its own it has the control's samples; its scores and features may not be there yet.
    if steps is None or not (treatment.prunes or treatment.resamples):
        return recipe.epochs
    size = sum(row.count for row in preview(**plan_arguments(prepared, treatment)))
    whole, rest = divmod(steps, per_epoch := batches(size, recipe.batch_size))
    return steps / per_epoch if rest else whole


def _described(prepared: Prepared, recipe: Recipe, treatment: Treatment) -> dict[str, object]:
    """The recipe in a network's identity, where its epochs say all about the budget: who trains alike is shared."""
    described = dataclasses.replace(recipe, budget="epochs").training_identity()
    return {**described, "epochs": epochs_of(prepared, recipe, treatment)}


def plan_for(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int) -> Plan:
    """One member's training set, as the treatment makes it."""
    return make_plan(**plan_arguments(prepared, treatment), seed=member_seed(recipe, member, "plan"))


def plan_arguments(prepared: Prepared, treatment: Treatment) -> dict[str, Any]:
    """What ``make_plan`` and ``preview`` need to know."""
    treatment = treatment.canonical()
    return {
        "treatment": treatment,
        "train": prepared.split.train,
        "classes": prepared.split.classes,
        "scores": prepared.scores_of(treatment.estimator) if treatment.needs_scores else None,
        "low_is_hard": ESTIMATORS[treatment.estimator].low_is_hard,
        "features": prepared.features if needs_features(treatment) else None,
        "pool": _pool_for(prepared, treatment),
    }


def _pool_for(prepared: Prepared, treatment: Treatment) -> Pool | None:
    """The pool, judged only for who asks for that: a network's identity has no judgement that it did not ask for."""
    if needs_judged_pool(treatment) or prepared.pool is None:
        return prepared.pool
    return Pool(prepared.pool.samples)


def posthoc_of(prepared: Prepared, treatment: Treatment) -> NDArray[np.float32]:
    """(K,) the logarithm of what multiplies the odds of classes after training; 0 unless the treatment is post hoc."""
    if treatment.trained() == treatment.canonical():  # else scores may not be there yet
        return np.zeros(prepared.split.num_classes, np.float32)
    return np.array([row.posthoc for row in preview(**plan_arguments(prepared, treatment))], np.float32)


def with_posthoc(network: Answers, prepared: Prepared, treatment: Treatment) -> Answers:
    """A network's answers as the treatment's: with what it adds to logits after training."""
    return network.shifted(answers.shift_of(posthoc_of(prepared, treatment), network.held_out, prepared.split))


def trained_on(plan: Plan) -> NDArray[np.int64]:
    """(len(plan),) the sample that each image of an epoch is, or is made from; those that are made come last."""
    return np.concatenate([plan.indices, plan.parents])


def weights_for(
    prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, plan: Plan
) -> NDArray[np.float32] | None:
    """The entropy weights s (N,) of the training samples under the member's plan; None where the entropy term is off.

    Under ``shuffled`` each member has its own permutation: comparisons with that control thus cover permutations as
    well as seeds.
    """
    treatment = treatment.canonical()
    if treatment.entropy_weight == 0:
        return None
    constant = treatment.entropy_target == "constant"
    labels = prepared.split.train.labels
    samples = trained_on(plan)
    return entropy_weights(
        treatment.entropy_target,
        np.zeros(len(labels), np.float32) if constant else prepared.scores_of(treatment.entropy_estimator),
        scale=treatment.entropy_scale,
        temperature=treatment.temperature,
        seed=member_seed(recipe, member, "shuffle"),
        trained=samples,
        counting=plan.class_weights[labels[samples]],
    )


def train_member(prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, *, device: str) -> Answers:
    """Train one network and return its answers on held-out and test samples, and on whatever else is asked for.

    Logits are the network's, to which :func:`with_posthoc` adds what the treatment asks for.

    On a CPU, equal arguments give bit-identical results (with the same number of threads).
    """
    network = train_network(prepared, recipe, treatment, member, device=device)
    posthoc = posthoc_of(prepared, treatment)
    return answers.question(network, prepared.split, seed=recipe.seed, device=device, posthoc=posthoc)


def train_network(
    prepared: Prepared,
    recipe: Recipe,
    treatment: Treatment,
    member: int,
    *,
    device: str,
    observer: Observer | None = None,
    on_epoch: Callable[[int], None] | None = None,
    probe: Probe | None = None,
    until: int | None = None,
) -> torch.nn.Module:
    """Train and return the network; ``observer``, ``probe`` and ``until`` as in ``training.fit``."""
    treatment = treatment.canonical()
    recipe = resolved(recipe, device)
    split = prepared.split
    plan = plan_for(prepared, recipe, treatment, member)
    images = DeviceImages(split.train.images, mean=split.mean, std=split.std, device=device, synthesised=plan.images)
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
    try:
        fit(
            model,
            images,
            labels,
            rows,
            recipe,
            seed=member_seed(recipe, member, "order"),
            objective=_objective(prepared, recipe, treatment, plan, member, device),
            observer=observer,
            on_epoch=on_epoch,
            probe=probe,
            until=until,
            steps=steps_of(prepared, recipe),
        )
    except DivergedError as error:
        if not LOSSES.is_users(treatment.loss):
            raise
        raise DivergedError(f"{error}, unless loss {treatment.loss!r} itself is not finite for some logits") from None
    return model


def stored_member(
    prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, store: Store | None, *, device: str
) -> tuple[Answers, bool]:
    """The member's answers, from the store or trained and stored now; and whether it was trained."""
    found, trained = _stored(prepared, recipe, treatment, member, store, device)
    return with_posthoc(found, prepared, treatment), trained


def _stored(
    prepared: Prepared, recipe: Recipe, treatment: Treatment, member: int, store: Store | None, device: str
) -> tuple[Answers, bool]:
    if store is None:
        return train_member(prepared, recipe, treatment, member, device=device), True
    parts = entries(prepared, recipe, treatment, member, device)
    found = answers.find(store, parts)
    if found is not None:
        return found, False
    with store.alone(parts["member"]):
        found = answers.find(store, parts)  # a trial with an equivalent treatment may have trained it meanwhile
        if found is not None:
            return found, False
        trained = train_member(prepared, recipe, treatment, member, device=device)
        answers.keep(store, parts, trained)
    return trained, True


def _objective(
    prepared: Prepared, recipe: Recipe, treatment: Treatment, plan: Plan, member: int, device: str
) -> Objective:
    count = len(prepared.split.train) + len(plan.labels)
    loss = LOSSES[treatment.loss](count, prepared.split.num_classes, device)
    of_class, offsets = (torch.from_numpy(each).to(device) for each in (plan.class_weights, plan.class_offsets))
    reweighted, adjusted = bool((of_class != 1).any()), bool(offsets.any())

    def counted(values: Tensor, labels: Tensor) -> Tensor:
        return values * of_class[labels] if reweighted else values

    def per_sample(logits: Tensor, labels: Tensor, ids: Tensor) -> Tensor:
        return counted(loss(logits - offsets if adjusted else logits, labels, ids), labels)

    weights = weights_for(prepared, recipe, treatment, member, plan)
    if weights is None:
        return lambda logits, labels, ids: per_sample(logits, labels, ids).mean()
    # A synthesised image is as difficult as the sample that it was made from.
    s = torch.from_numpy(np.concatenate([weights, weights[plan.parents]])).to(device)
    return lambda logits, labels, ids: regularised(
        per_sample(logits, labels, ids), logits, counted(s[ids], labels), treatment.entropy_weight
    )
