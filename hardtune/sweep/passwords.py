"""Hiding the passwords that URLs of databases and servers may contain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

_IN_LOGIN = re.compile(r"(?s)(?<=://)(?!\[)([^:/]*:)(.+)(?=@)")
"""A user without a slash, as in SQLAlchemy's URLs, and a password, which may have any sign, until the last @."""
_PORT = re.compile(r"\d+[/?#]")
_IN_QUERY = re.compile(r"(?i)([?&](?:password|passwd|pwd|token|sslpassword)=)[^&\s]+")


def without_password(url: str) -> str:
    """The URL (or a flag with one), safe to show.

    >>> without_password("postgresql://me:secret@db/mlflow")
    'postgresql://me:…@db/mlflow'
    >>> without_password("--study-storage=postgresql://db/optuna?user=me&password=secret")
    '--study-storage=postgresql://db/optuna?user=me&password=…'
    >>> without_password("sqlite:////results/study.db")
    'sqlite:////results/study.db'
    >>> without_password("sqlite:////data/run:1@home/study.db"), without_password("http://mlflow:5000/a@b")
    ('sqlite:////data/run:1@home/study.db', 'http://mlflow:5000/a@b')
    """
    login = _login(url)
    if login:
        url = f"{url[: login.start(2)]}…{url[login.end() :]}"
    return _IN_QUERY.sub(r"\1…", url)


def has_password(url: str) -> bool:
    """Whether the URL contains something that must not be shown."""
    return without_password(url) != url


def scrubbed(text: str, *urls: str | None) -> str:
    """The text, which may quote the URLs or parts of them, without their passwords.

    >>> scrubbed("cannot reach http://me:s%20cret@host: 's cret' is wrong", "http://me:s%20cret@host")
    "cannot reach http://me:…@host: '…' is wrong"
    """
    for url in urls:
        for secret in sorted(_secrets(url or ""), key=len, reverse=True):
            # Gaps within words would show what a short one is.
            pattern = re.escape(secret) if len(secret) > 3 else rf"(?<!\w){re.escape(secret)}(?!\w)"
            text = re.sub(pattern, "…", text)
    return text


def hidden(words: Sequence[str]) -> list[str]:
    """A command line, safe to show."""
    return [without_password(word) for word in words]


def _login(url: str) -> re.Match[str] | None:
    login = _IN_LOGIN.search(url)
    # In http://mlflow:5000/a@b that is a port and a path; of a database SQLAlchemy would take the same for a password.
    while login and _PORT.match(login[2]) and url[: login.start()].lower().endswith(("http://", "https://")):
        login = _IN_LOGIN.search(url, login.start(2))  # a word may have more than one URL
    return login


def _secrets(url: str) -> set[str]:
    """The passwords, as they are and decoded, and the parts of those in which a parser sees the end of a login."""
    login = _login(url)
    found = [*([login[2]] if login else []), *(match[0].partition("=")[2] for match in _IN_QUERY.finditer(url))]
    return {part for text in found for part in (text, unquote(text), *re.split("[/?#@]", text)) if part}
