"""Plug-ins by name: a decorator adds one, and the error for a wrong name lists the valid ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from types import FrameType
from typing import Any, TypeVar

from hardtune.code import code_digest
from hardtune.errors import InputError, unknown

T = TypeVar("T")

PlugIns = Mapping[str, Mapping[str, Any]]
"""Entries by kind and name."""

Digests = dict[str, str]
"""The :func:`code_digest` of plug-ins, by kind and name: ``{"loss mine": "3f…"}``."""

_REGISTRIES: dict[str, Registry[Any]] = {}
"""All imported registries, by kind."""


class Registry(Mapping[str, T]):
    """A read-only mapping from names to plug-ins of one kind, filled by a decorator.

    >>> greetings: Registry[Callable[[], str]] = Registry("greeting")
    >>> @greetings.register("hello")
    ... def hello() -> str:
    ...     return "Hello!"
    >>> greetings["hello"]()
    'Hello!'
    >>> greetings["helo"]
    Traceback (most recent call last):
    hardtune.errors.InputError: unknown greeting 'helo': choose from hello
    """

    def __init__(self, kind: str, *, for_workers: bool = True, reserved: Collection[str] = ()) -> None:
        """
        Args:
            for_workers: whether training workers use these plug-ins; if not, they are not sent to them.
            reserved: names that mean something else where a plug-in's name may stand.
        """
        self.kind, self.for_workers, self._reserved = kind, for_workers, reserved
        self._entries: dict[str, T] = {}
        self._own: set[str] = set()
        """The names of hardtune's own."""
        self._sent: set[str] = set()
        self._from_cells: set[str] = set()
        """The names of those that a notebook's cells registered."""
        self._digests: dict[str, str] = {}
        _REGISTRIES[kind] = self

    def register(self, name: str) -> Callable[[T], T]:
        """Add the decorated plug-in under ``name``, which must be new; a notebook's cell may replace the user's own."""
        if not isinstance(name, str):  # a decorator without parentheses is given what it decorates
            article = "an" if self.kind[0] in "aeio" else "a"
            raise InputError(
                f"{article} {self.kind} is registered under a name, in parentheses and quotes, got {name!r}"
            )
        if not re.fullmatch(r"\w[\w.\- ]*", name):  # as MLflow, which has figures by such names, would have it
            raise InputError(
                f"{self.kind} names begin with a letter or digit and have letters, digits, _, -, . and spaces, "
                f"got {name!r}"
            )

        registrar = _registrar()
        own = _is_hardtunes(registrar)
        in_a_notebook = _is_a_notebooks(registrar)

        def add(entry: T) -> T:
            if name in self._sent:  # it came without its module, imported only now
                self._sent.remove(name)
                return entry
            again = self.is_users(name) and in_a_notebook
            if name in self._reserved or (name in self._entries and not again):
                raise InputError(f"the {self.kind} name {name!r} is taken: choose another")
            self._entries[name] = entry
            self._digests.pop(name, None)
            if own:
                self._own.add(name)
            if in_a_notebook:
                self._from_cells.add(name)
            return entry

        return add

    def code(self, name: str) -> Digests:
        """The plug-in's digest, for store identities; empty for hardtune's own, which have version numbers instead.

        It is computed once, so that a file edited meanwhile is not mistaken for the running code; but see
        :func:`read_cells_again`.
        """
        entry = self[name]
        if not self.is_users(name):
            return {}
        if name not in self._digests:
            self._digests[name] = code_digest(entry)
        return {f"{self.kind} {name}": self._digests[name]}

    def is_users(self, name: str) -> bool:
        """Whether it is there, and not one of hardtune's own."""
        return name in self._entries and name not in self._own

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def plug_ins() -> PlugIns:
    """What is registered here for workers and is not hardtune's own, such as a metric that a sweep's script defines."""
    found = {
        kind: {name: entry for name, entry in registry.items() if registry.is_users(name)}
        for kind, registry in _REGISTRIES.items()
        if registry.for_workers
    }
    return {kind: entries for kind, entries in found.items() if entries}


def plug_in_code() -> Digests:
    """The digest of each of :func:`plug_ins`."""
    found: Digests = {}
    for kind, entries in plug_ins().items():
        for name in entries:
            found |= _REGISTRIES[kind].code(name)
    return found


def read_cells_again() -> None:
    """Forget the digests of what a notebook's cells registered: what they call may have been defined anew since."""
    for registry in _REGISTRIES.values():
        for name in registry._from_cells:
            registry._digests.pop(name, None)


def add_plug_ins(found: PlugIns, code: Digests) -> None:
    """Register another process's :func:`plug_ins` in this one, whose registries must be imported.

    ``code`` is that process's :func:`plug_in_code`: here, their source files may differ or be missing.
    """
    for kind, entries in found.items():
        for name, entry in entries.items():
            if name not in _REGISTRIES[kind]:  # importing its module may have registered it
                _REGISTRIES[kind].register(name)(entry)
                _REGISTRIES[kind]._sent.add(name)
            _REGISTRIES[kind]._digests[name] = code[f"{kind} {name}"]


def _registrar() -> FrameType:
    """What registers something: one of hardtune's modules as it is imported; else a user, perhaps by its help.

    Whoever registers decides, and not where the entry comes from: a user's may be made by a function of hardtune's.
    """
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_name != "<module>" and _is_hardtunes(frame):
        frame = frame.f_back
    return frame


def _is_hardtunes(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "hardtune"


def _is_a_notebooks(frame: FrameType) -> bool:
    """Or another prompt's, where one edits a function and defines it again; a script has a file."""
    return frame.f_globals.get("__name__") == "__main__" and "__file__" not in frame.f_globals
