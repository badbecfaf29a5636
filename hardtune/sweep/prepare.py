"""What all trials share, made once on the cluster before the first of them."""

from __future__ import annotations

from collections.abc import Callable

import ray
import torch

from hardtune.data import Split
from hardtune.member import Prepared
from hardtune.needs import Needs
from hardtune.recipe import Recipe
from hardtune.scoring import encoded, gather
from hardtune.scoring_member import is_scored, score_member
from hardtune.store import Store
from hardtune.sweep.cluster import Share


def control_members(recipe: Recipe, needs: Needs) -> int:
    """How many untreated networks there must be: the control's members are the scoring ensemble's."""
    return max(recipe.members, recipe.scoring_members if needs.ensemble else 0)


def prepare_on_cluster(
    split: Split,
    recipe: Recipe,
    needs: Needs,
    store: Store,
    share: Share,
    *,
    on_member: Callable[[int, int, int], None],
) -> Prepared:
    """Train the control's members (a task each, so that all nodes share the work), encode the images, gather scores.

    ``on_member(done, of, cached)`` is called at once, and whenever a member is done. What is in the store already is
    not made again; networks go on where a lost node left off, by Ray's own retries.
    """
    total = control_members(recipe, needs)
    missing = [
        member for member in range(total) if not is_scored(split, recipe, needs, member, store, device=share.device)
    ]
    cached = total - len(missing)
    on_member(cached, total, cached)
    shared = ray.put(split)
    options = {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_retries": 3}
    waiting = []
    if needs.features:
        waiting.append(_encode.options(**options).remote(shared, recipe, store.root, share.device))
    encoding = set(waiting)
    waiting += [
        _score.options(**options).remote(shared, recipe, needs, member, store.root, share.device, share.cpus)
        for member in missing
    ]
    done = cached
    while waiting:
        ready, waiting = ray.wait(waiting)
        ray.get(ready)
        if not encoding.intersection(ready):
            done += 1
            on_member(done, total, cached)
    return gather(split, recipe, needs, store, device=share.device)


def use_threads(cpus: float) -> None:
    """One torch thread for each whole CPU that Ray granted."""
    torch.set_num_threads(max(1, int(cpus)))


@ray.remote
def _score(split: Split, recipe: Recipe, needs: Needs, member: int, root: str, device: str, cpus: float) -> None:
    use_threads(cpus)
    score_member(split, recipe, needs, member, Store(root), device=device)


@ray.remote
def _encode(split: Split, recipe: Recipe, root: str, device: str) -> None:
    encoded(split, recipe, Store(root), device=device)
