"""Manage stored results: list them, check every file, free space.

    python -m hardtune store ls                       list results by kind
    python -m hardtune store verify                   compare every checksum; damaged files are set aside
    python -m hardtune store prune                    remove damaged files and leftovers of killed processes
    python -m hardtune store prune --older-than 30    also remove results that were written over 30 days ago

Results are not removed by age while a sweep of the same storage is running. Else nothing here costs more than time: a
sweep recomputes whatever it needs and does not find.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import defaultdict

from rich.console import Console
from rich.progress import track

from hardtune.command_line import plain_console
from hardtune.errors import InputError
from hardtune.report.sweeps import kept
from hardtune.store import Entry, Store, local_folder

DAY = 86400.0
ABANDONED = 3600.0
"""Seconds after which a file still being written is assumed to have lost its writer."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add flags for what to do, and where."""
    parser.add_argument("action", choices=["ls", "verify", "prune"])
    parser.add_argument(
        "--storage",
        default=os.environ.get("HARDTUNE_STORAGE") or "hardtune-results",
        metavar="DIR",
        help="the sweeps' --storage, or the folder or fsspec URL of your own Store "
        "(also: HARDTUNE_STORAGE; default: %(default)s)",
    )
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="prune: also results older than this")
    parser.add_argument("--dry-run", action="store_true", help="prune: only list what would be removed")


def run(options: argparse.Namespace) -> int:
    """Run the action; returns 1 if ``verify`` found damage."""
    if options.older_than is not None and not options.older_than >= 0:  # as nan is
        raise InputError(f"--older-than must be at least 0 days, got {options.older_than:g}")
    if options.action != "prune" and (options.older_than is not None or options.dry_run):
        raise InputError(f"--older-than and --dry-run are for prune, and this is {options.action}")
    storage = options.storage if "://" in options.storage else str(local_folder(options.storage))
    store = Store(f"{storage.rstrip('/')}/store")
    entries = store.entries()
    if not entries:
        store = Store(storage)
        entries = store.entries()
    console = plain_console()
    if not entries:
        nothing = f"nothing is stored in {storage.rstrip('/')}/store, nor in {storage} itself"
        console.print(nothing, soft_wrap=True)
        return 0
    if options.action == "ls":
        return _list(entries, console)
    if options.action == "verify":
        return _verify(store, entries, console)
    return _prune(store, entries, options, console)


def _list(entries: list[Entry], console: Console) -> int:
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry.kind if entry.is_result else "leftovers"].append(entry)
    for kind, group in by_kind.items():
        newest = min(entry.age for entry in group)
        console.print(f"{kind:12} {len(group):6} files  {_size(group):>9}  newest {_days(newest)}")
    return 0


def _verify(store: Store, entries: list[Entry], console: Console) -> int:
    results = [entry for entry in entries if entry.is_result]
    whole = damaged = 0
    for entry in track(results, "checking", console=console, transient=True, disable=not console.is_terminal):
        try:
            problem = store.verify(entry)
        except FileNotFoundError:  # removed meanwhile
            continue
        if problem is None:
            whole += 1
        else:
            damaged += 1
            console.print(f"set aside {entry.path}: {problem}", soft_wrap=True)
    console.print(f"{whole} of {whole + damaged} results are whole")
    return 1 if damaged else 0


def _prune(store: Store, entries: list[Entry], options: argparse.Namespace, console: Console) -> int:
    if options.older_than is not None and not options.dry_run:
        _refuse_while_a_sweep_runs(options.storage)
    limit = float("inf") if options.older_than is None else options.older_than * DAY
    gone = [entry for entry in entries if (entry.age >= limit if entry.is_result else _is_left(entry))]
    for entry in gone:
        if not options.dry_run:
            with contextlib.suppress(FileNotFoundError):  # whoever writes it ended, or another prune was faster
                store.remove(entry)
    verb = "would remove" if options.dry_run else "removed"
    console.print(f"{verb} {len(gone)} of {len(entries)} files, {_size(gone)}")
    return 0


def _refuse_while_a_sweep_runs(storage: str) -> None:
    """Raise ``InputError`` for a sweep that would miss its scores: it looks for them once, and again for each trial."""
    folder = None if "://" in storage else local_folder(storage)
    # The store's own folder may be named, too, and its sweeps are then beside it.
    places = [] if folder is None else [folder, folder.parent] if folder.name == "store" else [folder]
    running = [sweep.id for place in places for sweep in kept(place) if sweep.is_running]
    if running:
        raise InputError(
            f"sweep {running[0]} is running on what is stored there: prune by age when it has ended, or leave "
            "--older-than out"
        )


def _is_left(entry: Entry) -> bool:
    return entry.path.endswith(".corrupt") or entry.age > ABANDONED


def _size(entries: list[Entry]) -> str:
    size = float(sum(entry.size for entry in entries))
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def _days(seconds: float) -> str:
    return "today" if seconds < DAY else f"{seconds / DAY:.0f} days ago"
