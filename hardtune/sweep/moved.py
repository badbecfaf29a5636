"""A storage that was moved or copied: MLflow's database in it says where the files beside it were before."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from sqlalchemy import text

from hardtune.sweep.tracking_uri import database_file

_EXPERIMENT = "update experiments set artifact_location = :now where experiment_id = :id"
_RUNS = """
    update runs set artifact_uri = :now || substr(artifact_uri, :rest)
    where experiment_id = :id and substr(artifact_uri, 1, :rest - 1) = :before
"""


def mend_locations(uri: str, artifacts: Path | None) -> None:
    """Let the experiments of a database keep their files in ``artifacts`` beside it, if these came along.

    MLflow writes absolute paths into its database: files of a resumed sweep would go to the former storage, over the
    originals of a copy, and the others would be looked for there. Experiments elsewhere stay as they are.
    """
    database = database_file(uri)
    if artifacts is None or database is None or database.parent != artifacts.parent:
        return
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.begin() as connection:
            query = "select experiment_id, name, artifact_location from experiments"
            for experiment, name, before in connection.execute(text(query)).all():
                now = (artifacts / name).as_uri()
                within = now.removeprefix(artifacts.parent.as_uri())
                if before == now or not (before or "").endswith(within) or not (artifacts / name).is_dir():
                    continue
                known = {"id": experiment, "now": now, "before": before, "rest": len(before) + 1}
                connection.execute(text(_EXPERIMENT), known)
                connection.execute(text(_RUNS), known)
    finally:
        engine.dispose()
