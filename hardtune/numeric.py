"""Which arguments are numbers: numpy's are, and True and False are none."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TypeGuard

from hardtune.errors import InputError


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number, perhaps NaN or infinite."""
    return isinstance(value, Real) and not isinstance(value, bool)


def whole(value: object, name: str, least: int = 1) -> int:
    """The number as an int, which JSON has; ``InputError`` unless it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
