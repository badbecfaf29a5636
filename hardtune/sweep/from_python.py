"""Runs a sweep from Python, in a notebook's cell for example: what its script does, without a command line."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardtune.errors import InputError, unknown
from hardtune.recipe import Recipe
from hardtune.report.sweeps import Kept
from hardtune.store import local_folder
from hardtune.sweep.cli import parser, place_of
from hardtune.sweep.confirm import confirming
from hardtune.sweep.definition import Sweep
from hardtune.sweep.live import View
from hardtune.sweep.shown import run_and_show
from hardtune.warned import pass_on


def run(
    sweep: Sweep,
    *,
    smoke: bool = False,
    resume: bool = False,
    confirm: bool | str = False,
    recipe: Mapping[str, Any] | None = None,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    study_storage: str | None = None,
    address: str | None = None,
    data_dir: str | Path | None = None,
    concurrent: int | None = None,
) -> Kept:
    """Run the sweep, print what its script would, and return what it left: its folder, records and objectives.

    Everything else about a sweep is a field of ``Sweep``. What is None is as if its flag were left out.

    Args:
        smoke, resume, storage, tracking_uri, study_storage, data_dir, concurrent: as the flags of these names.
        confirm: as its flag; True for the latest search of this name, or an id.
        recipe: changes to the sweep's recipe (with ``confirm``, to the search's), such as ``{"members": 20}``.
        address: a running Ray cluster to join, as its flag, but for the address of a job server, which takes scripts.

    Raises:
        InputError: anything wrong, before a network is trained, or what the scores show to be impossible.
        KeyboardInterrupt: it was interrupted; ``resume=True`` goes on.
    """
    if not isinstance(sweep, Sweep):
        raise InputError(f"run() takes a Sweep, got {sweep!r:.80}")
    options = parser(None).parse_args([])
    given = {
        "smoke": smoke,
        "resume": resume,
        "storage": storage,
        "tracking_uri": tracking_uri,
        "study_storage": study_storage,
        "address": address,
        "data_dir": None if data_dir is None else Path(data_dir),
        "concurrent": concurrent,
    }
    vars(options).update({name: value for name, value in given.items() if value is not None})
    if (options.address or "").startswith(("http://", "https://")):
        raise InputError(
            f"a job server takes scripts: run one with --address {options.address}, or join the cluster at an address "
            "such as auto or host:6379"
        )
    options.storage = local_folder(options.storage)
    sweep, changes, search = sweep.smoke() if smoke else sweep, dict(recipe or {}), None
    for name in changes:
        if name not in Recipe.__dataclass_fields__:
            raise unknown("field of the recipe", name, Recipe.__dataclass_fields__)
    says = ""
    if confirm:
        confirmation = confirming(sweep, options.storage, changes, None if confirm is True else confirm)
        sweep, search, says = confirmation.sweep, confirmation.search, confirmation.says
    else:
        sweep = dataclasses.replace(sweep, recipe=dataclasses.replace(sweep.recipe, **changes))
    view = View(f"hardtune · {sweep.name}", sweep.objectives)
    with warnings.catch_warnings():
        pass_on(view.say)
        if says:
            view.say(says)
        outcome = run_and_show(sweep, place_of(options, search), view)
    if outcome.interrupted:
        raise KeyboardInterrupt("finished networks are kept: go on with resume=True")
    return Kept(outcome.ledger.folder)
