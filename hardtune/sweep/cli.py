"""The command line that every sweep script has: its flags, its messages, its exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardtune.command_line import add_data_flags, add_database_flags, add_recipe_flag, recipe_changes, run_and_exit
from hardtune.errors import InputError
from hardtune.report.sweeps import Kept, kept
from hardtune.store import local_folder
from hardtune.sweep.confirm import confirming
from hardtune.sweep.definition import Place, Sweep
from hardtune.sweep.live import View
from hardtune.sweep.passwords import hidden
from hardtune.sweep.shown import CannotGoOn, run_and_show
from hardtune.sweep.sigterm import stop_at_sigterm

if TYPE_CHECKING:
    from hardtune.sweep.engine import Outcome

EXIT_CODES = (
    "0 done; 1 trials ended in errors or the disk is full (--resume tries again), or all trials failed; "
    "2 invalid input, or no network could be trained; 130 after Ctrl-C or SIGTERM"
)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the flags of every sweep script, described by its docstring. Add a sweep's own flags to it."""
    flags = argparse.ArgumentParser(
        description=doc,
        epilog=f"exit codes: {EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = flags.add_argument_group("what to run")
    what.add_argument(
        "--trials", type=int, metavar="N", help="treatments to try, besides the control (default: the script's)"
    )
    what.add_argument(
        "--smoke",
        action="store_true",
        help="every code path within minutes: 4 trials (or all that the sweep lists) of 2 networks, 1 epoch, a few "
        "samples of 10 classes; pixels replace a pre-trained encoder unless --recipe names one",
    )
    what.add_argument(
        "--resume",
        action="store_true",
        help="continue the latest sweep of this name and content, and retry what ended in errors (a full disk, a "
        "dead worker); with a larger --trials, extend it",
    )
    what.add_argument(
        "--confirm",
        nargs="?",
        const="",
        metavar="SWEEP",
        help="retrain the front of the latest search of this name (or of the one with this id) with another seed (so "
        "with other held-out samples, scores and networks), and compare it with the control: figures without the "
        "search's selection bias",
    )
    what.add_argument(
        "--racing",
        type=float,
        metavar="X",
        help="stop a trial early once its remaining members are not expected to raise the front's hypervolume by their "
        "share of X, the price of a whole ensemble (say 0.01, a hundredth); 0 stops none (default: the script's)",
    )
    add_recipe_flag(what)
    measured = flags.add_argument_group("what else to measure, on the test split")
    measured.add_argument(
        "--ood",
        metavar="NAME",
        help="out-of-distribution images to detect: inverted, rotated, a data set or a folder of images",
    )
    measured.add_argument(
        "--corruptions", action="extend", nargs="+", metavar="KIND", help="fog, jpeg_compression, …; all for all 15"
    )
    measured.add_argument(
        "--severities",
        action="extend",
        nargs="+",
        type=int,
        metavar="N",
        help="of the corruptions, 1 to 5 (default: all)",
    )
    where = flags.add_argument_group("where")
    add_data_flags(where)
    add_database_flags(where)
    where.add_argument(
        "--address",
        default=os.environ.get("RAY_ADDRESS") or os.environ.get("RAY_API_SERVER_ADDRESS") or None,
        metavar="ADDR",
        help="a running Ray cluster to join (auto, host:6379), or a job server (http://host:8265) to submit the sweep "
        "to, so that it outlives this terminal (also: RAY_ADDRESS, RAY_API_SERVER_ADDRESS; default: start Ray here)",
    )
    size = flags.add_argument_group("how much of the machine")
    size.add_argument("--cpus-per-trial", type=float, metavar="X", help="default: 1")
    size.add_argument(
        "--gpus-per-trial", type=float, metavar="X", help="fractions share a GPU; default: 1 if there are any"
    )
    size.add_argument(
        "--members-at-once",
        type=int,
        metavar="N",
        help="members of a trial that train in parallel, to fill its GPU (default: 4 on a whole GPU, 8 if "
        "compiled, 2 if trials race; else 1)",
    )
    size.add_argument(
        "--concurrent",
        type=int,
        default=os.environ.get("HARDTUNE_CONCURRENT") or None,
        metavar="N",
        help="trials at once; an autoscaled cluster grows to fit them (also: HARDTUNE_CONCURRENT; default: as many as "
        "fit now)",
    )
    return flags


def main(sweep: Sweep, options: argparse.Namespace | None = None, doc: str | None = None) -> None:
    """Run the sweep as the command line says, and exit with one of ``EXIT_CODES``.

    A sweep script ends with ``main(sweep, doc=__doc__)``; one with flags of its own parses them with ``parser``
    and passes the ``options``.
    """
    started = time.monotonic()
    options = options or parser(doc).parse_args()
    run_and_exit(lambda: _run(sweep, options, started), lambda: f"stopped; finished networks are kept: {_again()}")


def _run(sweep: Sweep, options: argparse.Namespace, started: float) -> int:
    sweep = configured(sweep, options)
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    hand_over = (options.address or "").startswith(("http://", "https://"))
    if hand_over or "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        from hardtune.sweep import job

        job.check_paths(options, sys.argv[1:] if hand_over else None)
        if hand_over:
            return job.run_as_job(options.address, Path(sys.argv[0]), sys.argv[1:], sweep.name)
    search, says = None, ""
    if options.confirm is not None:
        storage = local_folder(options.storage)
        confirmation = confirming(sweep, storage, recipe_changes(options.recipe), options.confirm or None)
        sweep, search, says = confirmation.sweep, confirmation.search, confirmation.says
    stop_at_sigterm(f"stopped, and Ray does not answer; finished networks are kept: {_again()}")
    view = View(f"hardtune · {sweep.name}", sweep.objectives)
    try:
        outcome = run_and_show(sweep, place_of(options, search), view, _again(), says)
    except CannotGoOn as error:
        print(f"error: {error}\n{_again()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if view.folder is not None or (options.resume and kept(local_folder(options.storage), sweep.name)):
            raise
        print("\nstopped before the sweep began", file=sys.stderr)  # so there is nothing to resume
        return 130
    view.console.print(f"took {time.monotonic() - started:.0f} s", highlight=False)
    if outcome.interrupted:
        view.whole(f"finished networks are kept: {_again()}")
    return _exit_code(outcome)


def place_of(options: argparse.Namespace, confirms: Kept | None = None) -> Place:
    """Where these flags say that a sweep runs; ``confirms`` is the search whose front it tries again."""
    return Place(
        storage=options.storage,
        tracking_uri=options.tracking_uri,
        study_storage=options.study_storage,
        address=options.address,
        data_dir=options.data_dir,
        concurrent=options.concurrent,
        resume=options.resume,
        data_of=confirms,
        subset=options.smoke,
    )


def _exit_code(outcome: Outcome) -> int:
    """One of ``EXIT_CODES``."""
    if outcome.interrupted:
        return 130
    failed = [record for record in outcome.records if record.state == "failed"]
    broken = any(record.again for record in failed) or bool(outcome.unwritten)
    return 1 if broken or len(failed) == len(outcome.records) - 1 else 0


def configured(sweep: Sweep, options: argparse.Namespace) -> Sweep:
    """The sweep with the command line's changes."""
    if options.trials is not None and sweep.treatments is not None:
        raise InputError(f"--trials is for searches, and this sweep tries a list of {sweep.trials} treatments")
    if options.confirm is not None and (options.trials is not None or options.racing):
        raise InputError("--confirm trains all of the front, and whole, so it takes no --trials and no --racing")
    sweep = sweep.on(options.data, options.imbalance, options.label_noise)
    if options.smoke:
        sweep = sweep.smoke()
    recipe = dataclasses.replace(sweep.recipe, **recipe_changes(options.recipe))
    changes: dict[str, Any] = {"recipe": recipe}
    for name in (
        "trials",
        "image_size",
        "pool",
        "ood",
        "corruptions",
        "severities",
        "racing",
        "cpus_per_trial",
        "members_at_once",
        "gpus_per_trial",
    ):
        value = getattr(options, name)
        if value is not None:
            changes[name] = value
    changed = dataclasses.replace(sweep, **changes)
    if options.severities and not changed.corruptions:
        raise InputError("--severities are of corruptions, and none is named: see --corruptions")
    return changed


def _again() -> str:
    """The command to continue with."""
    flags = [flag for flag in sys.argv[1:] if flag != "--resume"]
    return "go on with " + shlex.join(["python", sys.argv[0], *hidden(flags), "--resume"])
