"""The database of Optuna's study, which may be on a team's own server."""

from __future__ import annotations

import optuna

from hardtune.errors import InputError, first_line
from hardtune.sweep.passwords import scrubbed, without_password

OWNER = "hardtune.owner"
"""Study attribute that says which sweep it belongs to."""


def study_database(url: str, study: str, *, begun: bool = False, owner: str = "") -> optuna.storages.RDBStorage:
    """The storage at an SQLAlchemy URL (``postgresql+psycopg://db/optuna``, ``sqlite:////path``); creates tables.

    Args:
        begun: the study must be there already.
        owner: what a study of this name, if there is one, must have as its ``OWNER``.

    Raises:
        InputError: nothing that Optuna can use is there, or not the study, or a study of the same name.
    """
    try:
        # While the scoring ensemble trains nobody asks the server, which may drop the connection or restart meanwhile.
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
        there = study in optuna.get_all_study_names(storage)
        found = optuna.load_study(study_name=study, storage=storage) if there else None
        foreign = found is not None and bool(found.get_trials(deepcopy=False)) and found.user_attrs.get(OWNER) != owner
    except Exception as error:  # SQLAlchemy's own, or any database driver's
        reason = scrubbed(first_line(error), url)
        raise InputError(f"Optuna cannot keep its study in {without_password(url)}: {reason}") from error
    if foreign and owner:
        raise InputError(
            f"the study of {study} in {without_password(url)} is that of another sweep of the same name: "
            "name another database (--study-storage), or give the sweep another name"
        )
    if begun and not there:
        raise InputError(
            f"the study of {study} is not in {without_password(url)}: name the database that it was begun in "
            "(--study-storage)"
        )
    return storage
