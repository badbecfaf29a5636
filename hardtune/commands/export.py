"""Export a trial: its networks' predictions and weights, what they were trained on, and how to load them.

    python -m hardtune export sweeps/digits.py --trial 13
    python -m hardtune export sweeps/digits.py --trial 13 --members 0      predictions alone: trains nothing
    python -m hardtune export sweeps/cifar10.py --trial control --members 5 --out models/plain
    python -m hardtune export sweeps/digits.py --sweep digits-20260501-101500 --trial 3

A sweep keeps its networks' predictions but never their weights, so the trial's first networks are retrained here, with
their recipe and seeds, and compared with the stored predictions: on the sweep's CPU they match to the bit. This
takes as long as in the sweep, whose recipe cannot be changed here (--recipe only states what you expect it to be). The
scores that the treatment is based on are read from the store; --score computes missing ones.

The folder gets predictions.npz, with the logits that all of the trial's networks gave held-out and test samples;
member-0.safetensors, …; model.json, their metadata; README.md, code that loads them; and training-set.csv, with a row
for each sample of the data set's training split that --imbalance left in: what its loss counted, how often each network
saw it per epoch, how many images were synthesised from it, and its entropy weight.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardtune import durable
from hardtune.command_line import plain_console, progress_bar, recipe_changes, show_path
from hardtune.commands.subject import (
    Subject,
    add_subject_flags,
    devices,
    missing,
    subject_of,
    with_scores,
)
from hardtune.errors import InputError

MAX_CHANGED = 0.2
"""The share of predictions that rounding differences alone may change: half-trained networks differ by that much."""

if TYPE_CHECKING:
    import torch

    from hardtune.answers import Answers
    from hardtune.data import Split
    from hardtune.member import Prepared
    from hardtune.recipe import Recipe
    from hardtune.report.records import Record
    from hardtune.report.sweeps import Kept
    from hardtune.treatment import Treatment


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add the subject's flags, which trial of which sweep, and what to export."""
    add_subject_flags(flags)
    what = flags.add_argument_group("what to export")
    what.add_argument("--trial", metavar="N", help="the trial's number, or control")
    what.add_argument("--sweep", metavar="ID", help="the trial's sweep (default: the latest of the script)")
    what.add_argument(
        "--members",
        type=int,
        default=1,
        metavar="N",
        help="retrain the first N of its networks (default: %(default)s; 0: none, for its predictions alone)",
    )
    what.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: in the storage's folder exports)"
    )


def run(options: argparse.Namespace) -> int:
    """Train, compare and write; 0."""
    import numpy as np

    from hardtune.answers import shift_of
    from hardtune.data import files_of
    from hardtune.member import epochs_of, posthoc_of
    from hardtune.report.export import (
        exported,
        exported_predictions,
        make_room,
        predictions_of,
        write_about,
        write_training_set,
        write_weights,
    )
    from hardtune.report.sweeps import find
    from hardtune.training.worker import configure_process

    subject = subject_of(options, recipe=[])
    kept = find(subject.storage, options.sweep or subject.name)
    record = _trial(kept, options.trial)
    treatment = record.treatment
    subject = _as_it_was(subject, kept, options)
    _check(subject, kept, treatment, options)
    trial = "control" if record.is_control else f"trial-{record.number}"
    folder: Path = options.out or subject.storage / "exports" / f"{kept.id}-{trial}"
    if options.out is not None:
        make_room(folder, kept, record)  # report problems with it before anything is trained
    theirs = kept.settled["device"]
    device = options.device or ("cpu" if theirs == "cpu" else devices()[0])
    prepared = _prepared(subject, treatment, theirs, device, options)
    make_room(folder, kept, record)

    console = plain_console()
    console.print(f"{trial.replace('-', ' ')} of {kept.id}: {treatment}", soft_wrap=True)
    if options.members and theirs != device:
        console.print(f"the sweep trained on {theirs}, and this is {device}: networks will be like its own, not equal")
    # As many threads as a trial of the sweep had: another number would change the rounding of sums.
    configure_process(kept.cpus_per_trial)
    recipe = subject.recipe
    training_files, test_files = files_of(subject.data)
    stored = _stored(prepared, subject, treatment, theirs)
    # The store may have lost since what was exported from it.
    found = predictions_of(prepared.split, stored, training_files, test_files), exported_predictions(folder)
    predictions = max(found, key=lambda one: len(one.get("members", ())))
    # Those that are there stay until they are replaced: hours of training may have gone into them.
    members: dict[str, dict[str, Any]] = {one["file"]: one for one in exported(folder)}

    def tell() -> None:  # after each network: whoever interrupts the next finds all that is there described
        write_about(folder, kept, record, prepared, recipe, predictions=predictions, members=[*members.values()])

    tell()
    if predictions:
        np.savez(content := io.BytesIO(), **predictions)  # type: ignore[arg-type]
        durable.write(folder / "predictions.npz", content.getbuffer())
    files = [f"member-{member}.safetensors" for member in range(options.members)]
    described = folder / "training-set.csv"
    if len(files) > len(members) or (files and not described.exists()):
        write_training_set(prepared, recipe, treatment, len(files), training_files, described)
    epochs = math.ceil(epochs_of(prepared, recipe, treatment))
    with progress_bar() as progress:
        bar = progress.add_task(f"networks: {options.members}, epochs", total=epochs * options.members)
        for member, file in enumerate(files):

            def on_epoch(epoch: int, before: int = member * epochs) -> None:
                progress.update(bar, completed=before + epoch)

            network, mine = _trained(prepared, recipe, treatment, member, device, on_epoch)
            shift = shift_of(posthoc_of(prepared, treatment), mine.held_out, prepared.split)
            said = _said(mine.shifted(shift), stored.get(member), prepared.split, theirs, device)
            write_weights(network, folder / file)
            members[file] = {"file": file, "trained_on": device, "posthoc": shift.tolist(), **said}
            tell()
    more = {path.name for path in folder.glob("member-*.safetensors")} - {*files} if files else set()
    if more:
        members = {file: members[file] for file in files}
        write_training_set(prepared, recipe, treatment, len(files), training_files, described)
        tell()
        for old in more:
            (folder / old).unlink()
    there = len(predictions.get("members", ()))
    console.print(
        f"predictions.npz: those of {there} of its {recipe.members} networks, as the sweep stored them"
        if there
        else "no predictions.npz: the store has no predictions of its networks"
    )
    for number, file in enumerate(files):
        console.print(f"member {number}: {members[file]['compared']}", soft_wrap=True)
    show_path(console, "folder", folder)
    return 0


def _trial(kept: Kept, wanted: str | None) -> Record:
    there = {str(record.trial): record for record in kept.records}
    if not there:
        raise InputError(f"sweep {kept.id} has no results yet: not even its control is trained")
    choices = f"choose from {', '.join(there)}"
    if wanted is None:
        raise InputError(f"name the trial of {kept.id} to export with --trial: {choices}")
    if wanted not in there:
        raise InputError(f"{kept.id} has no trial {wanted!r} that has ended: {choices}")
    return there[wanted]


def _as_it_was(subject: Subject, kept: Kept, options: argparse.Namespace) -> Subject:
    """The subject with the sweep's own resolved recipe; ``InputError`` if the sweep's data differ."""
    if subject.dataset.fingerprint != kept.data_fingerprint:
        raise InputError(
            f"{kept.id} used other data than {subject.data} is here: give the --data, --data-dir and --image-size "
            "that it had (sweeps with --smoke cannot be exported)"
        )
    for name, value in recipe_changes(options.recipe).items():
        had = getattr(kept.recipe, name)
        if getattr(dataclasses.replace(kept.recipe, **{name: value}), name) != had:
            raise InputError(
                f"{kept.id} had {name}={had}, and its networks are trained as they were: leave {name} out, or name "
                "another sweep with --sweep"
            )
    recipe = kept.recipe
    split = dataclasses.replace(subject.dataset.hold_out(recipe.validation, recipe.seed), pool=subject.split.pool)
    return dataclasses.replace(subject, split=split, recipe=recipe)


def _check(subject: Subject, kept: Kept, treatment: Treatment, options: argparse.Namespace) -> None:
    """Raise ``InputError`` for what would train other networks than the sweep's, or none."""
    import torch

    from hardtune.checks import check_names, check_sources
    from hardtune.needs import named_in, needs_of, needs_pool
    from hardtune.sweep.ledger import check_same_code, own_scores
    from hardtune.training.models import MODELS

    most = subject.recipe.members
    if not 0 <= options.members <= most:
        raise InputError(f"--members must be from 0 to {most}, which the sweep's ensembles had, got {options.members}")
    if not options.members and not (subject.storage / "store").is_dir():
        raise InputError(
            f"{subject.storage} has no store/, where a sweep keeps its networks' predictions: copy that, too, from "
            "where it ran"
        )
    check_names(treatment)
    named = ((MODELS, subject.recipe.model), *named_in(treatment.canonical()))
    check_same_code(kept, named, "this would be another network")
    for name, scores in own_scores(needs_of([treatment]), subject.split).items():
        if kept.own_scores is not None and kept.own_scores.get(name) != scores:
            raise InputError(
                f"the scores that your estimator {name!r} gives are not what they were when {kept.id} ran, so this "
                "would be another network"
            )
    check_sources(subject.split, [treatment], every_class=False)
    pool = subject.split.pool
    if needs_pool(treatment) and pool is not None and pool.fingerprint != kept.pool_fingerprint:
        raise InputError(f"{kept.id} had another pool of synthetic images: give the --pool that it had")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU here: leave --device cuda out, or export where there is one")


def _prepared(
    subject: Subject, treatment: Treatment, theirs: str, device: str, options: argparse.Namespace
) -> Prepared:
    """With the sweep's own scores, whatever device trains here; with ``--score``, new ones if those are gone."""
    from hardtune.needs import needs_of
    from hardtune.scoring import gather

    needs = needs_of([treatment])
    of = device if options.score and missing(subject, needs, theirs) else theirs
    subject, of = with_scores(subject, needs, device=of, score=options.score)
    return gather(subject.split, subject.recipe, needs, subject.store, device=of)


def _stored(prepared: Prepared, subject: Subject, treatment: Treatment, device: str) -> dict[int, Answers]:
    """What the trial's networks answered in the sweep, by member; a stopped trial has not all of them."""
    from hardtune import answers
    from hardtune.member import identity, with_posthoc

    keys = {n: identity(prepared, subject.recipe, treatment, n, device) for n in range(subject.recipe.members)}
    found = {member: answers.find(subject.store, {"member": key}) for member, key in keys.items()}
    return {member: with_posthoc(own, prepared, treatment) for member, own in found.items() if own is not None}


def _trained(
    prepared: Prepared,
    recipe: Recipe,
    treatment: Treatment,
    member: int,
    device: str,
    on_epoch: Callable[[int], None],
) -> tuple[torch.nn.Module, Answers]:
    from hardtune import answers
    from hardtune.member import train_network

    network = train_network(prepared, recipe, treatment, member, device=device, on_epoch=on_epoch)
    return network, answers.question(network, prepared.split, seed=recipe.seed, device=device)


def _said(mine: Answers, own: Answers | None, split: Split, theirs: str, device: str) -> dict[str, Any]:
    """What is known about a network: how it compares with the sweep's own, and its accuracy."""
    accuracy = {
        "held_out": float((mine.held_out.argmax(1) == split.held_out.labels).mean()),
        "test": float((mine.test.argmax(1) == split.test.labels).mean()),
    }
    return {"compared": _compared(mine, own, theirs, device), "accuracy": accuracy}


def _compared(mine: Answers, own: Answers | None, theirs: str, device: str) -> str:
    import numpy as np

    if own is None:
        return "not compared with the sweep's own network, since the store has no predictions of it"
    pairs = ((mine.held_out, own.held_out), (mine.test, own.test))
    if all(np.array_equal(now, then) for now, then in pairs):
        return "equal to the sweep's own network: all predictions match bit for bit"
    largest = max(float(np.abs(now - then).max()) for now, then in pairs)
    others = sum(int((now.argmax(1) != then.argmax(1)).sum()) for now, then in pairs)
    of = sum(len(now) for now, _ in pairs)
    if others > MAX_CHANGED * of:
        return (
            f"NOT the sweep's own network: {others} of its {of} predictions differ, more than rounding explains; "
            "something that it depends on has changed since"
        )
    why = (
        f"which was trained on {theirs}, and this on {device}"
        if theirs != device
        else "as rounding differs on a GPU, another kind of CPU or another number of threads"
    )
    return (
        f"like the sweep's own network, not equal: {others} of its {of} predictions differ, and its logits "
        f"by up to {largest:.2g}, {why}"
    )
