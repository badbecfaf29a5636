"""Sends what a sweep's script registers to Ray's workers, which import hardtune but never the script."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import ray

from hardtune.code import is_installed
from hardtune.errors import InputError, first_line
from hardtune.registry import add_plug_ins, plug_in_code, plug_ins

MAX_SENT = 64_000_000
"""In bytes; Ray's own limit is 100 MB."""

_FIND = """
import json, sys
from importlib.util import find_spec
specs = {name: find_spec(name) for name in sys.argv[1:]}
homes = {name: list(spec.submodule_search_locations or [spec.origin]) for name, spec in specs.items() if spec}
print(json.dumps(homes))
"""


def with_plug_ins() -> dict[str, Any]:
    """The part of a runtime environment that registers this process's plug-ins in every worker as it starts.

    They are sent with all of the script's own modules that they use. What they import only when called is looked up in
    the same folders as here, which works on a single machine.

    Raises:
        InputError: one cannot be sent, or they are too large.
    """
    found = plug_ins()
    if not found:
        return {}
    for module, _ in own_modules():
        ray.cloudpickle.register_pickle_by_value(module)  # else functions would be sent by name
    for kind, entries in found.items():
        for name, entry in entries.items():
            try:
                _dumps(entry)
            except Exception as error:  # pickling can raise anything
                raise InputError(
                    f"the {kind} {name!r} cannot be sent to the workers ({first_line(error)}): define it in a package "
                    "that is installed on all nodes, or without that"
                ) from error
    sent, code = _dumps(found), plug_in_code()
    if len(sent) > MAX_SENT:
        names = ", ".join(f"{kind} {name!r}" for kind, entries in found.items() for name in entries)
        raise InputError(
            f"what is registered ({names}) is {len(sent) / 1e6:.0f} MB with all that it uses, and at most "
            f"{MAX_SENT / 1e6:.0f} MB are sent to the workers: read large arrays from files where they are used"
        )
    folders = [os.path.abspath(folder) for folder in sys.path]

    def register() -> None:
        import hardtune.sweep.trainable  # noqa: F401  and with it every registry

        sys.path.extend(folder for folder in folders if folder not in sys.path)
        add_plug_ins(ray.cloudpickle.loads(sent), code)

    return {"worker_process_setup_hook": register}


def own_modules() -> Iterator[tuple[ModuleType, Path]]:
    """The imported modules that only this process finds, each with its file's path relative to ``sys.path``.

    They are next to the script, or in folders and archives that it put on the path itself. A fresh Python finds none
    of them, unlike installed packages (editable ones too) and those in PYTHONPATH. hardtune itself is left out, since
    it is sent to every node.
    """
    judged = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        file = getattr(module, "__file__", None)
        # The top-level package's file decides; submodules may be elsewhere, or have no file.
        first = getattr(sys.modules.get(top), "__file__", None) or file
        if file and first and top not in ("__main__", "__mp_main__", "hardtune") and not is_installed(first):
            judged[name] = Path(first).resolve()
    homes = _found_at_start({name.partition(".")[0] for name in judged})
    for name, first in judged.items():
        module = sys.modules[name]
        place = Path(*name.split("."))
        if not any(first.is_relative_to(home) for home in homes.get(place.parts[0], ())):
            yield module, (place if hasattr(module, "__path__") else place.parent) / Path(str(module.__file__)).name


def _found_at_start(names: Iterable[str]) -> dict[str, list[Path]]:
    """The files of modules, and the folders of packages, that a Python started elsewhere finds."""
    names = sorted(names)
    if not names:
        return {}
    script = getattr(sys.modules["__main__"], "__file__", None)
    beside = None if script is None else Path(script).resolve().parent
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = [folder for folder in path if folder and Path(folder).resolve() != beside]
    said = subprocess.run(
        [sys.executable, "-P", "-c", _FIND, *names],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    found = json.loads(said.splitlines()[-1])
    return {name: [Path(home).resolve() for home in homes if home] for name, homes in found.items()}


class _Pickler(ray.cloudpickle.CloudPickler):
    """Ray's pickler, for modules that import each other or, as ``import package.module`` does, themselves."""

    def reducer_override(self, it: Any) -> Any:
        if isinstance(it, ModuleType) and _goes_by_value(it):
            left_out = ("__builtins__", "__loader__", "__spec__")
            state = {name: value for name, value in vars(it).items() if name not in left_out}
            return ModuleType, (it.__name__,), state, None, None, _fill
        return super().reducer_override(it)


def _goes_by_value(module: ModuleType) -> bool:
    """Whether it is registered to be pickled by value, or is a namespace package with such modules."""
    registered = ray.cloudpickle.list_registry_pickle_by_value()
    inner = f"{module.__name__}."
    folder = getattr(module, "__file__", None) is None and any(name.startswith(inner) for name in registered)
    return folder or module.__name__ in registered


def _fill(module: ModuleType, state: dict[str, Any]) -> None:
    vars(module).update(state)


def _dumps(it: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file).dump(it)
    return file.getvalue()
