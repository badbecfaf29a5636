"""A PostgreSQL server of one's own: Debian's, in a folder, on a free port of the loopback, with a password."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSWORD = "osprey horse battery staple"  # no word of what sweeps say


def programs() -> Path | None:
    """Where Debian keeps PostgreSQL's programs, or None where it is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@dataclass(frozen=True)
class Server:
    """A running server; its databases are named in URLs without the password, which ``passwords`` holds."""

    port: int
    passwords: Path
    """A file in the form that PGPASSFILE names."""

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://hardtune@127.0.0.1:{self.port}/{database}"


@contextlib.contextmanager
def running(*databases: str) -> Iterator[Server]:
    """Start a server with these databases, and stop it at the end."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = Path(tempfile.mkdtemp(prefix="hardtune-postgres-"))
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    (folder / "password").write_text(PASSWORD)
    if user:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run([*user, bin_folder / program, *arguments], capture_output=True, text=True, cwd="/")
        assert done.returncode == 0, done.stdout + done.stderr

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "hardtune", "-A", "scram-sha-256", f"--pwfile={folder}/password", "-E", "UTF8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    run("pg_ctl", "-D", data, "-l", f"{folder}/log", "-w", "-o", options, "start")
    try:
        passwords = folder / "pgpass"
        passwords.write_text(f"127.0.0.1:{port}:*:hardtune:{PASSWORD}\n")
        passwords.chmod(0o600)
        for name in databases:
            import psycopg

            with psycopg.connect(
                f"host=127.0.0.1 port={port} user=hardtune dbname=postgres", passfile=str(passwords), autocommit=True
            ) as connection:
                connection.execute(f'create database "{name}"')
        yield Server(port, passwords)
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)
