"""A sweep's folder says which command, code and machines made it, and how long each start took."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hardtune
from hardtune.sweep import provenance
from hardtune.sweep.provenance import FILE, kept_start, state_of


def git(folder, *words):
    person = ("-c", "user.name=me", "-c", "user.email=me@here")
    done = subprocess.run(["git", "-C", str(folder), *person, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a package and a script in it, and its commit."""
    folder = tmp_path / "checkout"
    (folder / "package" / "inner").mkdir(parents=True)
    for name in ("package/__init__.py", "package/inner/code.py", "script.py"):
        (folder / name).write_text(f"'''{name}'''\n")
    git(tmp_path, "init", "-q", str(folder))
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "all")
    return folder, git(folder, "rev-parse", "HEAD")


def test_code_in_a_checkout_is_of_its_commit_and_says_whether_it_was_changed_since(checkout):
    folder, commit = checkout
    package, script = state_of(folder / "package"), state_of(folder / "script.py")
    assert (package["commit"], package["changed"]) == (script["commit"], script["changed"]) == (commit, False)
    (folder / "package" / "notes.txt").write_text("no code")
    assert state_of(folder / "package") == package
    (folder / "package" / "inner" / "more.py").write_text("1")
    later = state_of(folder / "package")
    assert (later["commit"], later["changed"]) == (commit, True)
    assert later["sources"] != package["sources"]
    assert state_of(folder / "script.py") == script, "another file of the checkout is not the script"


def test_a_copy_without_its_checkout_is_known_by_its_sources(checkout, tmp_path):
    folder, _ = checkout
    shutil.copytree(folder / "package", tmp_path / "copy")
    copied = state_of(tmp_path / "copy")
    assert copied == {"commit": None, "changed": None, "sources": state_of(folder / "package")["sources"]}


def test_what_git_does_not_track_is_not_of_the_commit_around_it(checkout):
    folder, _ = checkout
    (folder / ".gitignore").write_text("environment\n")
    installed = folder / "environment" / "package"
    shutil.copytree(folder / "package", installed)
    (folder / "new.py").write_text("1")
    assert state_of(installed)["commit"] is state_of(folder / "new.py")["commit"] is None


def test_a_git_that_is_absent_or_hangs_costs_a_commit_and_no_more(checkout, tmp_path, monkeypatch):
    folder, _ = checkout
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    expected = {"commit": None, "changed": None, "sources": state_of(folder / "package")["sources"]}
    assert state_of(folder / "package") == expected
    (tools / "git").write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    os.chmod(tools / "git", 0o755)
    monkeypatch.setattr(provenance, "_PATIENCE", 0.2)
    began = time.monotonic()
    assert state_of(folder / "package") == expected
    assert time.monotonic() - began < 5


def test_each_start_is_kept_with_its_time_and_without_passwords_and_a_killed_one_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweeps/digits.py", "--study-storage", "postgresql://me:secret@db/optuna"])
    gpus = {"CPU": 16.0, "GPU": 8.0, "accelerator_type:H200": 1.0}
    killed = kept_start(tmp_path, [{"CPU": 2.0}], time.time())
    killed.__enter__()  # and nobody leaves it
    with kept_start(tmp_path, [gpus, {"CPU": 2.0}, gpus], time.time() - 3600):
        assert "seconds" not in json.loads((tmp_path / FILE).read_text())[1], "it runs"
    first, second = json.loads((tmp_path / FILE).read_text())
    assert "seconds" not in first
    assert 3600 <= second["seconds"] < 3660
    assert "secret" not in (tmp_path / FILE).read_text()
    assert second["command"].startswith("sweeps/digits.py --study-storage ")
    assert first["nodes"] == [{"nodes": 1, "cpus": 2.0, "gpus": 0.0, "gpu": ""}]
    assert second["nodes"][0] == {"nodes": 2, "cpus": 16.0, "gpus": 8.0, "gpu": "H200"}
    assert second["code"]["hardtune"] == state_of(Path(hardtune.__file__).parent)
    assert second["versions"].keys() >= {"python", "torch", "ray", "numpy"}
