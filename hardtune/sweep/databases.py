"""The database of Optuna's study, which a team may keep on a server of its own."""

from __future__ import annotations

import optuna

from hardtune.errors import InputError


def study_database(url: str, study: str, *, begun: bool = False) -> optuna.storages.RDBStorage:
    """The storage at an SQLAlchemy URL (``postgresql+psycopg://db/optuna``, ``sqlite:////path``); tables are made.

    Args:
        begun: the study must be there already.

    Raises:
        InputError: nothing that Optuna can use is there, or not the study.
    """
    try:
        storage = optuna.storages.RDBStorage(url)
        names = optuna.get_all_study_names(storage) if begun else [study]
    except Exception as error:  # SQLAlchemy's, and those of every database driver
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"Optuna cannot keep its study in {without_password(url)}: {reason}") from error
    if study not in names:
        raise InputError(
            f"the study of {study} is not in {without_password(url)}: name the database that it was begun in "
            "(--study-storage)"
        )
    return storage


def without_password(url: str) -> str:
    """The URL as it may be shown.

    >>> without_password("postgresql://me:secret@db/mlflow")
    'postgresql://me:…@db/mlflow'
    >>> without_password("sqlite:////results/study.db")
    'sqlite:////results/study.db'
    """
    scheme, found, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{found}{user.partition(':')[0]}{':…' if ':' in user else ''}{at}{place}"
