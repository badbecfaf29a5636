"""One treatment in, one result out, member by member; no cluster needed.

>>> from hardtune import Recipe, Treatment, load, run
>>> recipe = Recipe(model="small_cnn", epochs=1, members=2, scoring_members=1, validation=0.25, encoder="pixels")
>>> result = run(Treatment(alpha=1.0, policy="shift"), load("digits"), recipe)
>>> sorted(result.held_out.member_mean)[:2]
['accuracy', 'accuracy_at_80']
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from hardtune.answers import Answers, with_shifts
from hardtune.checks import check_device, check_names, check_trials, class_plans
from hardtune.data import Dataset, Samples
from hardtune.errors import InputError
from hardtune.evaluation import (
    CORRUPTION_METRICS,
    Diagnostics,
    MemberSummary,
    diagnose,
    evaluate,
    evaluate_members,
    left_out,
    recall_left_out,
)
from hardtune.evaluation.corruptions import SEVERITIES
from hardtune.evaluation.jackknife import ood_left_out
from hardtune.evaluation.ood import ood_figures, ood_scores
from hardtune.hardness.encoders import check_encoder
from hardtune.member import Prepared, plan_for, stored_member, trained_on, weights_for
from hardtune.needs import needs_of
from hardtune.recipe import Recipe
from hardtune.registry import read_cells_again
from hardtune.resampling.class_plan import ClassPlan
from hardtune.scoring import is_encoded, prepare
from hardtune.store import Store
from hardtune.training.parallel import in_parallel
from hardtune.training.weights import WeightSummary, summarise
from hardtune.treatment import Treatment


@dataclass(frozen=True)
class Progress:
    """A trial's state after each member."""

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
    classes: tuple[ClassPlan, ...]
    """What the treatment did to each class: ``count`` samples in one epoch, the ``weight`` of their losses, …."""
    weights: WeightSummary | None
    """Summary of the entropy weights s that the first member trains with; None if the entropy term is off."""
    diagnostics: Diagnostics
    """Curves and per-class calibration on the test samples."""
    held_out_logits: NDArray[np.float32]
    """(members, N, K) for the split's held-out samples."""
    test_logits: NDArray[np.float32]
    """(members, N, K) for its test samples."""
    left_out: Mapping[str, Sequence[float]]
    """By full name: the mean over members with each part of the test samples (and of the out-of-distribution ones) left
    out in turn, for intervals."""
    recall_left_out: Sequence[Sequence[float]]
    """For each class, the mean of members' recall with each part of its test samples left out in turn."""
    ood: tuple[dict[str, float], ...] = ()
    """By member: how well each score separates test samples from out-of-distribution images, ``msp_auroc``, ….
    Empty if the split has none."""
    corruptions: tuple[tuple[str, int], ...] = ()
    """(kind, severity) of each corruption that was measured."""
    corrupted: NDArray[np.float32] | None = None
    """(members, corruptions, 2): accuracy and ECE on the test samples under each of them."""

    @property
    def warning(self) -> str:
        """One sentence if the weights cannot have the intended effect, else empty."""
        meant_to_differ = self.treatment.entropy_target not in ("constant", "mean")
        return (self.weights.warning or "") if self.weights is not None and meant_to_differ else ""

    def corruption_table(self) -> list[dict[str, str | int | float]]:
        """A row for each corruption: ``kind``, ``severity``, ``accuracy`` and ``ece`` with ``_std``, over members."""
        rows: list[dict[str, str | int | float]] = []
        for number, (kind, severity) in enumerate(self.corruptions):
            assert self.corrupted is not None
            row: dict[str, str | int | float] = {"kind": kind, "severity": severity}
            for column, name in enumerate(CORRUPTION_METRICS):
                row[name], row[f"{name}_std"] = _mean_and_std(self.corrupted[:, number, column])
            rows.append(row)
        return rows

    def by_member(self) -> dict[str, list[float]]:
        """Each member's figures by full name, for comparisons that pair members by their seed."""
        corruptions = [] if self.corrupted is None else self.corrupted.mean(axis=1, dtype=np.float64).tolist()
        groups: dict[str, Sequence[Mapping[str, float]]] = {
            "final": self.held_out.members,
            "test": self.test.members,
            "ood": self.ood,
            "corruptions": [dict(zip(CORRUPTION_METRICS, figures, strict=True)) for figures in corruptions],
        }
        return {
            f"{group}/{name}": [member[name] for member in members]
            for group, members in groups.items()
            if members
            for name in members[0]
        }

    def metrics(self) -> dict[str, float]:
        """Every figure by name.

        ``final/`` (mean over members), ``final_std/`` and ``ensemble/`` are measured on held-out samples; ``test/``,
        ``test_std/`` and ``test_ensemble/`` on test samples. ``ood/`` and ``corruptions/`` (over all kinds and
        severities) with their ``_std/`` are included if they were asked for. ``weights/`` are the mean, the standard
        deviation and the quantiles of the entropy weights.
        """
        figures: dict[str, float] = {}
        for name, values in self.by_member().items():
            group, _, metric = name.partition("/")
            figures[name], figures[f"{group}_std/{metric}"] = _mean_and_std(values)
        for prefix, more in (("ensemble", self.held_out.ensemble), ("test_ensemble", self.test.ensemble)):
            figures |= {f"{prefix}/{name}": value for name, value in more.items()}
        if self.weights is not None:
            figures |= {f"weights/{name}": value for name, value in self.weights.metrics().items()}
        return figures


def run_trial(
    treatment: Treatment,
    prepared: Prepared,
    recipe: Recipe,
    store: Store | None = None,
    *,
    device: str = "cpu",
    at_once: int = 1,
    on_member: Callable[[Progress], None] | None = None,
) -> Result:
    """Train the treatment's ensemble (or find its members in the store) and measure it.

    ``at_once`` members train concurrently, each in its own thread and CUDA stream, to fill a GPU that one network
    cannot fill; the networks are the same (except for random draws by layers on a GPU, see ``MODELS``). On a CPU only
    one trains at a time. Members that do not fit in the GPU's memory train after the others.

    Raises:
        InputError: the treatment cannot be carried out on these data.
        DivergedError: a member's training gave NaN or infinity.
    """
    split, hard = prepared.split, prepared.hard_classes
    members: list[Answers] = []

    def one(member: int) -> tuple[Answers, bool]:
        return stored_member(prepared, recipe, treatment, member, store, device=device)

    for member, (answers, trained) in enumerate(in_parallel(one, range(recipe.members), at_once)):
        members.append(answers)
        if on_member is not None:
            newest = evaluate(answers.held_out, split.held_out.labels, hard_classes=hard)
            on_member(Progress(member + 1, recipe.members, trained, newest))
    held_out = np.stack([answers.held_out for answers in members])
    test = np.stack([answers.test for answers in members])
    # Temperatures are fitted on held-out samples; under the papers' protocol there are none besides the test.
    fitted_on = None if split.chooses_on_test else (held_out, split.held_out.labels)
    tested = evaluate_members(test, split.test.labels, hard_classes=hard, held_out=fitted_on)
    temperatures = None if fitted_on is None else [member["temperature"] for member in tested.members]
    scores = [
        ood_scores(answers.test, answers.ood, answers.distances)
        for answers in members
        if answers.ood is not None and answers.distances is not None
    ]
    without = {
        "test": left_out(test, split.test.labels, hard_classes=hard, temperatures=temperatures),
        "ood": ood_left_out(scores, split.test.labels),
        "corruptions": _corrupted_left_out(members),
    }
    return Result(
        treatment=treatment,
        held_out=evaluate_members(held_out, split.held_out.labels, hard_classes=hard),
        test=tested,
        classes=class_plans(prepared, treatment),
        weights=_summary(prepared, recipe, treatment),
        diagnostics=diagnose(test, split.test.labels),
        held_out_logits=held_out,
        test_logits=test,
        left_out={f"{group}/{name}": values for group, found in without.items() for name, values in found.items()},
        recall_left_out=recall_left_out(test, split.test.labels),
        ood=tuple(map(ood_figures, scores)),
        corruptions=split.corruptions,
        corrupted=np.stack([answers.corrupted for answers in members if answers.corrupted is not None])
        if split.corruptions
        else None,
    )


def _summary(prepared: Prepared, recipe: Recipe, treatment: Treatment) -> WeightSummary | None:
    """Of the entropy weights of what the first member's epochs train on, repeats and all."""
    if treatment.canonical().entropy_weight == 0:
        return None
    plan = plan_for(prepared, recipe, treatment, 0)
    weights = weights_for(prepared, recipe, treatment, 0, plan)
    return None if weights is None else summarise(weights[trained_on(plan)])


def _corrupted_left_out(members: Sequence[Answers]) -> dict[str, list[float]]:
    """The mean over members and corruptions with each part of the test samples left out in turn, by metric."""
    each = [answers.corrupted_left_out for answers in members if answers.corrupted_left_out is not None]
    if not each or not len(each[0]):
        return {}
    return dict(zip(CORRUPTION_METRICS, np.stack(each).mean(axis=0, dtype=np.float64).T.tolist(), strict=True))


def run(
    treatment: Treatment,
    dataset: Dataset,
    recipe: Recipe,
    store: Store | str | os.PathLike[str] | None = None,
    *,
    pool: Samples | None = None,
    ood: str | Path | NDArray[np.uint8] | None = None,
    corruptions: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    on_scored: Callable[[int, int], None] | None = None,
    on_member: Callable[[Progress], None] | None = None,
) -> Result:
    """Score, treat, train and measure in one call: the whole of hardtune without a cluster.

    A scoring ensemble's AUM tells which classes are hard: ``recall_hard_easy`` is among the metrics only if this
    treatment, or an earlier one with the same store, needed one.

    Args:
        store: a ``Store``, or its path or URL; without one nothing is kept.
        pool: synthetic images, as ``hardtune.data.load_pool`` reads them.
        ood: as in a sweep, or images: uint8 (N, H, W, C).
        corruptions, severities: as in a sweep.
        data_dir: where the data set that ``ood`` names is; as in ``hardtune.load``.
        on_scored: called with (done, of) after each member of the scoring ensemble.
        on_member: called after each member of the treated ensemble.

    Raises:
        InputError: anything wrong with the arguments, before a network is trained; or, once the scoring ensemble
            has shown which classes gain, a class for which this is not possible.
        DivergedError: a network's training gave NaN or infinity.
    """
    for given, kind in ((treatment, Treatment), (dataset, Dataset), (recipe, Recipe)):
        if not isinstance(given, kind):
            raise InputError(f"run() takes a Treatment, a Dataset (see hardtune.load) and a Recipe, got {given!r:.80}")
    if not isinstance(store, (Store, str, os.PathLike, type(None))):
        raise InputError(f"store must be a Store, or its path or URL, got {store!r:.80}")
    if pool is not None and not isinstance(pool, Samples):
        raise InputError(f"pool must be Samples (see hardtune.data.load_pool), got {type(pool).__name__}")
    read_cells_again()
    device = str(device)
    check_names(treatment)
    check_device(device)
    split = with_shifts(
        dataset.hold_out(recipe.validation, recipe.seed),
        dataset,
        ood=ood,
        corruptions=corruptions,
        severities=severities,
        data_dir=data_dir,
    )
    if pool is not None:
        split = dataclasses.replace(split, pool=dataclasses.replace(pool))  # which hashes what is in it now
    check_trials(split, recipe, [treatment], every_class=False)
    with tempfile.TemporaryDirectory() as scratch:
        kept = store if isinstance(store, Store) else Store(scratch if store is None else store)
        kept.check_writable()
        needs = needs_of([treatment])
        if needs.features and not is_encoded(split, recipe, kept):
            check_encoder(recipe.encoder, dataset)
        prepared = prepare(split, recipe, needs, kept, device=device, on_member=on_scored)
        return run_trial(treatment, prepared, recipe, kept, device=device, on_member=on_member)


def _mean_and_std(values: ArrayLike) -> tuple[float, float]:
    figures = np.asarray(values, np.float64)
    return float(figures.mean()), float(std_over_members(figures))


def std_over_members(figures: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sample standard deviation over members, of figures (M, …): (…), 0 for a single member."""
    return np.asarray(figures.std(axis=0, ddof=1 if len(figures) > 1 else 0))
