"""What a sweep script says before it hands itself to a cluster; that it runs there is test_launcher's."""

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from ray.job_submission import JobStatus

from hardtune import Recipe, Treatment
from hardtune.errors import InputError
from hardtune.sweep import Sweep, main, parser
from hardtune.sweep.job import _follow, check_paths

SCRIPT = str(Path(__file__).parents[2] / "sweeps" / "digits.py")
CLUSTER = "http://127.0.0.1:9"


def said(tmp_path, *flags, **environment):
    done = subprocess.run(
        [sys.executable, SCRIPT, "--smoke", *flags],
        cwd=tmp_path,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def said_here(tmp_path, monkeypatch, capsys):
    """What ``said`` says, from this process: a script takes seconds to start."""
    monkeypatch.chdir(tmp_path)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", [SCRIPT, "--smoke", *flags])
        with pytest.raises(SystemExit) as stop:
            main(Sweep("any", "digits", Recipe(), [Treatment(alpha=1.0)]), parser("").parse_args())
        out, err = capsys.readouterr()
        assert (stop.value.code, out, err.count("\n")) == (2, "", 1), out + err
        return err

    return run


def test_a_job_server_that_does_not_answer_gets_a_sentence(said_here, tmp_path):
    sentence = f"the cluster at {CLUSTER} does not take the sweep"
    assert sentence in said_here("--address", CLUSTER)
    assert sentence in said(tmp_path, RAY_API_SERVER_ADDRESS=CLUSTER)


@pytest.mark.parametrize("flag", ["--storage", "--data-dir", "--pool"])
def test_a_relative_path_is_refused_before_the_sweep_is_handed_over(said_here, flag):
    sentence = f"on a cluster {flag} must be an absolute path that all nodes see, got 'here'"
    assert sentence in said_here("--address", CLUSTER, flag, "here")


@pytest.mark.parametrize("flag", ["--data", "--ood"])
def test_a_relative_folder_of_images_is_refused_and_a_name_is_not(said_here, tmp_path, monkeypatch, flag):
    (tmp_path / "birds").mkdir()
    sentence = f"on a cluster {flag} must be an absolute path that all nodes see, got 'birds'"
    assert sentence in said_here("--address", CLUSTER, flag, "birds")
    at_home = sentence.replace("birds", "~/birds")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert at_home in said_here("--address", CLUSTER, flag, "~/birds")
    (tmp_path / "fashion_mnist").mkdir()
    assert "does not take the sweep" in said_here("--address", CLUSTER, flag, "fashion_mnist")


def test_a_folder_of_images_that_came_with_the_job_may_be_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "birds").mkdir()
    options = argparse.Namespace(storage=tmp_path, data_dir=None, pool=None, data="birds", ood="birds")
    check_paths(options, None)
    with pytest.raises(InputError, match="--data must be an absolute path"):
        check_paths(options, ["--data", "birds"])


@pytest.mark.parametrize("broken", [ConnectionError("reset"), aiohttp.ServerDisconnectedError()])
def test_a_connection_that_breaks_after_a_long_silence_is_taken_up_again(capsys, broken):
    class Quiet:
        calls = asked = 0

        async def tail_job_logs(self, job):
            self.calls += 1
            if self.calls == 1:
                yield "begins "
                await asyncio.sleep(0.3)  # a phase that prints nothing for longer than the patience
                raise broken
            yield "begins and ends"

        def get_job_info(self, job):
            self.asked += 1
            if self.asked == 1:
                raise ConnectionError("refused")
            return SimpleNamespace(status=JobStatus.RUNNING if self.asked == 2 else JobStatus.FAILED)

    assert asyncio.run(_follow(Quiet(), "mine", patience=0.1)).status == JobStatus.FAILED
    assert capsys.readouterr().out == "begins and ends"

    class Gone:
        async def tail_job_logs(self, job):
            raise ConnectionError("refused")
            yield ""

    class Ended:
        async def tail_job_logs(self, job):
            yield "all of it"

        def get_job_info(self, job):
            raise ConnectionError("refused")

    for client in (Gone(), Ended()):
        with pytest.raises(InputError, match="lost sight of job mine: refused"):
            asyncio.run(_follow(client, "mine", patience=0.1))


def test_results_in_a_jobs_own_folder_are_refused_since_it_is_thrown_away(said_here, monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert "on a cluster --storage must be an absolute path" in said_here()


def test_modules_that_only_the_script_finds_travel_with_it(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "package", here / "lib", there):
        folder.mkdir(parents=True)
    (here / "mine.py").write_text("from package.deep import NUMBER; from aside import zipped")
    (here / "lib" / "aside.py").write_text("import zipped")
    with zipfile.ZipFile(here / "archive.zip", "w") as archive:
        archive.writestr("zipped.py", "")
    (here / "package" / "__init__.py").write_text("")
    (here / "package" / "deep.py").write_text("import json\nNUMBER = 42")
    (here / "other.py").write_text("")
    script = here / "script.py"
    script.write_text(
        "import sys; from pathlib import Path; from hardtune.sweep.job import pack\n"
        "sys.path[1:1] = [f'{Path(__file__).parent}/{name}' for name in ('lib', 'archive.zip')]; import mine\n"
        "print(mine.NUMBER)\n"
        "if len(sys.argv) > 1: pack(Path(__file__), Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, script, there], check=True)
    found = {str(path.relative_to(there)) for path in there.rglob("*.py")}
    assert found == {"script.py", "mine.py", "aside.py", "zipped.py", "package/__init__.py", "package/deep.py"}
    shutil.rmtree(here)
    assert subprocess.run([sys.executable, there / "script.py"], check=True, capture_output=True).stdout == b"42\n"
