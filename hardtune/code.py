"""A digest of what user code does: results are stored under it, and a resumed sweep must find it unchanged."""

from __future__ import annotations

import argparse
import ast
import dis
import functools
import hashlib
import importlib.util
import inspect
import logging
import os
import random
import re
import sys
import sysconfig
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DEEPEST = 100
"""Maximum nesting depth that is followed."""
_ADDED_BY_PYTHON = frozenset(vars(ModuleType("any"))) | {"__builtins__", "__cached__", "__file__", "__path__"}
"""Names of a module that say where and as what it was loaded, not what it does: a script's is ``__main__``."""
_LIBRARIES = frozenset(["torch", "torchvision", "timm", "numpy", "scipy", "sklearn", "open_clip", "PIL", "matplotlib"])
"""Known by name even if something of theirs is registered as it is; what it uses there may be all of the library."""
_ADDED_METHODS = re.compile(r"namedtuple_\w+|typing(_extensions)?")
"""Modules of what Python adds to named tuples and protocols, which what else is in them decides."""
_numpys_generator = np.random.shuffle.__self__  # type: ignore[attr-defined]
_pythons_generator = random.shuffle.__self__  # type: ignore[attr-defined]
_PLAIN = (bool, int, float, complex, str, bytes, range, np.generic, type(None), type(...))
_WRAPPERS = (staticmethod, classmethod, property, MethodType, functools.partial, functools.cached_property)
_WRAPPED = ("__func__", "__self__", "__wrapped__", "fget", "fset", "fdel", "func", "args", "keywords")


def code_digest(it: Any) -> str:
    """SHA-256 of what a function, a class or an object made of them does; the same in every process.

    It covers the source and, in turn, all that it uses: the user's own functions, classes and modules by their source,
    those of hardtune and of libraries by name (with what they were given, if another function made them), and numbers,
    arrays, tensors and objects by present value. Comments, docstrings and layout do not count; nor does the folder that
    the code is in, or anything known only at run time, such as files that are read.
    """
    top = str(getattr(it, "__module__", "")).partition(".")[0]
    home = "" if top in _LIBRARIES else top
    seen: dict[int, Any] = {}
    text = "\n".join(_words(it, home, seen))
    for folder in _folders(seen.values(), home):
        text = text.replace(folder, ".")
    return hashlib.sha256(text.encode()).hexdigest()


def is_installed(file: str) -> bool:
    """Whether a file is Python's own or a library's; some libraries put their own folders on the path."""
    if {"site-packages", "dist-packages"} & set(Path(file).parts):
        return True
    return Path(file).resolve().is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())


def _folders(seen: Iterable[Any], home: str) -> list[str]:
    """Where the user's code is, inner folders first: a job on a cluster has another folder each time."""
    users = (it for it in seen if isinstance(it, (FunctionType, type)) and _is_users(it, home))
    found = {Path(file).absolute().parent for file in map(_file_of, users) if file}
    return sorted({str(folder) for it in found for folder in (it, it.resolve())}, key=len, reverse=True)


def _file_of(it: FunctionType | type) -> str | None:
    if isinstance(it, FunctionType):
        return it.__globals__.get("__file__")
    return getattr(sys.modules.get(it.__module__), "__file__", None)


def _words(it: Any, home: str, seen: dict[int, Any], depth: int = 0) -> Iterator[str]:
    """Strings describing ``it`` and all it uses, each once: ``seen`` maps ids to what was described, keeping it alive.

    ``home`` is the package or script being digested, which counts as the user's own even if it is installed.
    """
    if isinstance(it, _PLAIN):
        yield repr(it)
        return
    yield str(_attribute(it, "__qualname__") or _attribute(it, "__name__") or type(it).__qualname__)
    if id(it) in seen or depth > _DEEPEST:
        return
    seen[id(it)] = it
    if isinstance(it, np.ndarray) and it.dtype != object and not isinstance(it, np.ma.MaskedArray):
        yield f"{it.dtype}{it.shape}{hashlib.sha256(_content(it)).hexdigest()}"
    elif isinstance(it, (set, frozenset)):
        yield from sorted("\n".join(_words(part, home, dict(seen), depth + 1)) for part in it)
    else:
        if isinstance(it, FunctionType) and _is_users(it, home):
            yield _source(it.__code__)
        for part in _parts(it, home):
            yield from _words(part, home, seen, depth + 1)


def _content(array: NDArray[Any]) -> memoryview | bytes:
    whole = np.ascontiguousarray(array)
    try:
        return whole.view(np.uint8).data  # not a copy; and dates have no buffer of their own
    except (TypeError, ValueError):  # elements that refer to others, or have no bytes
        return whole.tobytes()


def _parts(it: Any, home: str) -> Iterable[Any]:
    """What it consists of or uses, in an order that is the same in every process."""
    if isinstance(it, Mapping):
        factory = [it.default_factory] if isinstance(it, defaultdict) else []
        return () if it is os.environ else [*it.items(), *factory]
    if isinstance(it, np.ma.MaskedArray):
        return [type(it), it.data, np.ma.getmaskarray(it)]
    if isinstance(it, (list, tuple, np.ndarray)):
        return it
    if isinstance(it, PurePath):
        return [str(it)]
    # A logger's name is often the module's; what the common generators draw next is known only at run time.
    if isinstance(it, logging.Logger) or it is _numpys_generator or it is _pythons_generator:
        return [type(it)]
    if isinstance(it, re.Pattern):
        return [type(it), it.pattern, it.flags]
    if isinstance(it, FunctionType):
        return _used_by(it, home) if _is_users(it, home) else _settings(it)
    if isinstance(it, (type, ModuleType)):
        if not _is_users(it, home):
            return ()
        kind = [type(it)] if isinstance(it, type) and _is_users(type(it), home) else []
        return [*kind, *(it.__bases__ if isinstance(it, type) else ()), _written_in(it)]
    if isinstance(it, _WRAPPERS) or _attribute(it, "__wrapped__") is not None:
        return [_attribute(it, name) for name in _WRAPPED]
    try:
        torch = sys.modules.get("torch")
        # Its pickle has memory addresses; that of a sparse one has dense ones.
        if torch is not None and isinstance(it, torch.Tensor) and it.layout == torch.strided:
            plain = it.detach().cpu().resolve_conj().resolve_neg()
            content = plain.contiguous().flatten().view(torch.uint8).numpy()
            return [type(it), str(it.dtype), tuple(it.shape), content]
        if torch is not None and isinstance(it, torch.jit.ScriptFunction):
            # The function that it was made from; torch's own text of it names helpers, and does not have them.
            return [type(it), _attribute(it, "_torchdynamo_inline") or it.code]
        taken_apart = it.__reduce_ex__(4)  # as pickle does
    except Exception:  # a lock, an open file
        return [type(it)]
    if isinstance(taken_apart, str):
        return [taken_apart]
    return [type(it), *(list(part) if isinstance(part, Iterator) else part for part in taken_apart)]


def _attribute(it: Any, name: str) -> Any:
    """None if it has none, or an ``__getattr__`` that raises another error than ``AttributeError``."""
    try:
        return getattr(it, name, None)
    except Exception:
        return None


def _is_users(it: Any, home: str) -> bool:
    """Whether it is user code: not hardtune's, and a library's only if that library is what is being digested."""
    name = it.__name__ if isinstance(it, ModuleType) else str(it.__module__)
    top = name.partition(".")[0]
    if top in ("hardtune", "builtins"):
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return top == home or name not in sys.modules  # interactive, generated, or built into Python
    return top == home or not is_installed(file)


def _source(code: CodeType) -> str:
    """A function's source without comments, docstrings and layout; its bytecode if no source is available."""
    # Much is called "<string>", and Python 3.13 would take the source of `python -c` for that of it all.
    tree = None if code.co_filename == "<string>" else _lambda(code) if code.co_name == "<lambda>" else _function(code)
    if tree is None:
        return "\n".join(_instructions(code))
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _function(code: CodeType) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, SyntaxError):
        return None


def _lambda(code: CodeType) -> ast.AST | None:
    """A lambda where it stands in its file; ``inspect`` has only the line that it begins on."""
    try:
        file = ast.parse("".join(inspect.findsource(code)[0]))
    except (OSError, SyntaxError):
        return None
    # Python says where in the file each instruction is from; the first ones are of no place.
    spans = [((line, column), (end, until)) for line, end, column, until in code.co_positions() if until]
    if not spans:  # with PYTHONNODEBUGRANGES
        return None
    around = [
        node
        for node in ast.walk(file)
        if isinstance(node, ast.Lambda)
        and node.lineno == code.co_firstlineno
        and all(_begin(node.body) <= begin and end <= _end(node.body) for begin, end in spans)
    ]
    return max(around, key=_begin, default=None)  # the innermost


def _begin(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int | None, int | None]:
    return node.end_lineno, node.end_col_offset


def _instructions(code: CodeType) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        yield from _instructions(constant) if isinstance(constant, CodeType) else _words(constant, "", {})


def _used_by(function: FunctionType, home: str) -> Iterator[Any]:
    """What a function takes from outside: closure, defaults, attributes, and the globals and imports it names."""
    yield from (cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell))
    yield function.__defaults__
    yield function.__kwdefaults__
    codes = [function.__code__]
    for code in codes:  # which grows: what a lambda in it takes from a module, say, may have been imported around it
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    names = list(dict.fromkeys(name for code in codes for name in code.co_names if name not in _ADDED_BY_PYTHON))
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    steps = [step for code in codes for step in dis.get_instructions(code)]
    # Not what it sets itself, which may count its calls, nor names with an underscore, where functools keeps caches.
    remembered = {step.argval for step in steps if step.opname == "STORE_ATTR"}
    own = {
        name: it for name, it in sorted(vars(function).items()) if not name.startswith("_") and name not in remembered
    }
    if own:
        yield own
    imports = dict.fromkeys(step.argval for step in steps if step.opname == "IMPORT_NAME")
    found += [_imported(name, function.__globals__.get("__package__")) for name in imports]
    for one in found:
        yield from _named_in(one, names, home)


def _settings(function: FunctionType) -> list[Any]:
    """What a library's function was made with: the numbers, names and functions in its closure, no caches or locks."""
    if function.__module__ == "functools":  # whose closures count and remember
        return []
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return [it for it in cells if _is_setting(it)]


def _is_setting(it: Any) -> bool:
    """Whether it is plain, or made of plain things; an empty list or dict may be a cache, which is yet to be filled."""
    if isinstance(it, Mapping):
        return bool(it) and all(_is_setting(part) for pair in it.items() for part in pair)
    if isinstance(it, (tuple, list, frozenset, set)):
        return bool(it) and all(map(_is_setting, it))
    return isinstance(it, (*_PLAIN, FunctionType, type, functools.partial, np.ndarray))


def _named_in(it: Any, names: Sequence[str], home: str, around: tuple[Any, ...] = ()) -> Iterator[Any]:
    """``it`` itself; of a user's module or a script's flags, only the attributes among ``names``, if there are any.

    All of it where ``getattr`` may take any. ``around``: the modules that it was reached through, since modules import
    each other, and themselves.
    """
    if not isinstance(it, argparse.Namespace) and not (isinstance(it, ModuleType) and _is_users(it, home)):
        yield it
    elif not any(it is one for one in around):
        taken = [] if "getattr" in names else [name for name in names if name in vars(it)]
        for name in taken:
            yield from _named_in(vars(it)[name], names, home, (*around, it))
        if not taken:
            yield it


def _imported(name: str, package: str | None) -> Any:
    """The module that a function imports when called; only its name if it is a library's or cannot be found."""
    for absolute in (name, f"{package}.{name}".rstrip(".")) if package else (name,):
        try:
            spec = importlib.util.find_spec(absolute) if absolute else None
            if spec is not None and spec.origin is not None and Path(spec.origin).is_file():
                return name if is_installed(spec.origin) else importlib.import_module(absolute)
        except Exception:  # importing a module can raise anything
            continue
    return name


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  which raises
    except ValueError:
        return False
    return True


def _written_in(it: type | ModuleType) -> dict[str, Any]:
    """What a class or module defines or imports, by name, without what Python adds."""
    return {
        name: value
        for name, value in sorted(vars(it).items())
        if _is_method(value) or name == "__annotations__" or not name.startswith("__")
    }


def _is_method(it: Any) -> bool:
    if isinstance(it, (staticmethod, classmethod)):
        return not _ADDED_METHODS.fullmatch(str(_attribute(it.__func__, "__module__")))
    return isinstance(it, (FunctionType, property))
