"""Where MLflow keeps records, checked before anything is trained; and where it shows them."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from hardtune import disk
from hardtune.errors import InputError, first_line
from hardtune.sweep.passwords import scrubbed, without_password

for _name in ("alembic", "mlflow"):  # they log every table
    logging.getLogger(_name).setLevel(logging.ERROR)
# It prints a traceback of every error that it raises; callers report those themselves.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_TURNED_AWAY = {
    401: "log in with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    403: "start it with --allowed-hosts that name this host as the URL does, or give the account permission",
}
"""The remedy, by the HTTP status with which a server rejects requests."""


def default_uri(storage: Path) -> str:
    """A database beside the results; absolute, since Ray changes directories."""
    return f"sqlite:///{storage / 'mlflow.db'}"


def check_tracking(uri: str) -> None:
    """Raise ``InputError`` unless records can be kept at ``uri``, within a few seconds."""
    scheme = uri.partition("://")[0]
    shown = without_password(uri)
    if scheme in ("http", "https"):
        handled = sys.exception()
        try:
            # As MLflow itself will ask, with its variables for logins, tokens and certificates.
            answer = http_request(
                get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=5, raise_on_status=False
            )
        except Exception as error:  # MLflow wraps what it caught
            raise InputError(
                f"no MLflow server answers at {shown}: {scrubbed(first_line(_root(error, handled)), uri)}"
            ) from error
        if not answer.ok:
            raise InputError(f"no MLflow server answers at {shown}: {answer.status_code} {answer.reason}")
    elif scheme == "sqlite":
        path = database_file(uri)
        if path is None:
            raise InputError(f"the tracking database needs an absolute path (sqlite:////…), got {shown}")
        if not path.parent.exists():
            raise InputError(f"there is no folder {path.parent} to keep the tracking database {path.name} in")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise InputError(f"cannot write a tracking database in {path.parent}")
        try:
            sqlalchemy.create_engine(sqlalchemy.make_url(uri).set(database=":memory:")).connect().close()
        except Exception as error:  # of what the URL's query asks for, SQLAlchemy's own or sqlite3's
            raise InputError(f"cannot track at {shown}: {scrubbed(first_line(error), uri)}") from error
    elif scheme in ("postgresql", "mysql", "mssql") or scheme.startswith(("postgresql+", "mysql+")):
        try:
            # MLflow itself would try for minutes.
            sqlalchemy.create_engine(uri, connect_args={"connect_timeout": 10}).connect().close()
        except Exception as error:  # SQLAlchemy's own, or any database driver's
            raise InputError(f"no tracking database answers at {shown}: {scrubbed(first_line(error), uri)}") from error
    else:
        raise InputError(
            f"cannot track at {shown!r}: give http(s)://host:port, sqlite:////absolute/path.db, postgresql:// or mysql://"
        )


def make_database(uri: str) -> None:
    """Create a missing SQLite database completely or not at all.

    MLflow creates it in many steps, and cannot use one that a full disk or a kill left incomplete.
    """
    path = database_file(uri)
    if path is None or path.exists():
        return
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # MLflow keeps a connection to each that it opened
    try:
        drafted = sqlalchemy.make_url(uri).set(database=str(draft))
        MlflowClient(drafted.render_as_string(hide_password=False)).search_experiments(max_results=1)
        try:
            os.link(draft, path)
        except FileExistsError:  # another sweep was faster
            pass
        except OSError:  # a file system without links
            if not path.exists():
                os.rename(draft, path)
    finally:
        for left in path.parent.glob(f"{draft.name}*"):
            disk.removed(left)


def check_experiment(uri: str, name: str) -> None:
    """Raise ``InputError`` if MLflow will never accept runs for the experiment of this name.

    Someone deleted the experiment, the database was made by another version of MLflow, or the server rejects all
    requests but ``/health``, which is open to anyone.
    """
    path = database_file(uri)
    if path is not None and not path.exists():
        return  # the database is yet to be created
    shown = without_password(uri)
    try:
        experiment = MlflowClient(uri).get_experiment_by_name(name)
    except Exception as error:  # a database locked by a writer, say: the tracker retries until it answers
        if "database schema" in str(error):
            raise InputError(
                f"the MLflow database {shown} has the schema of another version of MLflow: back it up "
                f"and run `mlflow db upgrade {shlex.quote(shown)}`, or name another with --tracking-uri"
            ) from error
        mend = _TURNED_AWAY.get(error.get_http_status_code()) if isinstance(error, MlflowException) else None
        if mend is not None:
            raise InputError(
                f"the MLflow server at {shown} takes no records from here: {mend} ({scrubbed(first_line(error), uri)})"
            ) from error
        return
    if experiment is not None and experiment.lifecycle_stage == "deleted":
        raise InputError(
            f"the MLflow experiment {name!r} at {shown} was deleted: bring it back with "
            f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`, or remove it for good with "
            "`mlflow gc` (both with MLFLOW_TRACKING_URI set), or give the sweep another name"
        )


def database_file(uri: str) -> Path | None:
    """The SQLite database at a URL, of which a query (``?timeout=60``) may follow; None for any other database.

    None for a relative path, too, and for a database in memory.
    """
    if not uri.startswith("sqlite://"):
        return None
    try:
        url = sqlalchemy.make_url(uri)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        return None
    path = Path("" if url.host else url.database or "")
    return path if path.is_absolute() else None


def _root(error: BaseException, handled: BaseException | None) -> BaseException:
    """What an error comes from in the end, but for what was being handled before."""
    while (cause := error.__cause__ or error.__context__) and cause is not handled:
        error = cause
    return error


def pages(
    uri: str, experiment: str, run: str, search: str, figure: str, objective: str, direction: str
) -> dict[str, str]:
    """URLs of MLflow's pages on a sweep: ``result`` has its figures, ``charts`` compares front and control.

    Charts are sorted by the objective, best first: MLflow shows none until sorted by a metric.

    Args:
        experiment, run: the ids of the sweep's experiment and of its parent run.
        search: MLflow's filter for these trials.
        figure: the name of the run's main figure.
    """
    base = without_password(uri).rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"  # of `mlflow ui`
    runs = f"{base}/#/experiments/{experiment}/runs"
    order = f"orderByKey={quote(f'metrics.`{objective}`')}&orderByAsc={str(direction == 'min').lower()}"
    return {
        "result": f"{runs}/{run}/artifacts/{figure}",
        "charts": f"{runs}?searchFilter={quote(search)}&{order}&compareRunsMode=CHART",
    }
