"""One member of the scoring ensemble: a control network that is observed in training and evaluated afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardtune import answers
from hardtune.data import Samples, Split
from hardtune.errors import InputError
from hardtune.hardness.dynamics import Dynamics
from hardtune.hardness.estimators import ESTIMATORS, class_hardness
from hardtune.member import Prepared, entries, identity, train_network
from hardtune.needs import Needs
from hardtune.recipe import Recipe
from hardtune.store import Store
from hardtune.training.fit import predict
from hardtune.training.gradients import gradient_norms
from hardtune.training.images import DeviceImages
from hardtune.treatment import Treatment

_ON_DEVICE = 100_000


def early_epoch(recipe: Recipe) -> int:
    """When EL2N and GraNd are read: a tenth into the run, which is HBR's epoch 20 of 200."""
    return max(1, round(recipe.epochs / 10))


def gradient_epochs(recipe: Recipe) -> dict[str, int]:
    """After how many epochs each gradient-based estimator is read."""
    return {"grand": early_epoch(recipe), "grand_init": 0}


def finding_identities(
    split: Split, recipe: Recipe, needs: Needs, member: int, device: str
) -> dict[str, dict[str, Any]]:
    """The store identity of each finding of a scoring-ensemble member: everything that determines it.

    ``dynamics`` are always included, since they cost nothing; gradient norms, by their estimator's name, and ``pool``
    only if needed.
    """
    network = identity(Prepared(split), recipe, Treatment(), member, device)
    versions = {name: e.version for name, e in sorted(ESTIMATORS.items()) if e.source == "dynamics"}
    found: dict[str, dict[str, Any]] = {
        "dynamics": {
            "kind": "dynamics",
            "versions": versions,
            "network": network,
            "early_epoch": early_epoch(recipe),
        }
    }
    if member >= recipe.scoring_members:
        return found
    for name, epoch in gradient_epochs(recipe).items():
        if name in needs.estimators:
            version = ESTIMATORS[name].version
            found[name] = {"kind": "gradients", "version": version, "network": network, "epoch": epoch}
    if needs.pool and split.pool is not None:
        found["pool"] = {"kind": "pool", "version": 1, "network": network, "pool": split.pool.fingerprint}
    return found


def score_member(
    split: Split,
    recipe: Recipe,
    needs: Needs,
    member: int,
    store: Store,
    *,
    device: str,
    on_epoch: Callable[[int], None] | None = None,
) -> bool:
    """Train and store one member of the scoring ensemble unless it is stored; returns whether it was trained.

    The scoring ensemble is the control's: one training run gives both scores and the control's logits. If only
    gradient norms are missing, which are read early, training ends there.
    """
    if is_scored(split, recipe, needs, member, store, device=device):
        return False
    prepared = Prepared(_asked(split, recipe, member))
    with store.alone(entries(prepared, recipe, Treatment(), member, device)["member"]):
        return _train_missing(prepared, recipe, needs, member, store, device, on_epoch)


def is_scored(
    split: Split, recipe: Recipe, needs: Needs, member: int, store: Store, *, device: str, whole: bool = False
) -> bool:
    """Whether a member of the scoring ensemble is in the store with everything that is needed.

    ``whole``: read it all, so that what is damaged is set aside and counts as missing.
    """
    parts = entries(Prepared(_asked(split, recipe, member)), recipe, Treatment(), member, device)
    findings = finding_identities(split, recipe, needs, member, device)
    keys = (*parts.values(), *findings.values())
    return all([store.get(key) is not None for key in keys] if whole else [key in store for key in keys])


def _train_missing(
    prepared: Prepared,
    recipe: Recipe,
    needs: Needs,
    member: int,
    store: Store,
    device: str,
    on_epoch: Callable[[int], None] | None,
) -> bool:
    split = prepared.split
    parts = entries(prepared, recipe, Treatment(), member, device)
    findings = finding_identities(split, recipe, needs, member, device)
    # Read, not only looked for: an NFS client may not know yet of what another node made while this one waited for it.
    lacking = {name for name, key in findings.items() if store.get(key) is None}
    answered = all(store.get(part) is not None for part in parts.values())
    if answered and not lacking:
        return False
    gradients = {name: epoch for name, epoch in gradient_epochs(recipe).items() if name in lacking}
    early = answered and lacking == gradients.keys()

    def probe(epoch: int, network: torch.nn.Module) -> None:
        for name in gradients:
            if gradients[name] == epoch:
                store.put(findings[name], {name: _gradient_norms(network, split, device)})

    dynamics = Dynamics(len(split.train), device=device, early_epoch=early_epoch(recipe))
    network = train_network(
        prepared,
        recipe,
        Treatment(),
        member,
        device=device,
        observer=None if early else dynamics,
        on_epoch=on_epoch,
        probe=probe,
        until=max(gradients.values()) if early else None,
    )
    if early:
        return True
    answers.keep(store, parts, answers.question(network, prepared.split, seed=recipe.seed, device=device))
    # A network may be retrained because more is asked of it; scores that others depend on must not change at all.
    if "dynamics" in lacking:
        store.put(findings["dynamics"], dynamics.scores())
    if "pool" in lacking and split.pool is not None:
        real = _confidence(network, split, split.train, device)
        by_class = class_hardness(real, split.train.labels, split.num_classes)
        store.put(
            findings["pool"],
            {"pool_confidence": _confidence(network, split, split.pool, device), "class_confidence": by_class},
        )
    return True


def _asked(split: Split, recipe: Recipe, member: int) -> Split:
    """Scoring members beyond the control's only score: they need no out-of-distribution or corrupted images."""
    return split if member < recipe.members else dataclasses.replace(split, ood=None, corruptions=())


def findings_of(
    split: Split, recipe: Recipe, needs: Needs, member: int, store: Store, *, device: str
) -> dict[str, NDArray[Any]]:
    """All findings of one scoring-ensemble member, by name: scores (N,), and its confidence in the pool.

    Raises:
        InputError: a finding is missing from the store, or damaged.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for kind, key in finding_identities(split, recipe, needs, member, device).items():
        found = store.get(key)
        if found is None:
            raise InputError(
                f"the {kind} of scoring member {member} cannot be read from {store.root} (trained on {device}): "
                "run the same command again, which makes what is missing"
            )
        arrays |= found
    return arrays


def _confidence(network: torch.nn.Module, split: Split, samples: Samples, device: str) -> NDArray[np.float32]:
    """The softmax probability (N,) of each sample's own class, without augmentation."""
    parts = []
    for start in range(0, len(samples), _ON_DEVICE):  # a pool may be larger than a device's memory
        rows = slice(start, start + _ON_DEVICE)
        images = DeviceImages(samples.images[rows], mean=split.mean, std=split.std, device=device)
        logits = predict(network, images, torch.arange(len(images.images), device=device))
        labels = torch.from_numpy(samples.labels[rows]).to(device)
        parts.append(logits.softmax(1).gather(1, labels[:, None]).squeeze(1).cpu().numpy())
    return np.concatenate(parts)


def _gradient_norms(network: torch.nn.Module, split: Split, device: str) -> NDArray[np.float32]:
    images = DeviceImages(split.train.images, mean=split.mean, std=split.std, device=device)
    batches = (images.batch(part) for part in torch.arange(len(split.train), device=device).split(1024))
    return gradient_norms(network, batches, torch.from_numpy(split.train.labels))
