"""Plug-ins by name: one decorator adds one, and a wrong name's error lists the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from hardtune.errors import unknown

T = TypeVar("T")


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

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Add the decorated plug-in under ``name``, which must be new."""

        def add(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"there is already a {self.kind} named {name!r}")
            self._entries[name] = entry
            return entry

        return add

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
