"""The folder of one sweep: its description, its study, its records, and a lock against a second driver."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout
from ray.tune.search.sample import Quantized, Uniform

from hardtune import answers, durable, member
from hardtune.code import code_digest
from hardtune.data import DATASETS, Split
from hardtune.errors import InputError
from hardtune.evaluation.metric import directions
from hardtune.hardness.estimators import ESTIMATORS, data_scores
from hardtune.needs import Needs
from hardtune.recipe import Recipe
from hardtune.registry import Registry, plug_in_code
from hardtune.report.sweeps import CODE, SCORES, VERSIONS, Kept, kept
from hardtune.store import digest
from hardtune.sweep.definition import Space, Sweep, data_name
from hardtune.sweep.versions import ALL, versions
from hardtune.training.choices import LEFT_TO_THE_DEVICE
from hardtune.training.worker import threads

OOD, CORRUPTIONS = "out-of-distribution images", "corruptions"
_NOTHING = Needs()
_READ_OTHERWISE = "edited, or read otherwise by another version of hardtune or Python"


@dataclasses.dataclass(frozen=True)
class Ledger(Kept):
    """The folder of the sweep that runs."""

    @property
    def study_url(self) -> str:
        return f"sqlite:///{self.folder / 'study.db'}"

    @property
    def owner(self) -> str:
        """What distinguishes this sweep from one of the same name with its study in the same database."""
        owner: str = self.content["owner"]
        return owner

    def resolved(self, resolve: Callable[[], Recipe], device: str) -> Recipe:
        """The recipe with what it leaves to the device resolved, once and for all when the sweep begins.

        Raises:
            InputError: the sweep began on another kind of device, whose networks must not be compared with this one's.
        """
        settled = self.settled
        if not settled:
            decided = resolve()
            settled = {name: getattr(decided, name) for name in LEFT_TO_THE_DEVICE}
            durable.write(self.folder / "settled.json", json.dumps({**settled, "device": device}, indent=1))
        elif settled["device"] != device:
            raise InputError(
                f"{self.id} began on {settled['device']} and would go on on {device}, whose networks differ: resume it "
                "where it began (--gpus-per-trial says how much of a GPU a trial has), or start a new sweep"
            )
        return self.recipe

    def asked(self, sweep: Sweep) -> None:
        """Keep what a resumed sweep may be asked anew."""
        content = {**self.content, "about": {**self.content["about"], **_asked(sweep)}}
        if content != self.content:
            durable.write(self.folder / "sweep.json", json.dumps(content, indent=1))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the sweep's lock, or raise ``InputError`` if another process does."""
        try:
            with self.lock.acquire(timeout=1):  # whoever asks whether it is running holds it for a moment
                yield
        except Timeout:
            raise InputError(f"sweep {self.id} is running in another process") from None


def open_ledger(sweep: Sweep, split: Split, storage: Path, *, resume: bool, needs: Needs = _NOTHING) -> Ledger:
    """The folder for a new sweep, or that of the latest one of the same name and content.

    ``needs``: what its trials need, scores of one's own among them.

    Raises:
        InputError: nothing to resume, or what there is was another sweep, or trained with other numbers of threads.
    """
    content = describe(sweep, split, needs)
    if not resume:
        return _create(storage / "sweeps", sweep.name, {**content, "about": _about(sweep)})
    former = resumable(sweep, storage)
    for one in reversed(former):
        if not _differences(one, content):
            _check_threads(one, sweep)
            return Ledger(one.folder)
    raise InputError(
        f"cannot resume {former[-1].id}, whose {' and '.join(_differences(former[-1], content))} differed: "
        "start a new sweep, without --resume"
    )


def resumable(sweep: Sweep, storage: Path) -> list[Kept]:
    """The sweeps of this name, the latest last, whatever their content; ``InputError`` if there are none."""
    former = kept(storage, sweep.name)
    if not former:
        names = dict.fromkeys(one.name for one in kept(storage))
        others = f", only {', '.join(names)}" if names else ""
        if names and sweep.data not in DATASETS and f"-{data_name(sweep.data)}" in sweep.name:
            others += ": a sweep's name has that of its folder of images, so if the folder was renamed, rename it back"
        raise InputError(f"there is no sweep named {sweep.name} to resume in {storage / 'sweeps'}{others}")
    return former


def check_same_data(former: Kept, split: Split) -> None:
    """Raise ``InputError`` unless a former sweep used these data and this pool of synthetic images."""
    for name, now in _data(split).items():
        if former.content.get(name) != now:
            raise InputError(f"{former.id} was of other {name}: give the --data, --image-size and --pool that it had")


def check_same_code(former: Kept, named: Iterable[tuple[Registry[Any], str]], so: str) -> None:
    """Raise ``InputError`` if code of one's own among the named is not what a former sweep had, ``so`` what follows."""
    for registry, name in named:
        for what, now in registry.code(name).items():
            if former.plug_in_code.get(what) != now:
                raise InputError(f"your {what} is not what it was when {former.id} ran, so {so}")


def _data(split: Split) -> dict[str, str | None]:
    return {"data": split.dataset_fingerprint, "pool": None if split.pool is None else split.pool.fingerprint}


def _check_threads(former: Kept, sweep: Sweep) -> None:
    """Raise ``InputError`` if it trained on CPUs with another number of threads, which changes how sums are rounded."""
    began = former.cpus_per_trial
    then, now = threads(began), threads(sweep.cpus_per_trial)
    if then != now and former.settled.get("device") == "cpu":
        raise InputError(
            f"{former.id} trains each network with {then} thread{'s' * (then > 1)} and would go on with {now}, whose "
            f"networks differ: resume it with --cpus-per-trial {began:g}, or start a new sweep"
        )


def _differences(former: Kept, content: dict[str, Any]) -> list[str]:
    """What has changed; for dicts (the recipe, say), by field."""
    differ = []
    for name, now in content.items():
        if name == SCORES and name not in former.content:  # an earlier version did not record them
            continue
        then = former.content.get(name)  # another version may not have recorded it
        if name == VERSIONS:  # of what a sweep does not measure, they do not count
            now, then = (_counted(each or [], content) for each in (now, then))
        if name == "space" and isinstance(now, dict) and isinstance(then, dict):
            now, then = ({field: _without_zeros(value) for field, value in each.items()} for each in (now, then))
        if isinstance(now, dict) and isinstance(then, dict):
            fields = [key for key in now | then if now.get(key) != then.get(key)]
            if fields and name == CODE:
                differ.append(f"{name} ({', '.join(fields)}: {_READ_OTHERWISE})")
            elif fields and name == SCORES:
                differ.append(f"{name} ({', '.join(fields)})")
            elif fields:
                changes = [f"{key} was {then.get(key)}, is {now.get(key)}" for key in fields]
                differ.append(f"{name} ({'; '.join(changes)})")
        elif now != then:
            plain = all(value is None or isinstance(value, (int, float)) for value in (now, then))
            differ.append(f"{name} (was {then}, is {now})" if plain else name)
    return differ


def _without_zeros(described: str) -> str:
    """A part of a space with numbers written alike, since 1 and 1.0 are the same there.

    >>> _without_zeros("Float(0.0, 10.0) _Uniform 0.05")
    'Float(0, 10) _Uniform 0.05'
    >>> _without_zeros("Categorical['1.0', 1.0] _Uniform")  # a name is what it is
    "Categorical['1.0', 1] _Uniform"
    """
    return re.sub(r"""((["'])(?:\\.|(?!\2).)*\2)|(?<![\w.])(\d+)\.0\b""", r"\1\3", described)


def _counted(numbers: list[int], content: dict[str, Any]) -> list[int]:
    used = (True, content[OOD], content[CORRUPTIONS])
    return [number if counts else 0 for number, counts in zip(numbers, used, strict=False)]


def describe(sweep: Sweep, split: Split, needs: Needs) -> dict[str, Any]:
    """What must match for two sweeps to be the same one, as plain JSON; the number of trials may grow.

    It includes the versions of training and evaluation: figures from different ones must not be compared.
    """
    described = {
        VERSIONS: [member.VERSION, answers.OOD_VERSION, answers.CORRUPTION_VERSION],
        **_data(split),
        "recipe": dataclasses.asdict(sweep.recipe),
        "space": _describe_space(sweep.space),
        "objectives": dict(sweep.objectives),
        "no_worse_than_control": dict(sweep.tolerances) if any(sweep.tolerances.values()) else list(sweep.tolerances),
        "racing": sweep.racing or None,
        OOD: split.ood_digest,
        CORRUPTIONS: split.corruptions,
        CODE: plug_in_code(),
        SCORES: own_scores(needs, split) or None,
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def own_scores(needs: Needs, split: Split) -> dict[str, str]:
    """A digest of the scores of each estimator ``of="data"``, which may be read from files that change."""
    own = (name for name in sorted(needs.estimators) if ESTIMATORS[name].source == "data")
    return {name: digest(data_scores(name, split)) for name in own}


def _describe_space(space: Space) -> dict[str, str] | list[dict[str, Any]] | str:
    if isinstance(space, Sequence):
        return [treatment.described() for treatment in space]
    if callable(space):
        return code_digest(space)
    return {name: _describe_domain(value) for name, value in sorted(space.items())}


def _describe_domain(value: Any) -> str:
    if not hasattr(value, "domain_str"):
        return repr(value)
    sampler = value.get_sampler()
    steps = ""
    if isinstance(sampler, Quantized):
        steps = f" {sampler.q}" + ("" if isinstance(sampler.sampler, Uniform) else f" {type(sampler.sampler).__name__}")
    return f"{type(value).__name__}{value.domain_str} {type(sampler).__name__}{steps}"


def _about(sweep: Sweep) -> dict[str, Any]:
    """Information for later readers, which may differ when the sweep is resumed."""
    return {
        "data": sweep.data,
        "image_size": sweep.image_size,
        "imbalance": sweep.imbalance,
        "label_noise": sweep.label_noise,
        "pool": sweep.pool,
        "ood": sweep.ood,
        "metrics": directions(),
        "versions": versions(ALL),
        **_asked(sweep),
    }


def _asked(sweep: Sweep) -> dict[str, Any]:
    comparisons = json.loads(json.dumps([dataclasses.asdict(comparison) for comparison in sweep.compared]))
    return {"comparisons": comparisons, "cpus_per_trial": sweep.cpus_per_trial}


def _create(sweeps: Path, name: str, content: dict[str, Any]) -> Ledger:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())  # of any machine, they sort in order
    for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
        folder = sweeps / f"{name}-{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        durable.write(folder / "sweep.json", json.dumps({**content, "owner": uuid.uuid4().hex}, indent=1))
        return Ledger(folder)
    raise InputError(f"cannot make a folder for the sweep in {sweeps}")
