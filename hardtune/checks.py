"""What is wrong with a treatment of some data, as far as it shows before a network is trained for it."""

from __future__ import annotations

import numpy as np

from hardtune.data import Split
from hardtune.errors import InputError
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.member import Prepared, needs_features, needs_pool
from hardtune.resampling.oversamplers import OVERSAMPLERS, Pool, Request
from hardtune.resampling.plan import ClassPlan, preview
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.losses import LOSSES
from hardtune.training.weights import SCALES, TARGETS
from hardtune.treatment import Treatment


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
    _check_policy(treatment.canonical())


def check_sources(split: Split, treatment: Treatment) -> None:
    """Raise ``InputError`` if a class could not gain a sample, as far as that shows before anything is scored."""
    treatment = treatment.canonical()
    if needs_pool(treatment) and split.pool is None:
        raise InputError(
            f"oversampling {treatment.oversample!r} needs a pool of synthetic images: name a folder with a sub-folder "
            "for each class, or an .npz file, with --pool (in Python: pool=)"
        )
    if treatment.alpha == 0 or treatment.prune_rate > 0:
        return
    none = np.empty(0, np.int64)
    unknown_scores = np.zeros(len(split.train), np.float32)
    unjudged = None
    if split.pool is not None:
        confidence = np.zeros(len(split.pool))
        unjudged = Pool(split.pool.images, split.pool.labels, confidence, np.zeros(split.num_classes))
    for label, name in enumerate(split.classes):
        members = np.flatnonzero(split.train.labels == label)
        features = unknown_scores[:, None]
        request = Request(name, label, 1, members, none, split.train, unknown_scores, features, unjudged)
        problem = OVERSAMPLERS[treatment.oversample].infeasible(request)
        if problem is not None:
            raise InputError(problem)


def preview_plan(prepared: Prepared, treatment: Treatment) -> tuple[ClassPlan, ...]:
    """What the treatment will do to each class.

    Raises:
        InputError: it cannot be done; the message names the treatment and the class.
    """
    try:
        rows = class_plans(prepared, treatment)
        for row in rows:
            if row.infeasible is not None:
                raise InputError(row.infeasible)
    except InputError as error:
        raise InputError(f"{treatment} cannot be carried out: {error}") from None
    return rows


def class_plans(prepared: Prepared, treatment: Treatment) -> tuple[ClassPlan, ...]:
    """The same with what cannot be done among it.

    Raises:
        InputError: there are no class counts at all.
    """
    treatment = treatment.canonical()
    scored = treatment.alpha > 0 or treatment.prune_rate > 0
    return preview(
        treatment,
        prepared.split.train,
        prepared.split.classes,
        scores=prepared.scores_of(treatment.estimator) if scored else None,
        low_is_hard=ESTIMATORS[treatment.estimator].low_is_hard,
        features=prepared.features if needs_features(treatment) else None,
        pool=prepared.pool,
    )


def _check_policy(treatment: Treatment) -> None:
    estimator = ESTIMATORS[treatment.estimator]
    if treatment.alpha > 0 and estimator.centred and treatment.policy in ("paper", "margin"):
        alike = [e.name for e in ESTIMATORS.values() if e.source == estimator.source and not e.centred]
        raise InputError(
            f"policy {treatment.policy!r} needs hardness above 0, and the scores of estimator {estimator.name!r} have "
            f"mean 0, so that some classes are always below it: choose policy 'shift', or an estimator such as "
            f"{' or '.join(map(repr, alike))}"
        )
