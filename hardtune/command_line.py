"""Shared by hardtune's command lines: flags for data and recipe, room for what they write, how errors end them."""

from __future__ import annotations

import argparse
import atexit
import dataclasses
import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hardtune import disk
from hardtune.errors import DivergedError, InputError, unknown
from hardtune.recipe import Recipe

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


def default_storage() -> Path:
    """Where results are kept unless ``--storage`` says otherwise."""
    return Path(os.environ.get("HARDTUNE_STORAGE") or "hardtune-results")


def add_recipe_flag(flags: argparse._ActionsContainer) -> None:
    """``--recipe NAME=VALUE …``, which :func:`recipe_changes` reads."""
    flags.add_argument(
        "--recipe",
        action="extend",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="change the recipe: epochs=30 members=3 encoder=ViT-B-32/openai@weights.safetensors "
        f"({', '.join(field.name for field in dataclasses.fields(Recipe))}; hardtune/recipe.py says what each is)",
    )


def add_data_flags(flags: argparse._ActionsContainer) -> None:
    """``--data`` and what else is said of it, and ``--storage``."""
    flags.add_argument("--data", metavar="NAME", help="another data set: its name, or an image folder's path")
    add_image_size_flag(flags)
    flags.add_argument(
        "--imbalance",
        type=float,
        metavar="X",
        help="give the training data a long tail: the first class keeps all samples, the last one in X",
    )
    flags.add_argument(
        "--label-noise", type=float, metavar="X", help="give a share X of the training data a random wrong label"
    )
    flags.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="where the data's files are, or are downloaded to (also: HARDTUNE_DATA; default: ~/.cache/hardtune/data)",
    )
    flags.add_argument(
        "--pool",
        metavar="PATH",
        help="synthetic images for oversampling 'pool_random', 'pool_hard' and 'pool_mean': a folder with a sub-folder "
        "for each class, or an .npz file with images and labels",
    )
    add_storage_flag(flags)


def add_storage_flag(flags: argparse._ActionsContainer) -> None:
    """``--storage``, for sweeps."""
    flags.add_argument(
        "--storage",
        type=folder,
        default=default_storage(),
        metavar="DIR",
        help="results, cached scores and the tracking database: a folder (no URL) with files that lock, as on NFS 4; "
        "on a cluster one that all nodes see "
        "(also: HARDTUNE_STORAGE; default: %(default)s)",
    )


def add_database_flags(flags: argparse._ActionsContainer) -> None:
    """``--tracking-uri`` and ``--study-storage``."""
    flags.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI") or None,
        metavar="URI",
        help="an MLflow server (http://host:5000) or database (also: MLFLOW_TRACKING_URI; default: sqlite in the "
        "storage)",
    )
    flags.add_argument(
        "--study-storage",
        default=os.environ.get("OPTUNA_STORAGE") or None,
        metavar="URL",
        help="a shared database for Optuna's study (also: OPTUNA_STORAGE; default: sqlite in the sweep's folder)",
    )


def folder(text: str) -> Path | str:
    """A flag's folder; empty text stays empty, to be rejected later: ``Path`` would make it the current folder."""
    return Path(text) if text else text


def add_image_size_flag(flags: argparse._ActionsContainer) -> None:
    """``--image-size``, for folders whose images differ in size."""
    flags.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="bring each image of an image folder to N x N pixels: scaled to cover them, its centre kept",
    )


def recipe_changes(pairs: Sequence[str]) -> dict[str, Any]:
    """Recipe fields from ``name=value`` pairs, each converted to the field's type.

    >>> recipe_changes(["epochs=3", "milestones=0.5,0.75"])
    {'epochs': 3, 'milestones': (0.5, 0.75)}
    >>> recipe_changes(["milestones="])
    {'milestones': ()}
    """
    kinds = {field.name: str(field.type) for field in dataclasses.fields(Recipe)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"--recipe takes name=value pairs, got {pair!r}")
        if name not in kinds:
            raise unknown("field of the recipe", name, kinds)
        changes[name] = _parse(text, kinds[name])
    return changes


def run_and_exit(run: Callable[[], int], when_stopped: Callable[[], str] = lambda: "stopped") -> NoReturn:
    """Exit with what ``run`` returns; with 2 and a sentence on stderr for wrong input or diverged training, with 1 and
    a sentence if a disk is full, broken or read-only, and with 130 after Ctrl-C."""
    try:
        code = run()
    except Exception as error:
        refused = isinstance(error, (InputError, DivergedError))
        sentence = str(error) if refused else disk.trouble(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        code = 2 if refused else 1
    except KeyboardInterrupt:
        print(f"\n{when_stopped()}", file=sys.stderr)
        code = 130
    # Python's last collection would go through all that torch, Ray and MLflow have made: seconds, on the way out.
    atexit.register(gc.freeze)
    sys.exit(code)


def plain_console() -> Console:
    """A console that prints text as it is: paths and class names may have brackets, which rich takes for markup.

    Notebooks get plain lines, as a file does: rich would put every piece of a line into a paragraph of its own. Names
    of files need not be UTF-8: what stdout has no letters for is printed as an escape (\\udce9), and ends nothing.
    """
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    no_terminal = False if Console().is_jupyter else None
    return Console(markup=False, emoji=False, highlight=False, force_jupyter=False, force_terminal=no_terminal)


def progress_bar() -> Progress:
    """A bar on a terminal's stderr, removed when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def show_path(console: Console, label: str, path: Path) -> None:
    """Print where something was written, in one piece, so that it can be copied."""
    from rich.text import Text

    console.print(Text.assemble((label, "bold"), f"  {path}"), soft_wrap=True)


_READ: dict[str, Callable[[str], Any]] = {
    "bool": lambda text: {"true": True, "false": False, "1": True, "0": False}[text.lower()],
    "int": int,
    "float": float,
    "str": str,
    "tuple[float, ...]": lambda text: tuple(map(float, text.split(",") if text else ())),
}


def _parse(text: str, kind: str) -> Any:
    """The text converted to that type; unchanged if it cannot be, which the recipe then reports."""
    try:
        return _READ[kind.removesuffix(" | str")](text)
    except (ValueError, KeyError):
        return text


def add_figure_flag(flags: argparse._ActionsContainer, folder: str, beside: str = "CSV") -> None:
    """``--figure`` of a command that draws one anyway, and writes more ``beside`` it."""
    flags.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help=f"where to write the figure (.png, .pdf or .svg), with the {beside} next to it (default: in the storage's "
        f"folder {folder})",
    )


def make_room_for(path: Path, what: str = "figure") -> None:
    """Make the folder for a figure or table; ``InputError`` if that fails, or if the name is not valid for one."""
    suffixes, choices = {
        "figure": ((".png", ".pdf", ".svg"), ".png, .pdf or .svg"),
        "table": ((".md", ".tex", ".csv"), ".md, .tex or .csv"),
        "CSV file": ((".csv",), ".csv"),
    }[what]
    if path.suffix not in suffixes:
        raise InputError(f"a {what}'s name must end in {choices}, got {str(path)!r}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {what}s to {path.parent}: {error.strerror}") from error
