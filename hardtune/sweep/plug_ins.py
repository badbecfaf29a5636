"""What a sweep's script registers, made known to Ray's workers, which import hardtune and never the script."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import ray

from hardtune.errors import InputError
from hardtune.registry import add_plug_ins, plug_ins


def with_plug_ins() -> dict[str, Any]:
    """The part of a runtime environment that registers this process's plug-ins in every worker as it starts.

    Raises:
        InputError: one cannot be sent.
    """
    found = plug_ins()
    if not found:
        return {}
    for module, _ in modules_beside():
        ray.cloudpickle.register_pickle_by_value(module)  # else functions would travel by name
    for kind, entries in found.items():
        for name, entry in entries.items():
            try:
                ray.cloudpickle.dumps(entry)
            except Exception as error:  # whatever its parts raise
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise InputError(
                    f"the {kind} {name!r} cannot be sent to the workers ({reason}): define it in a package that is "
                    "installed on all nodes, or without that"
                ) from error

    def register() -> None:
        import hardtune.sweep.trainable  # noqa: F401  and with it every registry

        add_plug_ins(found)

    return {"worker_process_setup_hook": register}


def modules_beside() -> Iterator[tuple[ModuleType, Path]]:
    """The imported modules that only the script's own folder has, each with its file's place there.

    Elsewhere than in the script's process nobody finds them, unlike hardtune, which goes to every node.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None:
        return
    beside = Path(script).resolve().parent
    elsewhere = [path for path in sys.path if Path(path).resolve() != beside]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if top in ("__main__", "hardtune") or file is None or not Path(file).resolve().is_relative_to(beside):
            continue
        if PathFinder.find_spec(top, elsewhere) is None:
            yield module, Path(file).resolve().relative_to(beside)
