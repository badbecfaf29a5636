"""Runs a sweep from Python, in a notebook's cell for example: what its script does, without a command line."""

from __future__ import annotations

import argparse
import dataclasses
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hardtune.errors import InputError, unknown
from hardtune.recipe import Recipe
from hardtune.registry import read_cells_again
from hardtune.report.sweeps import Kept
from hardtune.store import local_folder
from hardtune.sweep.cli import parser, place_of
from hardtune.sweep.confirm import confirming
from hardtune.sweep.definition import Sweep
from hardtune.sweep.live import View
from hardtune.sweep.shown import CannotGoOn, run_and_show


def run(
    sweep: Sweep,
    *,
    smoke: bool = False,
    resume: bool = False,
    confirm: bool | str | Kept = False,
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
        confirm: as its flag; True for the latest search of this name, or one that ``run`` returned, or its id.
        recipe: changes to the sweep's recipe (with ``confirm``, to the search's), such as ``{"members": 20}``.
        address: a running Ray cluster to join, as its flag, but for the address of a job server, which takes scripts.

    Trials that fail do not raise: they are among the records, with the reason.

    Raises:
        InputError: anything wrong, before a network is trained, or what the scores show to be impossible.
        DivergedError: the scoring ensemble's training gave NaN or infinity.
        OSError: the disk is full, broken or read-only; ``resume=True`` goes on.
        KeyboardInterrupt: it was interrupted; ``resume=True`` goes on.
    """
    options = _options(sweep, locals())
    if not _ONE_AT_A_TIME.acquire(blocking=False):
        raise InputError("another sweep is running in this process, which can be of one Ray cluster only")
    try:
        return _run(sweep, options, recipe or {}, confirm)
    finally:
        _ONE_AT_A_TIME.release()


_ONE_AT_A_TIME = threading.Lock()


def _options(sweep: Sweep, arguments: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments as the command line has them, with flags' defaults for None; ``InputError`` for a wrong one."""
    if not isinstance(sweep, Sweep):
        raise InputError(f"run() takes a Sweep, got {sweep!r:.80}")
    given = {name: value for name, value in arguments.items() if value is not None}
    for name, kinds, what in _ARGUMENTS:
        if name in given and not isinstance(given[name], kinds):
            raise InputError(f"{name} must be {what}, got {given[name]!r:.80}")
    for name in given.get("recipe", {}):
        if name not in Recipe.__dataclass_fields__:
            raise unknown("field of the recipe", name, Recipe.__dataclass_fields__)
    try:
        options = parser(None).parse_args([], argparse.Namespace(**given))
    except SystemExit as error:  # after saying it; of what else is there is only the environment to be wrong
        raise InputError("an environment variable that stands for a flag has no valid value") from error
    options.data_dir = None if options.data_dir is None else Path(options.data_dir)
    if (options.address or "").startswith(("http://", "https://")):
        raise InputError(
            f"{options.address} is a job server, which takes scripts: run one with --address {options.address}, or "
            "join its cluster at an address such as auto or host:6379"
        )
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        from hardtune.sweep import job

        job.check_paths(options, None)
    options.storage = local_folder(options.storage)
    return options


_PATH = ((str, Path), "a path")
_ARGUMENTS = (
    ("smoke", bool, "True or False"),
    ("resume", bool, "True or False"),
    ("confirm", (bool, str, Kept), "True or False, or a search or its id"),
    ("recipe", Mapping, "a dict of changes to the sweep's recipe"),
    ("storage", *_PATH),
    ("tracking_uri", str, "a URI"),
    ("study_storage", str, "a URL"),
    ("address", str, "that of a Ray cluster, such as auto or host:6379"),
    ("data_dir", *_PATH),
)


_STOPPED = "finished networks are kept: go on with resume=True"


def _run(
    sweep: Sweep, options: argparse.Namespace, changes: Mapping[str, Any], confirm: bool | str | Kept | None
) -> Kept:
    read_cells_again()
    sweep, search, says = sweep.smoke() if options.smoke else sweep, None, ""
    if confirm is None or confirm is False:
        sweep = dataclasses.replace(sweep, recipe=dataclasses.replace(sweep.recipe, **changes))
    else:
        wanted = confirm.id if isinstance(confirm, Kept) else confirm if isinstance(confirm, str) else None
        confirmation = confirming(sweep, options.storage, changes, wanted)
        sweep, search, says = confirmation.sweep, confirmation.search, confirmation.says
    view = View(f"hardtune · {sweep.name}", sweep.objectives)
    with warnings.catch_warnings():
        try:
            outcome = run_and_show(sweep, place_of(options, search), view, "go on with resume=True", says)
        except CannotGoOn as error:
            raise OSError(f"{error}; when it can, resume=True goes on") from error
        except KeyboardInterrupt:
            if view.folder is None and not options.resume:  # there is nothing to resume
                raise
            raise KeyboardInterrupt(_STOPPED) from None
    if outcome.interrupted:
        raise KeyboardInterrupt(_STOPPED)
    return Kept(outcome.ledger.folder)
