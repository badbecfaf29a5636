"""A sweep as a Ray job: it runs on the cluster's head, and outlives the terminal that started it.

``ray submit`` runs a script over ssh, and the script dies with the connection. So a sweep script that is given a
cluster's job server (``--address http://…``) submits itself and only follows the log.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import hardtune
from hardtune.data import DATASETS
from hardtune.data.out_of_distribution import VIEWS
from hardtune.errors import InputError, first_line
from hardtune.sweep.passwords import has_password
from hardtune.sweep.plug_ins import own_modules


def run_as_job(address: str, script: Path, flags: Sequence[str], name: str) -> int:
    """Submit ``script`` with its command line's ``flags``, follow its log, and return its exit code.

    The script, the modules it imported that are not installed, and this hardtune are sent with the job, so it runs
    the local code; data and results are on the cluster. Ctrl-C stops following the log, not the sweep.

    Raises:
        InputError: no job server answers at ``address``, it does not take the job, or a flag has a password.
    """
    _check_passwords(flags)
    from ray.job_submission import JobStatus, JobSubmissionClient

    for chatty in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{chatty}").setLevel(logging.WARNING)
    plain = re.sub(r"[^\w.-]+", "-", name)  # it becomes part of a URL
    job = f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"
    with tempfile.TemporaryDirectory() as folder:
        pack(script, Path(folder))
        try:
            client = JobSubmissionClient(address)
            client.submit_job(
                entrypoint=shlex.join(["python", script.name, *without_address(flags)]),
                submission_id=job,
                runtime_env={"working_dir": folder, "py_modules": [str(Path(hardtune.__file__).parent)]},
            )
        except Exception as error:  # ConnectionError, RuntimeError, AuthenticationError, aiohttp's and requests' own
            reason = first_line(error)
            if "auth" in reason.lower():
                reason += " (a cluster with a token takes it with RAY_AUTH_MODE=token and its ~/.ray/auth_token)"
            raise InputError(f"the cluster at {address} does not take the sweep: {reason}") from error
    print(f"job {job}: closing this terminal leaves it running", flush=True)
    try:
        info = asyncio.run(_follow(client, job))
    except KeyboardInterrupt:
        print(f"\nthe sweep goes on; follow it with: ray job logs --follow {job}\nstop it with: ray job stop {job}")
        return 0
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.driver_exit_code is None:
        print(f"error: job {job} {info.status.value.lower()}: {info.message}", file=sys.stderr)
    return info.driver_exit_code or (130 if info.status == JobStatus.STOPPED else 1)


def check_paths(options: argparse.Namespace, given: list[str] | None) -> None:
    """Raise ``InputError`` for a relative path: a job runs in its own folder, which is deleted when it ends.

    ``given``: check only the flags on this command line, since defaults are the cluster's own.
    """
    paths = {"--storage": options.storage, "--data-dir": options.data_dir, "--pool": options.pool}
    # These may also be names; what is a folder only here would be an unknown name there. In the job, it came with it.
    images = {} if given is None else {"--data": options.data, "--ood": options.ood}
    paths |= {
        flag: it
        for flag, it in images.items()
        if it and it not in {*DATASETS, *VIEWS} and Path(it).expanduser().is_dir()
    }
    for flag, path in paths.items():
        mine = given is None or any(word.split("=")[0] == flag for word in given)
        if mine and path is not None and not Path(path).is_absolute():
            raise InputError(f"on a cluster {flag} must be an absolute path that all nodes see, got {str(path)!r}")


def _check_passwords(given: Sequence[str]) -> None:
    """Raise ``InputError`` for a password in a job's command line, which the cluster shows to all who can reach it."""
    if any(map(has_password, given)):
        raise InputError(
            "a job's command line is no place for a password: set MLFLOW_TRACKING_URI and OPTUNA_STORAGE on the "
            "cluster's head, or keep the password there in ~/.pgpass, and leave it out of the URL"
        )


def pack(script: Path, folder: Path) -> None:
    """Copy the script and the imported modules that only it can find into the folder, also from archives."""
    for module, place in own_modules():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(module.__spec__.loader.get_data(module.__file__))  # type: ignore
    shutil.copy(script, folder)


def without_address(flags: Sequence[str]) -> list[str]:
    """The flags without ``--address``: Ray tells a job which cluster it is in.

    >>> without_address(["--smoke", "--address", "http://head:8265", "--trials", "8"])
    ['--smoke', '--trials', '8']
    >>> without_address(["--address=http://head:8265", "--resume"])
    ['--resume']
    """
    kept = []
    rest = iter(flags)
    for flag in rest:
        if flag == "--address":
            next(rest, None)
        elif not flag.startswith("--address="):
            kept.append(flag)
    return kept


async def _follow(client: Any, job: str, patience: float = 60.0) -> Any:
    """Print the job's log until it ends, and return what Ray then knows of it.

    After a lost connection, it resumes where it broke off, within ``patience`` s.
    """
    printed = 0

    async def log(heard: Callable[[], None]) -> None:
        nonlocal printed
        seen = 0
        async for text in client.tail_job_logs(job):
            new = text[max(0, printed - seen) :]
            seen += len(text)
            printed = max(printed, seen)
            print(new, end="", flush=True)
            heard()

    async def ended(heard: Callable[[], None]) -> Any:
        while not (info := client.get_job_info(job)).status.is_terminal():  # the log ends a moment before the job does
            heard()
            await asyncio.sleep(0.2)
        return info

    await _patiently(log, job, patience)
    return await _patiently(ended, job, patience)


async def _patiently(attempt: Callable[[Callable[[], None]], Awaitable[Any]], job: str, patience: float) -> Any:
    """Repeat an attempt that loses the connection, until ``patience`` s have passed without it calling ``heard()``."""
    from aiohttp import ClientError

    deadline: float | None = None

    def heard() -> None:
        nonlocal deadline
        deadline = None

    while True:
        try:
            return await attempt(heard)
        except (OSError, RuntimeError, ClientError) as error:  # requests' own are OSErrors
            deadline = deadline or time.monotonic() + patience
            if time.monotonic() > deadline:
                raise InputError(f"lost sight of job {job}: {first_line(error)}; look with: ray job list") from error
            await asyncio.sleep(2)
