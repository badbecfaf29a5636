"""Data and recipe in, scores out: the scoring ensemble member by member, and the frozen encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardtune.data import Progress, Samples, Split
from hardtune.errors import InputError
from hardtune.hardness.encoders import encode, encoder_identity, is_by_image
from hardtune.hardness.estimators import ESTIMATORS, class_hardness, data_scores, ensemble_scores, feature_scores
from hardtune.member import Prepared, member_seed
from hardtune.needs import Needs
from hardtune.recipe import Recipe
from hardtune.resampling.oversamplers import Pool
from hardtune.resampling.policies import POLICIES
from hardtune.scoring_member import finding_identities, findings_of, score_member
from hardtune.store import Store

Scores = dict[str, NDArray[np.float32]]


def encoded(
    split: Split,
    recipe: Recipe,
    store: Store,
    *,
    device: str,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """The training samples' features (N, D) from the recipe's encoder, read from the store if possible.

    Of two processes that ask for the same at once, one computes them, and the other waits and reads.
    """
    key = _features_identity(split, recipe)
    found = store.get(key)  # first without the lock, which who may only read cannot take
    if found is not None:
        return _of_training(split, recipe, found["features"])
    with store.alone(key):
        found = store.get(key)
        if found is None:
            whole = split.undivided() if is_by_image(recipe.encoder) else split
            found = {"features": encode(recipe.encoder, whole, device=device, progress=progress)}
            store.put(key, found)
    return _of_training(split, recipe, found["features"])


def images_encoded(split: Split, recipe: Recipe) -> int:
    """How many images :func:`encoded` encodes if they are not in the store."""
    return len(split.train) + (len(split.held) if is_by_image(recipe.encoder) else 0)


def is_encoded(split: Split, recipe: Recipe, store: Store) -> bool:
    """Whether the training samples' features are in the store."""
    return _features_identity(split, recipe) in store


def stored_features(split: Split, recipe: Recipe, store: Store) -> NDArray[np.float32]:
    """The same from the store alone; ``InputError`` if they are missing or damaged."""
    found = store.get(_features_identity(split, recipe))
    if found is None:
        raise InputError(
            f"the features from encoder {recipe.encoder!r} cannot be read from {store.root}: "
            "run the same command again, which makes what is missing"
        )
    return _of_training(split, recipe, found["features"])


def _features_identity(split: Split, recipe: Recipe) -> dict[str, Any]:
    data = {"images": split.images_digest} if is_by_image(recipe.encoder) else {"data": split.fingerprint}
    return {"kind": "features", **data, "encoder": encoder_identity(recipe.encoder)}


def _of_training(split: Split, recipe: Recipe, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """The training samples' rows of what is stored."""
    return features[split.places()] if is_by_image(recipe.encoder) else features


def gather(split: Split, recipe: Recipe, needs: Needs, store: Store, *, device: str) -> Prepared:
    """Everything that trials share, read from the store; :func:`prepare` also computes what is missing.

    ``device``: the kind that the scoring ensemble was trained on, ``cpu`` or ``cuda``, since their scores differ.

    Raises:
        InputError: a needed member or the features are missing.
    """
    scores: Scores = {}
    pool = None if split.pool is None else Pool(split.pool)
    if needs.ensemble:
        members = [
            findings_of(split, recipe, needs, member, store, device=device) for member in range(recipe.scoring_members)
        ]
        for name in sorted(needs.estimators):
            if ESTIMATORS[name].measured:
                scores[name] = ensemble_scores([member[name] for member in members])
        if needs.pool and split.pool is not None:
            pool = _judged(split.pool, members)
    features = None
    if needs.features:
        features = stored_features(split, recipe, store)
    scores |= computed_scores(split, recipe, needs, features)
    return Prepared(split, scores, features, pool, _hard_classes_of(split, recipe, store, device))


def computed_scores(split: Split, recipe: Recipe, needs: Needs, features: NDArray[np.float32] | None) -> Scores:
    """The needed scores, by estimator, that no network is trained for: from the data, and from features (N, D)."""
    labels, classes = split.train.labels, split.num_classes
    scores: Scores = {}
    for name in sorted(needs.estimators):
        source = ESTIMATORS[name].source
        if source == "data":
            scores[name] = data_scores(name, split)
        elif source == "features" and features is not None:
            scores[name] = feature_scores(name, features, labels, classes, seed=member_seed(recipe, 0, name))
    return scores


def _hard_classes_of(split: Split, recipe: Recipe, store: Store, device: str) -> NDArray[np.bool_] | None:
    """By AUM if it is stored, else None.

    Always by as many members as both the scoring ensemble and the control have: which of these two was trained depends
    on the treatments, and they must not be compared by different classes.
    """
    ensemble = min(recipe.scoring_members, recipe.members)
    keys = [finding_identities(split, recipe, Needs(), member, device)["dynamics"] for member in range(ensemble)]
    members = [store.get(key) for key in keys]
    found = [member["aum"] for member in members if member is not None]
    return hard_classes(ensemble_scores(found), split) if len(found) == ensemble else None


def hard_classes(aum: NDArray[np.float32], split: Split) -> NDArray[np.bool_]:
    """(K,) which classes are hard: those whose ratio R is above the mean (HBR: those that alpha = 1 gives more than N/K
    samples, which is the same if classes are equally large).

    Always by AUM, whatever estimator a treatment uses, so that Δhe compares the same classes in every trial of a sweep;
    by the paper's ratio, or by policy ``shift`` if a class's mean AUM is not above 0, where that ratio is meaningless.
    """
    hardness = class_hardness(aum, split.train.labels, split.num_classes)
    ratio = POLICIES["paper" if (hardness < 0).all() else "shift"](hardness, True, split.classes)
    hard: NDArray[np.bool_] = ratio > ratio.mean()
    return hard


def prepare(
    split: Split,
    recipe: Recipe,
    needs: Needs,
    store: Store,
    *,
    device: str = "cpu",
    on_member: Progress | None = None,
    on_epoch: Callable[[int], None] | None = None,
    on_encoded: Progress | None = None,
) -> Prepared:
    """Compute what is needed and not stored yet, one network after another, then gather all of it.

    ``on_encoded(done, of)`` is called as images are encoded, ``on_member(done, of)`` after each member of the scoring
    ensemble, ``on_epoch(finished)`` as one trains.
    """
    if needs.features:  # first, since it is quick, and anything may be wrong with an encoder or a user's estimator
        features = encoded(split, recipe, store, device=device, progress=on_encoded)
        computed_scores(split, recipe, needs, features)
    if needs.ensemble:
        for member in range(recipe.scoring_members):
            score_member(split, recipe, needs, member, store, device=device, on_epoch=on_epoch)
            if on_member is not None:
                on_member(member + 1, recipe.scoring_members)
    return gather(split, recipe, needs, store, device=device)


def _judged(pool: Samples, members: Sequence[Mapping[str, NDArray[Any]]]) -> Pool:
    """The pool with the ensemble's confidence in its images, and in the real ones of each class."""
    confidence = ensemble_scores([member["pool_confidence"] for member in members])
    by_class = np.mean([member["class_confidence"] for member in members], axis=0)
    return Pool(pool, confidence, by_class)
