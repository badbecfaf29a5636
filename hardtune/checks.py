"""Checks for invalid requests, as far as they can be detected before any network is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from hardtune.data import Split
from hardtune.data.split import by_class
from hardtune.errors import InputError, blamed
from hardtune.evaluation import check_metrics
from hardtune.evaluation.corruptions import corrupt
from hardtune.evaluation.ood import OOD_SCORES, ood_score
from hardtune.hardness.estimators import ESTIMATORS, check_estimator, data_scores
from hardtune.member import Prepared, plan_arguments
from hardtune.needs import named_in, needed_scores, needs_pool
from hardtune.recipe import Recipe
from hardtune.rehearsal import rehearse
from hardtune.resampling.class_plan import ClassPlan
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool, Request
from hardtune.resampling.plan import check_feasible, preview
from hardtune.resampling.policies import check_policy
from hardtune.resampling.prune import PRUNERS, check_pruning
from hardtune.training.features import last_linear
from hardtune.training.fit import check_model
from hardtune.training.images import DeviceImages
from hardtune.training.losses import check_loss
from hardtune.treatment import Treatment


def check_names(treatment: Treatment) -> None:
    """Raise ``InputError``, listing the valid choices, for a name in the treatment that is not registered."""
    for registry, name in named_in(treatment):
        registry[name]
    for name in needed_scores(treatment):
        check_estimator(name)
    check_policy(treatment.canonical())
    check_pruning(treatment)


def check_trials(split: Split, recipe: Recipe, treatments: Sequence[Treatment], *, every_class: bool = True) -> None:
    """Raise ``InputError`` for anything in data or recipe that would stop the trials, except names and encoder.

    ``every_class``: as in :func:`check_sources`.
    """
    check_sources(split, treatments, every_class=every_class)
    for name in sorted(set().union(*map(needed_scores, treatments))):
        if ESTIMATORS[name].source == "data":
            data_scores(name, split)
    rehearse(split, treatments)
    for name in sorted({treatment.loss for treatment in treatments}):
        check_loss(name, split.num_classes, len(split.train), recipe.batch_size)
    check_network(split, recipe)
    _check_shifts(split)
    for samples in (split.held_out, split.test):
        check_metrics(samples.labels, split.num_classes)


def check_device(device: str) -> None:
    """Raise ``InputError`` for a device that torch does not know, or that this machine does not have."""
    try:
        torch.empty(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # which one depends on the build of torch
        gpus = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"cannot train on device {device!r} ({reason}): choose from {', '.join(['cpu', *gpus])}"
        ) from None


def check_network(split: Split, recipe: Recipe) -> None:
    """Raise ``InputError`` unless the recipe's network accepts these images, distinguishes these classes and supports
    what the split asks for."""
    two = DeviceImages(split.train.images[:2], mean=split.mean, std=split.std, device="cpu")
    network = check_model(recipe, two, split.num_classes)
    if split.ood is not None:
        last_linear(network, two, torch.arange(2))


def _check_shifts(split: Split) -> None:
    """Raise ``InputError`` unless the test images can be corrupted, and foreign images told, as the split asks."""
    for kind, severity in split.corruptions:
        with blamed(f"corruption {kind!r} fails at severity {severity}"):
            corrupt(split.test.images[:2], kind, severity)
    for name in OOD_SCORES if split.ood is not None else ():
        ood_score(name, 9 * np.eye(2, split.num_classes))


def check_sources(split: Split, treatments: Sequence[Treatment], *, every_class: bool = True) -> None:
    """Raise ``InputError`` if a class could not gain what it should, as far as that is known before scoring.

    Only scores tell which classes gain, unless these follow their sizes alone. In a sweep any class might, so one that
    cannot is an error; a single treatment is certain to fail only if no class can gain (``every_class=False``).
    """
    for treatment in _of_other_sources(treatments):
        _check_sources(split, treatment, every_class)


def _check_sources(split: Split, treatment: Treatment, every_class: bool) -> None:
    if needs_pool(treatment) and split.pool is None:
        raise InputError(
            f"oversampling {treatment.oversample!r} needs a pool of synthetic images: name a folder with a sub-folder "
            "for each class, or an .npz file, with --pool (in Python: pool=)"
        )
    if not treatment.resamples:
        return
    unknown_scores = np.zeros(len(split.train), np.float32)
    features = unknown_scores[:, None]
    unjudged = None
    if split.pool is not None:
        unjudged = Pool(split.pool, np.zeros(len(split.pool)), np.zeros(split.num_classes))
    if not treatment.needs_scores:
        rows = preview(treatment, split.train, split.classes, scores=None, features=features, pool=unjudged)
        check_feasible({row.name: row.infeasible for row in rows})
        return
    kept = np.ones(len(split.train), bool)
    # How many of each class are pruned may be known, but in a sweep's range other rates leave more.
    if treatment.prune in ("class", "random") and not every_class:
        kept[:] = False
        any_draw = np.random.default_rng(0)
        kept[PRUNERS[treatment.prune](unknown_scores, split.train.labels, treatment.prune_rate, any_draw)] = True
    reasons = {}
    members = by_class(split.train.labels, split.num_classes)
    for label, (name, own) in enumerate(zip(split.classes, members, strict=True)):
        pruned = own if treatment.prune_rate > 0 else own[:0]  # at most
        request = Request(name, label, 1, own[kept[own]], pruned, split.train, unknown_scores, features, unjudged)
        reasons[name] = OVERSAMPLERS[treatment.oversample].infeasible(request)
    check_feasible(reasons, fewest=1 if every_class else split.num_classes)


def _of_other_sources(treatments: Sequence[Treatment]) -> list[Treatment]:
    """Those that differ in what :func:`check_sources` looks at: with a thousand classes, once is slow enough."""
    first: dict[object, Treatment] = {}
    for it in (treatment.canonical() for treatment in treatments):
        by_sizes = (it.balance, it.undersample) if it.resamples and not it.needs_scores else None
        first.setdefault((it.resamples, by_sizes, it.oversample, it.prune, it.prune_rate), it)
    return list(first.values())


def preview_plan(prepared: Prepared, treatment: Treatment) -> tuple[ClassPlan, ...]:
    """What the treatment will do to each class.

    Raises:
        InputError: it cannot be done; the message names the treatment and the class.
    """
    try:
        rows = class_plans(prepared, treatment)
        check_feasible({row.name: row.infeasible for row in rows})
    except InputError as error:
        raise InputError(f"{treatment} cannot be carried out: {error}") from None
    return rows


def class_plans(prepared: Prepared, treatment: Treatment) -> tuple[ClassPlan, ...]:
    """Like :func:`preview_plan`, but keeps infeasible rows.

    Raises:
        InputError: class counts cannot be computed.
    """
    return preview(**plan_arguments(prepared, treatment))
