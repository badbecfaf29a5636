"""Prepares what all trials share, once, on the cluster, before the first trial."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray

from hardtune.data import Progress, Split
from hardtune.errors import DivergedError, HardtuneWarning, InputError
from hardtune.member import Prepared
from hardtune.needs import Needs
from hardtune.recipe import Recipe
from hardtune.scoring import computed_scores, encoded, gather, images_encoded, is_encoded, stored_features
from hardtune.scoring_member import is_scored, score_member
from hardtune.store import Store
from hardtune.sweep.cluster import Share
from hardtune.sweep.counter import Counter, counter_in
from hardtune.training.choices import is_resolved, resolved
from hardtune.training.parallel import in_parallel
from hardtune.training.worker import configure_process
from hardtune.warned import collected

MAX_RETRIES = 10
"""How often a task is retried after its worker or node died; on preemptible nodes that is no sign of a mistake."""


def control_members(recipe: Recipe, needs: Needs) -> int:
    """How many untreated networks are needed: the control's members are those of the scoring ensemble."""
    return max(recipe.members, recipe.scoring_members if needs.ensemble else 0)


def resolved_on_cluster(recipe: Recipe, share: Share) -> Recipe:
    """The recipe with what it leaves to the device resolved once for all trials, where a trial would run."""
    if is_resolved(recipe):
        return recipe
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=MAX_RETRIES)(resolved)
    decided: Recipe = outcome(task.remote(recipe, share.device))
    return decided


def outcome(tasks: Any) -> Any:
    """``ray.get`` of a task, or of a list of them.

    Raises:
        InputError, DivergedError: a task raised it, which Ray wraps; or Ray gave one up, since its workers or nodes
            died again and again.
    """
    try:
        return ray.get(tasks)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, (InputError, DivergedError)) else error from None
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        raise InputError(
            "a worker died again and again at the same task, so it may need more memory than its node has: let fewer "
            "run at once (--cpus-per-trial); the same command goes on from what is done"
        ) from error


def prepare_on_cluster(
    split: Split,
    recipe: Recipe,
    needs: Needs,
    store: Store,
    share: Share,
    *,
    on_member: Callable[[int, int, int], None],
    on_encoded: Progress = lambda done, of: None,
) -> Prepared:
    """Train the control's members (in tasks spread over all nodes), encode the images, gather scores.

    ``on_member(done, of, cached)`` is called at the start and after each member; ``on_encoded(done, of)`` every second
    while images are being encoded, and at the end. What is already in the store is not made again; the tasks of lost
    nodes and killed workers are retried by Ray.

    Raises:
        InputError: one thing was lost with its worker again and again.
    """
    total = control_members(recipe, needs)
    missing = [
        member
        for member in range(total)
        if not is_scored(split, recipe, needs, member, store, device=share.device, whole=True)
    ]
    cached = total - len(missing)
    on_member(cached, total, cached)
    slots = share.slots(ray.cluster_resources())
    shared = ray.put(split)
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": MAX_RETRIES}
    done, images = cached, images_encoded(split, recipe) if needs.features else 0

    def check_estimators() -> None:
        """Fail on a user's estimator before the ensemble is trained, not after."""
        computed_scores(split, recipe, needs, stored_features(split, recipe, store))

    with counter_in(Path(store.root)) as encoded_so_far:
        waiting = []
        if needs.features and is_encoded(split, recipe, store):
            if missing:
                check_estimators()
        elif needs.features:
            waiting.append(_encode.options(**options).remote(shared, recipe, store.root, share.device, encoded_so_far))
        encoding = set(waiting)
        groups = {
            _score.options(**options).remote(shared, recipe, needs, group, store.root, share): len(group)
            for group in _groups(missing, share, slots)
        }
        waiting += groups
        while waiting:
            ready, waiting = ray.wait(waiting, timeout=1 if encoding else None)
            for warning in (text for told in outcome(ready) for text in told or ()):
                warnings.warn(warning, HardtuneWarning, stacklevel=2)
            finished = encoding.intersection(ready)
            encoding -= finished
            if finished:
                on_encoded(images, images)
                check_estimators()
            elif encoding:
                on_encoded(encoded_so_far.read(), images)
            for group in groups.keys() & set(ready):
                done += groups[group]
                on_member(done, total, cached)
    return gather(split, recipe, needs, store, device=share.device)


def _groups(members: list[int], share: Share, slots: int) -> list[list[int]]:
    """The members that each task trains: as many as fit a GPU at once, but few enough to keep all slots busy."""
    size = max(1, min(share.at_once, -(-len(members) // slots)))
    return [members[start : start + size] for start in range(0, len(members), size)]


@ray.remote
def _score(split: Split, recipe: Recipe, needs: Needs, members: list[int], root: str, share: Share) -> list[str]:
    """Train members; returns the warnings."""
    configure_process(share.cpus)

    def one(member: int) -> bool:
        return score_member(split, recipe, needs, member, Store(root), device=share.device)

    with collected() as said:
        list(in_parallel(one, members, len(members)))
    return said


@ray.remote
def _encode(split: Split, recipe: Recipe, root: str, device: str, counter: Counter) -> None:
    encoded(split, recipe, Store(root), device=device, progress=lambda done, of: counter.write(done))
