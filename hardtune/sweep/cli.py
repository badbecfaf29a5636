"""The command line that every sweep script has: its flags, its messages, its exit codes."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from hardtune.errors import DivergedError, InputError, unknown
from hardtune.recipe import Recipe
from hardtune.report.table import render
from hardtune.sweep.definition import Sweep
from hardtune.sweep.live import View


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The flags of every sweep script, under the script's own docstring. Add flags of a sweep's own to it."""
    flags = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = flags.add_argument_group("what to run")
    what.add_argument("--trials", type=int, metavar="N", help="treatments to try, beside the control")
    what.add_argument(
        "--smoke",
        action="store_true",
        help="every code path in under a minute: 4 trials of 2 networks, 1 epoch, a few samples of 10 classes; "
        "pixels stand in for a pre-trained encoder unless --recipe names one",
    )
    what.add_argument(
        "--resume",
        action="store_true",
        help="go on with the latest sweep of this name and content; with a larger --trials, extend it",
    )
    what.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="change the recipe: epochs=30 members=3 encoder=ViT-B-32@weights.safetensors "
        f"({', '.join(field.name for field in dataclasses.fields(Recipe))})",
    )
    where = flags.add_argument_group("where")
    where.add_argument("--data", metavar="NAME", help="another data set: its name, or an image folder's path")
    where.add_argument("--data-dir", type=Path, metavar="DIR", help="where the data's files are (also: HARDTUNE_DATA)")
    where.add_argument(
        "--storage",
        type=Path,
        default=Path("hardtune-results"),
        metavar="DIR",
        help="results, cached scores and the tracking database; on a cluster a path that all nodes see "
        "(default: %(default)s)",
    )
    where.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="an MLflow server (http://host:5000) or database; default: sqlite in the storage",
    )
    where.add_argument(
        "--address", metavar="ADDR", help="a running Ray cluster (auto, ray://host:10001); default: start Ray here"
    )
    size = flags.add_argument_group("how much of the machine")
    size.add_argument("--cpus-per-trial", type=float, metavar="X", help="default: 1")
    size.add_argument(
        "--gpus-per-trial", type=float, metavar="X", help="fractions share one; default: 1 where there are any"
    )
    size.add_argument("--concurrent", type=int, metavar="N", help="trials at once; default: as many as fit")
    return flags


def main(sweep: Sweep, options: argparse.Namespace | None = None, doc: str | None = None) -> None:
    """Run the sweep as the command line says, and exit: 0 done, 2 wrong input, 130 after Ctrl-C.

    A sweep script ends with ``main(sweep, doc=__doc__)``; one with flags of its own parses them with ``parser``
    and passes the ``options``.
    """
    started = time.monotonic()
    options = options or parser(doc).parse_args()
    try:
        code = _run(sweep, options, started)
    except Exception as error:
        # Ray wraps what its workers raise; the cause is what a person can mend.
        cause = getattr(error, "cause", None) or error
        if not isinstance(cause, (InputError, DivergedError)):
            raise
        print(f"error: {cause}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print(f"\nstopped; finished networks are kept: {_again(options)}", file=sys.stderr)
        code = 130
    sys.exit(code)


def _run(sweep: Sweep, options: argparse.Namespace, started: float) -> int:
    sweep = configured(sweep, options)
    warnings.filterwarnings("ignore")  # of libraries; what a user should know is in the view
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    if options.concurrent is not None and options.concurrent < 1:
        raise InputError(f"--concurrent must be at least 1, got {options.concurrent}")
    console = Console()
    view = View(f"hardtune · {sweep.name}", sweep.objectives, console)
    with view:
        # Imported late, so that --help and a mistyped flag answer at once.
        from hardtune.sweep.engine import Place, run_sweep

        place = Place(
            storage=options.storage,
            tracking_uri=options.tracking_uri,
            address=options.address,
            data_dir=options.data_dir,
            concurrent=options.concurrent,
            resume=options.resume,
            subset=options.smoke,
        )
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        outcome = run_sweep(sweep, place, view)
    held_out = (
        "the test split (the papers' protocol)" if sweep.recipe.validation == "test" else "held-out training data"
    )
    title = f"{'Pareto front' if len(sweep.objectives) > 1 else 'Best'} of {sweep.name}"
    if outcome.interrupted:
        console.print(f"Stopped after {len(outcome.records) - 1} of {sweep.trials} trials; so far:")
    console.print(render(outcome.rows, sweep.objectives, title, held_out))
    failed = [record for record in outcome.records if record.state == "failed"]
    for record in failed[:3]:
        console.print(f"trial {record.number} ({record.treatment}) failed: {record.reason}", highlight=False)
    if len(failed) > 3:
        console.print(f"and {len(failed) - 3} more failed; their reasons are in {outcome.ledger.records}")
    say = [("figure", str(outcome.figure))]
    if outcome.tracking_uri.startswith("http"):
        say.append(("MLflow", outcome.tracking_uri))
    else:
        say.append(("MLflow", f"mlflow ui --workers 1 --backend-store-uri {shlex.quote(outcome.tracking_uri)}"))
    say.append(("charts", outcome.chart_link))
    if not outcome.everything_tracked:
        say.append(("note", "MLflow did not take every record; the same command with --resume sends them again"))
    for name, text in say:
        console.print(f"[bold]{name}[/bold]  ", end="")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print(f"took {time.monotonic() - started:.0f} s", highlight=False)
    if outcome.interrupted:
        console.print(f"finished networks are kept: {_again(options)}", highlight=False, soft_wrap=True)
        return 130
    return 0


def configured(sweep: Sweep, options: argparse.Namespace) -> Sweep:
    """The sweep with the command line's changes."""
    if options.smoke:
        sweep = sweep.smoke()
    recipe = dataclasses.replace(sweep.recipe, **_recipe_changes(options.recipe))
    changes: dict[str, Any] = {"recipe": recipe}
    for name in ("trials", "data", "cpus_per_trial", "gpus_per_trial"):
        value = getattr(options, name)
        if value is not None:
            changes[name] = value
    return dataclasses.replace(sweep, **changes)


def _recipe_changes(pairs: Sequence[str]) -> dict[str, Any]:
    defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--recipe takes name=value pairs, got {pair!r}")
        if name not in defaults:
            raise unknown("field of the recipe", name, defaults)
        changes[name] = _parse(name, text, defaults[name])
    return changes


def _parse(name: str, text: str, default: Any) -> Any:
    """``text`` as the type that the recipe's field has."""
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False, "1": True, "0": False}[text.lower()]
        if isinstance(default, tuple):
            return tuple(float(part) for part in text.split(","))
        if name == "validation" and text == "test":
            return text
        return type(default)(text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", tuple: "numbers between commas"}
        raise InputError(f"{name} must be {wanted[type(default)]}, got {text!r}") from None


def _again(options: argparse.Namespace) -> str:
    """The command that goes on."""
    flags = [flag for flag in sys.argv[1:] if flag != "--resume"]
    return "go on with " + shlex.join(["python", sys.argv[0], *flags, "--resume"])
