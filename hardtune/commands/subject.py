"""What a command is asked about: a sweep script, or a data set and a recipe; and the scores that belong to it."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hardtune.command_line import add_data_flags, add_recipe_flag, progress_bar, recipe_changes
from hardtune.errors import InputError
from hardtune.recipe import Recipe
from hardtune.report.sweeps import Kept, kept

if TYPE_CHECKING:
    from hardtune.data import Dataset, Split
    from hardtune.member import Prepared
    from hardtune.needs import Needs
    from hardtune.store import Store
    from hardtune.sweep import Sweep


@dataclass(frozen=True)
class Subject:
    """Data and recipe as a sweep would have them, and the store that its scores are in."""

    name: str
    data: str
    """A data set's name, or a folder's path."""
    dataset: Dataset
    split: Split
    recipe: Recipe
    store: Store
    storage: Path
    sweep: Sweep | None
    data_dir: Path | None

    @property
    def fixed(self) -> dict[str, Any]:
        """The fields that the sweep's space fixes, such as its policy; of a function, those that never differ.

        ``prune`` and its rate go together: neither is fixed if only one of them is.
        """
        from hardtune.sweep.space import corners

        space = self.sweep.space if self.sweep is not None else {}
        if isinstance(space, Mapping):
            fixed = {name: value for name, value in space.items() if isinstance(value, (str, int, float))}
        elif callable(space):
            resampling = [treatment for treatment in corners(space) if treatment.resamples]
            by_hardness = [treatment for treatment in resampling if treatment.alpha > 0]  # the others use no policy
            each = [dataclasses.asdict(treatment) for treatment in by_hardness or resampling]
            first = each[0] if each else {}
            fixed = {name: first[name] for name in first if all(one[name] == first[name] for one in each)}
        else:  # each treatment of a list is its own
            return {}
        if ("prune" in fixed) != ("prune_rate" in fixed):
            fixed = {name: value for name, value in fixed.items() if name not in ("prune", "prune_rate")}
        return fixed


def add_subject_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags that name a subject, and how to score it."""
    flags.add_argument(
        "script",
        nargs="?",
        metavar="SCRIPT[:NAME]",
        help="a sweep script whose data, recipe and space to use: its Sweep (or a function that returns one) "
        "named `sweep`, or NAME",
    )
    what = flags.add_argument_group("data and recipe (default: the script's)")
    add_data_flags(what)
    add_recipe_flag(what)
    scores = flags.add_argument_group("scores")
    scores.add_argument(
        "--score", action="store_true", help="train missing members of the scoring ensemble here, showing progress"
    )
    scores.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        help="device that the networks were, or will be, trained on (default: the one the stored scores are for, else "
        "cuda if available)",
    )


def subject_of(options: argparse.Namespace, recipe: Sequence[str], **more: Any) -> Subject:
    """The subject that the flags name, with changes to its recipe: ``name=value`` pairs, and ``more``.

    Raises:
        InputError: there is no such script or no sweep in it, or something is wrong with data, pool or recipe.
    """
    from hardtune.data import harder, load, load_pool
    from hardtune.data.decoding import listed_in
    from hardtune.store import Store, local_folder

    sweep = None if options.script is None else load_sweep(options.script, data=options.data, pool=options.pool)
    if sweep is not None:
        sweep = sweep.on(options.data, options.imbalance, options.label_noise)
    data = options.data if sweep is None else sweep.data
    if data is None:
        raise InputError("name a sweep script, such as sweeps/digits.py, or a data set (--data digits)")
    base = sweep.recipe if sweep is not None else Recipe()
    changed = dataclasses.replace(base, **{**recipe_changes(recipe), **more})
    size = options.image_size
    if size is None and sweep is not None:
        size = sweep.image_size
    storage = local_folder(options.storage)
    path = options.pool or (sweep.pool if sweep is not None else None)
    with progress_bar() as progress:
        bar = progress.add_task("reading images", total=None, visible=False)

        def on_read(done: int, of: int) -> None:
            progress.update(bar, completed=done, total=of, visible=done < of)

        how = options if sweep is None else sweep
        asked = {name: getattr(how, name) for name in ("imbalance", "label_noise") if getattr(how, name) is not None}
        with listed_in(storage):
            dataset = harder(load(data, options.data_dir, image_size=size, progress=on_read), **asked)
            pool = None if path is None else load_pool(path, dataset, progress=on_read)
    split = dataclasses.replace(dataset.hold_out(changed.validation, changed.seed), pool=pool)
    name = sweep.name if sweep is not None else dataset.name
    return Subject(name, data, dataset, split, changed, Store(storage / "store"), storage, sweep, options.data_dir)


def load_sweep(script: str, **given: str | None) -> Sweep:
    """The ``Sweep`` that a script defines, without running it.

    Args:
        script: a path, followed by ``:NAME`` for another name than ``sweep``. If the name is a function, it is called
            with its defaults, except for parameters that are ``given``.
    """
    from hardtune.sweep import Sweep

    path, _, name = (script, "", "sweep") if script.endswith(".py") else script.rpartition(":")
    if not Path(path).is_file():
        raise InputError(f"there is no sweep script {path or script!r}")
    sys.path.insert(0, str(Path(path).resolve().parent))  # as Python does for a script
    names = vars(read_script(Path(path).absolute()))
    found = names.get(name)
    if inspect.isfunction(found):
        parameters = inspect.signature(found).parameters
        arguments = {key: value for key, value in given.items() if value is not None and key in parameters}
        missing = [p.name for p in parameters.values() if p.default is p.empty and p.name not in arguments]
        if missing:
            raise InputError(f"{name} in {path} needs {' and '.join(missing)}: give its parameters defaults")
        found = found(**arguments)
    if not isinstance(found, Sweep):
        others = [other for other, value in names.items() if isinstance(value, Sweep)]
        instead = f"; it has {', '.join(f'{path}:{other}' for other in others)}" if others else ""
        raise InputError(f"{path} defines no Sweep named {name!r}{instead}")
    return found


def read_script(script: Path) -> ModuleType:
    """The script as a module that stays loaded, since ``code_digest`` asks where classes are from.

    Not by ``importlib``, which would leave bytecode next to the script.
    """
    module = ModuleType("hardtune_subject")
    module.__file__ = str(script)
    sys.modules[module.__name__] = module
    exec(compile(script.read_bytes(), str(script), "exec", dont_inherit=True), vars(module))
    return module


def with_scores(subject: Subject, needs: Needs, *, device: str | None, score: bool) -> tuple[Subject, str]:
    """The subject with the recipe, and the device, whose scores are in the store; made first if ``score``.

    Raises:
        InputError: something is not in the store, and may not be made.
    """
    from hardtune.hardness.estimators import ESTIMATORS, data_scores

    for name in sorted(needs.estimators):
        if ESTIMATORS[name].source == "data":  # what is wrong with one's own comes before any network
            data_scores(name, subject.split)
    kinds = [device] if device else devices()
    for kind in kinds:
        for found in _as_on(kind, subject):
            if not missing(found, needs, kind):
                return found, kind
    if not score:
        raise InputError(f"{missing(subject, needs, kinds[0])}: {_where_scores_may_be(subject)}")
    _score(subject, needs, kinds[0])
    return subject, kinds[0]


def _where_scores_may_be(subject: Subject) -> str:
    mine = json.loads(json.dumps(dataclasses.asdict(subject.recipe)))  # as sweeps keep theirs
    of_this_name = kept(subject.storage, subject.name)
    same_data = [one for one in of_this_name if one.data_fingerprint == subject.split.dataset_fingerprint]
    if of_this_name and not same_data and subject.sweep is not None:  # else it may be the name of a data set alone
        return (
            f"{of_this_name[-1].id} used other data than {subject.data} is here, so give the --data, --data-dir and "
            "--image-size that it had, or let --score make others here"
        )
    differing = [_differing(mine, one) for one in same_data]
    if differing and all(differing):
        flags = shlex.join(f"{name}={_as_flag(value)}" for name, value in differing[-1].items())
        return f"{same_data[-1].id} had --recipe {flags}, so give the same, or let --score make others here"
    first = "" if subject.sweep is None else "run the sweep, or "
    return f"{first}let --score make them here (scores belong to data, recipe and seed: see --data and --recipe)"


def _differing(mine: Mapping[str, Any], former: Kept) -> dict[str, Any]:
    """What other scores come from in a former sweep's recipe, which is settled where ``mine`` is."""
    settled = {name: value for name, value in former.settled.items() if mine.get(name) != "auto"}
    theirs = {**former.asked_recipe, **settled}
    differ = {name: value for name, value in theirs.items() if name in mine and value != mine[name]}
    return differ if set(differ) - {"budget", "members", "scoring_members"} else {}  # of which scores are the same


def _as_flag(value: Any) -> str:
    """As ``recipe_changes`` reads it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def missing(subject: Subject, needs: Needs, device: str) -> str:
    """A clause that names which needs are not in the store; empty if all are."""
    from hardtune.scoring import is_encoded
    from hardtune.scoring_member import is_scored

    recipe = subject.recipe
    clauses = []
    if needs.ensemble:
        members = range(recipe.scoring_members)
        absent = sum(
            not is_scored(subject.split, recipe, needs, member, subject.store, device=device) for member in members
        )
        if absent:
            clauses.append(
                f"{absent} of the scoring ensemble's {recipe.scoring_members} members "
                f"({recipe.model}, {recipe.epochs} epochs, {device})"
            )
    if needs.features and not is_encoded(subject.split, recipe, subject.store):
        clauses.append(f"the features from encoder {recipe.encoder!r}")
    if not clauses:
        return ""
    of = f" for {', '.join(sorted(needs.estimators))}" if needs.estimators else ""
    return f"{subject.store.root} lacks {' and '.join(clauses)}, which the scores{of} on {subject.name} are made of"


def available(subject: Subject, device: str) -> Needs:
    """All estimators whose scores are in the store, for networks trained on ``device``, or can be had from the data."""
    from hardtune.hardness.estimators import ESTIMATORS, data_scores
    from hardtune.needs import Needs

    names = []
    for name, estimator in ESTIMATORS.items():
        if estimator.source == "data":
            try:
                data_scores(name, subject.split)
            except InputError as error:
                print(f"note: left out: {error}", file=sys.stderr)
                continue
        names.append(name)
    return Needs.of_scores(name for name in names if not missing(subject, Needs.of_scores([name]), device))


def devices() -> list[str]:
    """The kinds of device that networks may have been trained on, starting with this machine's default."""
    import torch

    return ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu", "cuda"]


def _as_on(device: str, subject: Subject) -> list[Subject]:
    """The variants of the subject that sweeps on such a device may have had: this machine's first, then others.

    CPUs differ in the precision that ``auto`` resolves to, and only a machine with a GPU knows what GPUs use.
    """
    recipe = subject.recipe
    modern = {"precision": "bfloat16", "layout": "channels_last", "compile": False}
    others: list[dict[str, Any]] = [modern, {"precision": "float32", "compile": False}]
    if device == "cuda":
        others.append({**modern, "compile": True})
    decided = [{name: value for name, value in one.items() if getattr(recipe, name) == "auto"} for one in others]
    recipes = dict.fromkeys([recipe, *(dataclasses.replace(recipe, **one) for one in decided)])
    return [dataclasses.replace(subject, recipe=one) for one in recipes]


def _score(subject: Subject, needs: Needs, device: str) -> Prepared:
    import torch

    from hardtune.answers import with_shifts
    from hardtune.checks import check_network
    from hardtune.hardness.encoders import check_encoder
    from hardtune.scoring import prepare
    from hardtune.training.worker import configure_process

    subject.store.check_writable()
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU here: leave --device cuda out, or score where there is one")
    if needs.features:
        check_encoder(subject.recipe.encoder, subject.dataset)
    check_network(subject.split, subject.recipe)
    # As many threads as a trial of the sweep has: another number would change the rounding of sums.
    configure_process(subject.sweep.cpus_per_trial if subject.sweep is not None else 1)
    split, sweep = subject.split, subject.sweep
    if sweep is not None:  # which then finds the control's members whole
        shifts = {name: getattr(sweep, name) for name in ("ood", "corruptions", "severities")}
        split = with_shifts(split, subject.dataset, **shifts, data_dir=subject.data_dir)
    epochs, members = subject.recipe.epochs, subject.recipe.scoring_members
    with progress_bar() as progress:
        encoding = progress.add_task("images encoded", total=None, visible=False)
        bar = progress.add_task(f"scoring ensemble of {members}, epochs", total=epochs * members)
        done = 0

        def on_member(finished: int, of: int) -> None:
            nonlocal done
            done = finished * epochs
            progress.update(bar, completed=done)

        return prepare(
            split,
            subject.recipe,
            needs,
            subject.store,
            device=device,
            on_member=on_member,
            on_epoch=lambda epoch: progress.update(bar, completed=done + epoch),
            on_encoded=lambda n, of: progress.update(encoding, completed=n, total=of, visible=n < of),
        )
