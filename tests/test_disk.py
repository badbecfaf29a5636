"""What a full disk raises is told in a sentence, whoever wrapped it, and other errors keep their traceback."""

import errno
import os
import sqlite3

import pytest
import ray
import sqlalchemy

from hardtune import Store, disk, durable
from hardtune.command_line import run_and_exit
from hardtune.errors import InputError

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def raised(how) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        how()
    return caught.value


def from_a_database_that_is_full():
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        connection.exec_driver_sql("pragma max_page_count = 1")
        connection.exec_driver_sql("create table a (b)")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_it_is_told_by_its_number(number):
    assert disk.trouble(OSError(number, "any", "/results/a")) == f"[Errno {number}] any: '/results/a'"


def test_it_is_told_by_whatever_wraps_it():
    def cause():
        raise RuntimeError("cannot go on") from FULL

    def context():
        try:
            raise FULL
        except OSError:
            raise RuntimeError("cannot go on")  # noqa: B904

    of_ray = ray.exceptions.RayTaskError("f", "traceback", FULL).as_instanceof_cause()
    for error in (raised(cause), raised(context), of_ray):
        assert disk.trouble(error, "in /results") == "[Errno 28] No space left on device (in /results)"
    assert disk.trouble(raised(from_a_database_that_is_full)) == "database or disk is full"
    assert disk.trouble(sqlite3.OperationalError("disk I/O error")) == "disk I/O error"


def test_other_errors_are_not_the_disks():
    def instead():
        try:
            raise FULL
        except OSError:
            raise RuntimeError("that was mended") from None

    for error in (FileNotFoundError(errno.ENOENT, "no"), sqlite3.OperationalError("no such table"), raised(instead)):
        assert disk.trouble(error) is None


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (FULL, 1, f"error: {FULL}\n"),
        (InputError("no such data"), 2, "error: no such data\n"),
    ],
)
def test_a_command_ends_with_a_sentence(capsys, error, code, said):
    def run():
        raise error

    with pytest.raises(SystemExit) as stop:
        run_and_exit(run)
    assert (stop.value.code, capsys.readouterr().err) == (code, said)


def test_a_command_hides_no_other_error():
    def run():
        raise OSError(errno.ECONNRESET, "reset")

    with pytest.raises(ConnectionResetError):
        run_and_exit(run)


@pytest.mark.parametrize("write", ["record", "result"])
def test_what_cannot_be_written_is_named_and_leaves_nothing(tmp_path, monkeypatch, write):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = Store(tmp_path)
    if write == "record":
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/sweep.json'"):
            durable.write(tmp_path / "sweep.json", "{}")
    else:
        monkeypatch.setattr(type(store._files), "pipe_file", full)
        with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/member/\w+.safetensors'"):
            store.put({"kind": "member"}, {})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_text_may_name_a_file_whose_name_is_not_utf_8(tmp_path):
    durable.write(tmp_path / "README.md", "The control on caf\udce9.")  # as Python reads such a name
    assert (tmp_path / "README.md").read_bytes() == b"The control on caf\xe9."
