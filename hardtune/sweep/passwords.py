"""Hiding the passwords that URLs of databases and servers may contain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

_IN_QUERY = re.compile(r"(?i)([?&](?:password|passwd|pwd|token|sslpassword)=)[^&\s]+")


def without_password(url: str) -> str:
    """The URL (or a flag with one), safe to show.

    >>> without_password("postgresql://me:secret@db/mlflow")
    'postgresql://me:…@db/mlflow'
    >>> without_password("--study-storage=postgresql://db/optuna?user=me&password=secret")
    '--study-storage=postgresql://db/optuna?user=me&password=…'
    >>> without_password("sqlite:////results/study.db")
    'sqlite:////results/study.db'
    """
    scheme, found, rest = url.partition("://")
    login, at, place = rest.rpartition("@")
    if found and ":" in login:
        rest = f"{login.partition(':')[0]}:…{at}{place}"
    return _IN_QUERY.sub(r"\1…", f"{scheme}{found}{rest}")


def has_password(url: str) -> bool:
    """Whether the URL contains something that must not be shown."""
    return without_password(url) != url


def scrubbed(text: str, *urls: str | None) -> str:
    """The text, which may quote the URLs or parts of them, without their passwords.

    >>> scrubbed("cannot reach http://me:s%20cret@host: 's cret' is wrong", "http://me:s%20cret@host")
    "cannot reach http://me:…@host: '…' is wrong"
    """
    for url in urls:
        for secret in sorted(_passwords(url or ""), key=len, reverse=True):
            text = text.replace(secret, "…")
    return text


def hidden(words: Sequence[str]) -> list[str]:
    """A command line, safe to show."""
    return [without_password(word) for word in words]


def _passwords(url: str) -> set[str]:
    login = url.partition("://")[2].rpartition("@")[0]
    found = {login.partition(":")[2], *(match[0].partition("=")[2] for match in _IN_QUERY.finditer(url))}
    return {secret for text in found if text for secret in (text, unquote(text))}
