"""Sweeps that differ only in their seed, taken together: each is one replication of all that a sweep draws.

Within one sweep all treatments share held-out samples, hardness scores and the images that networks are trained on, so
its intervals say nothing of what others would have shown. Those over whole sweeps do, for these data: their training
sets are drawn from the same images, and so overlap (by 70 % if three tenths are held out).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from hardtune.errors import InputError
from hardtune.report.metric_names import of_ensemble
from hardtune.report.records import Record, by_treatment
from hardtune.report.sweeps import SCORES, Kept
from hardtune.treatment import Treatment


def alike(sweep: Kept, others: Sequence[Kept]) -> list[Kept]:
    """Those of the others that differ from the sweep only in their seed, and, last, itself.

    Of those with equal seeds it is the one of which most has finished, the latest if several; those of which nothing
    has are left out.

    Raises:
        InputError: it is a search, whose treatments are its own, or there is no other such sweep.
    """
    if sweep.is_search:
        raise InputError(
            f"{sweep.id} is a search, whose treatments are its own: pool sweeps of a list, such as those that "
            "--confirm makes with one seed after another (--recipe seed=2)"
        )
    of_seed: dict[int, Kept] = {}
    for one in others:
        seed = one.recipe.seed
        if seed == sweep.recipe.seed or _but_seed(one) != _but_seed(sweep) or _finished(one) == 0:
            continue
        if seed not in of_seed or _finished(one) >= _finished(of_seed[seed]):
            of_seed[seed] = one
    if not of_seed:
        apart = "; ".join(unlike(sweep, others)[-1:])  # the latest: of many, a sentence would tell nothing
        raise InputError(
            f"there is no other sweep like {sweep.id} with another seed{apart and f' ({apart})'}: make some by the "
            f"same command with --recipe seed={sweep.recipe.seed + 1}"
        )
    return [*(of_seed[seed] for seed in sorted(of_seed)), sweep]


def unlike(sweep: Kept, others: Sequence[Kept]) -> list[str]:
    """In what each of the others with another seed, of which something has finished, differs from the sweep besides."""
    ours, said = _flat(_but_seed(sweep)), []
    for one in others:
        theirs = _flat(_but_seed(one))
        fields = [name for name in ours | theirs if ours.get(name) != theirs.get(name)]
        if fields and one.recipe.seed != sweep.recipe.seed and _finished(one):
            changes = (_changed(name, theirs.get(name), ours.get(name)) for name in fields)
            said.append(f"{one.id} is another sweep: its {', its '.join(changes)}")
    return said


def _flat(content: Mapping[str, object]) -> dict[str, object]:
    """Fields of its parts beside its other values: ``recipe epochs`` and ``data``, say."""
    flat: dict[str, object] = {}
    for name, value in content.items():
        flat |= {f"{name} {field}": one for field, one in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _changed(name: str, theirs: object, ours: object) -> str:
    if isinstance(theirs, list) and isinstance(ours, list):  # of treatments, say
        both = ((theirs, ours), (ours, theirs))
        has, lacks = ([_short(one) for one in these if one not in those] for these, those in both)
        parts = (f"{verb} {' and '.join(some)}" for verb, some in (("also has", has), ("lacks", lacks)) if some)
        return f"{name} {' and '.join(parts) or 'is in another order'}"
    return f"{name} is {_short(theirs)}, not {_short(ours)}"


def _short(value: object) -> str:
    """A value in a few words: of a treatment its name, of a digest its beginning."""
    if isinstance(value, dict):
        return f"'{Treatment(**value)}'"
    text = "none" if value is None else str(value)
    return text if len(text) < 40 else f"{text[:8]}…"


def _finished(sweep: Kept) -> int:
    return sum(record.state == "finished" and not record.is_control for record in sweep.records)


def _but_seed(sweep: Kept) -> dict[str, object]:
    described = {**sweep.described, "recipe": {**sweep.asked_recipe, "seed": None}, "settled": sweep.settled}
    if isinstance(sweep.recipe.validation, float):
        # Another seed trains on other samples, so scores of one's own differ, too.
        described.pop(SCORES, None)
    return described


def pooled(sweeps: Sequence[Kept]) -> list[Record]:
    """A record of each treatment that finished in all sweeps, the control first, numbered as in the last that has it.

    What a record has of each member, these have of each sweep: the mean over its members, in the order of the sweeps;
    and so they have the figures of its ensemble.
    What it has without a part of the test images is the mean over sweeps, which have the same test images. A treatment
    that finished in some is a stopped trial here: there is nothing to compare, but it counts as one that was tried.
    """
    each = [by_treatment(sweep.records) for sweep in sweeps]
    return [
        _mean(record.number, [found[treatment] for found in each])
        if all(treatment in found for found in each)
        else Record(record.number, record.treatment, "stopped", reason="it did not finish in each sweep")
        for treatment, record in {treatment: record for found in each for treatment, record in found.items()}.items()
    ]


def _mean(number: int, records: Sequence[Record]) -> Record:
    return dataclasses.replace(
        records[-1],
        number=number,
        per_class={name: _class([one.per_class[name] for one in records]) for name in records[-1].per_class},
        metrics={name: float(np.mean([one.metrics[name] for one in records])) for name in _in_all(records, "metrics")},
        members={
            **{name: [float(np.mean(one.members[name])) for one in records] for name in _in_all(records, "members")},
            **{
                name: [one.metrics[name] for one in records]
                for name in filter(of_ensemble, _in_all(records, "metrics"))
            },
        },
        left_out={
            name: np.mean([one.left_out[name] for one in records], axis=0).tolist()
            for name in _in_all(records, "left_out")
        },
        recalls={name: _recalls([one.recalls[name] for one in records]) for name in _in_all(records, "recalls")},
    )


def _in_all(records: Sequence[Record], field: str) -> list[str]:
    return [name for name in getattr(records[-1], field) if all(name in getattr(one, field) for one in records)]


def _class(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """The mean of each figure; None if one of them is."""
    means: dict[str, float | None] = {}
    for name in each[-1]:
        values = [figures.get(name) for figures in each]  # older sweeps lack some
        means[name] = None if None in values else float(np.mean(np.array(values, np.float64)))
    counts = {name: means[name] for name in ("size", "test_size") if name in means}
    return {**means, **{name: None if count is None else round(count) for name, count in counts.items()}}


def _recalls(each: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    return {
        "members": [float(np.mean(one["members"])) for one in each],
        "left_out": np.mean([one["left_out"] for one in each], axis=0).tolist(),
    }
