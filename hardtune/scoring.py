"""Data and recipe in, scores out: the scoring ensemble member by member, and the frozen encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune import legacy
from hardtune.data import Split
from hardtune.hardness.dynamics import Dynamics
from hardtune.hardness.encoders import encode, encoder_identity
from hardtune.hardness.estimators import ESTIMATORS, class_hardness, ensemble_scores, feature_scores
from hardtune.member import Prepared, entries, identity, member_seed, needed_scores, needs_features, train_member
from hardtune.recipe import Recipe
from hardtune.resampling.policies import POLICIES
from hardtune.store import Store
from hardtune.treatment import Treatment

Scores = dict[str, NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Needs:
    """What must be made before the first trial."""

    estimators: frozenset[str]
    features: bool

    @property
    def dynamics(self) -> bool:
        """Whether a scoring ensemble must be trained for any of the estimators."""
        return any(ESTIMATORS[name].source != "features" for name in self.estimators)


def needs_of(treatments: Iterable[Treatment]) -> Needs:
    """What a set of treatments asks for; unknown estimators raise ``InputError``."""
    treatments = list(treatments)
    estimators = frozenset().union(*(needed_scores(treatment) for treatment in treatments))
    from_features = any(ESTIMATORS[name].source == "features" for name in estimators)
    return Needs(estimators, from_features or any(map(needs_features, treatments)))


def early_epoch(recipe: Recipe) -> int:
    """When EL2N and GraNd are read: a tenth into the run, which is HBR's epoch 20 of 200."""
    return max(1, round(recipe.epochs / 10))


def dynamics_identity(split: Split, recipe: Recipe, member: int, device: str) -> dict[str, Any]:
    """Everything that decides one member's scores, for the store."""
    return {
        "kind": "dynamics",
        "versions": {name: e.version for name, e in sorted(ESTIMATORS.items()) if e.source == "dynamics"},
        "network": identity(Prepared(split), recipe, Treatment(), member, device),
        "early_epoch": early_epoch(recipe),
    }


def score_member(
    split: Split,
    recipe: Recipe,
    member: int,
    store: Store,
    *,
    device: str,
    on_epoch: Callable[[int], None] | None = None,
) -> bool:
    """Train one member of the scoring ensemble into the store, unless it is there; returns whether it was trained.

    The scoring ensemble is the control's: the same training gives the scores and the control's logits.
    """
    prepared = Prepared(_asked(split, recipe, member))
    parts = entries(prepared, recipe, Treatment(), member, device)
    scores = dynamics_identity(split, recipe, member, device)
    if is_scored(split, recipe, member, store, device=device):
        return False
    dynamics = Dynamics(len(split.train), device=device, early_epoch=early_epoch(recipe))
    trained = train_member(prepared, recipe, Treatment(), member, device=device, observer=dynamics, on_epoch=on_epoch)
    legacy.keep(store, parts, trained)
    # A network may be trained again because more is asked of it; scores that others rest on must not move by a hair.
    if scores not in store:
        store.put(scores, dynamics.scores())
    return True


def is_scored(split: Split, recipe: Recipe, member: int, store: Store, *, device: str) -> bool:
    """Whether a member of the scoring ensemble is in the store with all that will be read of it."""
    parts = entries(Prepared(_asked(split, recipe, member)), recipe, Treatment(), member, device)
    return dynamics_identity(split, recipe, member, device) in store and all(part in store for part in parts.values())


def _asked(split: Split, recipe: Recipe, member: int) -> Split:
    """Beyond the control's members the scoring ensemble only scores, and need not be shown any shifted images."""
    return split if member < recipe.members else dataclasses.replace(split, ood=None, corruptions=())


def encoded(
    split: Split,
    recipe: Recipe,
    store: Store,
    *,
    device: str,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:
    """The training samples' features (N, D) from the recipe's encoder, from the store where they are there."""
    key = {"kind": "features", "data": split.fingerprint, "encoder": encoder_identity(recipe.encoder)}
    found = store.get(key)
    if found is None:
        features = encode(recipe.encoder, split, device=device, progress=progress)
        store.put(key, {"features": features})
        return features
    return found["features"]


def gather(split: Split, recipe: Recipe, needs: Needs, store: Store, *, device: str) -> Prepared:
    """Everything that trials share, once the members that it needs are in the store."""
    scores: Scores = {}
    ensemble = recipe.scoring_members if needs.dynamics else recipe.members
    members = [store.get(dynamics_identity(split, recipe, member, device)) for member in range(ensemble)]
    found = [member for member in members if member is not None]
    for name in sorted(needs.estimators):
        if ESTIMATORS[name].source == "dynamics":
            scores[name] = ensemble_scores([member[name] for member in found])
    whole = len(found) == ensemble
    hard = hard_classes(ensemble_scores([member["aum"] for member in found]), split) if whole else None
    features = encoded(split, recipe, store, device=device) if needs.features else None
    for name in sorted(needs.estimators):
        if ESTIMATORS[name].source == "features" and features is not None:
            seed = member_seed(recipe, 0, name)
            scores[name] = feature_scores(name, features, split.train.labels, split.num_classes, seed=seed)
    return Prepared(split, scores, features, hard)


def hard_classes(aum: NDArray[np.float32], split: Split) -> NDArray[np.bool_]:
    """(K,) which classes HBR calls hard: those that alpha = 1 would give more than N/K samples, S_c > N/K.

    Always by AUM, whatever estimator a treatment uses, so that Δhe compares the same classes in every trial of a sweep;
    by the paper's ratio, or the policy ``shift`` where a class's mean AUM is not above 0 and that ratio has no meaning.
    """
    hardness = class_hardness(aum, split.train.labels, split.num_classes)
    ratio = POLICIES["paper" if (hardness < 0).all() else "shift"](hardness, True, split.classes)
    hard: NDArray[np.bool_] = ratio > ratio.mean()
    return hard


def prepare(
    split: Split,
    recipe: Recipe,
    treatments: Iterable[Treatment],
    store: Store,
    *,
    device: str = "cpu",
    on_member: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Make what the treatments ask for, one network after another; a sweep does the same with a task a member.

    ``on_member(done, of)`` is called after each member of the scoring ensemble.
    """
    needs = needs_of(treatments)
    if needs.dynamics:
        for member in range(recipe.scoring_members):
            score_member(split, recipe, member, store, device=device)
            if on_member is not None:
                on_member(member + 1, recipe.scoring_members)
    return gather(split, recipe, needs, store, device=device)
