"""The store can be looked after: listed, checked, and freed of what nobody needs."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from hardtune import Store
from hardtune.commands import main
from hardtune.report.sweeps import Kept

KEYS = [{"kind": "member", "n": 0}, {"kind": "member", "n": 1}, {"kind": "dynamics", "n": 0}]


@pytest.fixture
def storage(tmp_path):
    store = Store(tmp_path / "store")
    for key in KEYS:
        store.put(key, {"x": np.arange(1000.0)})
    return tmp_path


def run(capsys, storage, *arguments, code=0):
    with pytest.raises(SystemExit) as stop:
        main(["store", *arguments, "--storage", str(storage)])
    assert stop.value.code == code
    caught = capsys.readouterr()
    return caught.out + caught.err


def files(storage):
    return sorted((storage / "store").rglob("*.*"))


def damage(path: Path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 255
    path.write_bytes(data)


def test_ls_counts_by_kind(capsys, storage):
    out = run(capsys, storage, "ls").splitlines()
    assert [line.split()[:2] for line in out] == [["dynamics", "1"], ["member", "2"]]


def test_verify_sets_damaged_files_aside_and_says_so(capsys, storage):
    assert "3 of 3 results are whole" in run(capsys, storage, "verify")
    damage(files(storage)[0])
    out = run(capsys, storage, "verify", code=1)
    assert "checksum does not match" in out
    assert "2 of 3 results are whole" in out
    assert files(storage)[0].suffix == ".corrupt"
    assert "2 of 2" in run(capsys, storage, "verify")


@pytest.mark.parametrize("url", ["s4://bucket/results", "gs://bucket/results"])
def test_where_no_store_can_be_is_said_in_a_sentence(capsys, url):
    said = run(capsys, url, "ls", code=2)
    assert said.startswith(f"error: cannot open the store {url}/store: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("below", ["", "store"], ids=["a store of one's own", "a storage's"])
def test_a_store_is_found_and_what_lies_beside_its_results_is_left_alone(capsys, tmp_path, below):
    """A folder called store may well be somebody else's, and the storage a slip of the hand."""
    store = Store(tmp_path / below)
    for key in KEYS:
        store.put(key, {"x": np.arange(1000.0)})
    name = f"{'0' * 64}.safetensors"
    for place in (
        "notes.txt",
        "member/notes.txt",
        "member/model.safetensors",
        f"{'d' * 32}.jpg",
        name,
        f"another/member/{name}",
    ):
        path = tmp_path / below / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine")
        os.utime(path, (0, 0))
    mine = sorted(path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == 4)
    out = run(capsys, tmp_path, "ls").splitlines()
    assert [line.split()[:2] for line in out] == [["dynamics", "1"], ["member", "2"]]
    damage(next((tmp_path / below).glob("dynamics/*.safetensors")))
    assert "2 of 3 results are whole" in run(capsys, tmp_path, "verify", code=1)
    assert "removed 1 of 3 files" in run(capsys, tmp_path, "prune")
    assert "removed 2 of 2 files" in run(capsys, tmp_path, "prune", "--older-than", "0")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == mine


def test_a_storage_without_a_name_and_one_that_is_a_file_get_a_sentence(capsys, tmp_path):
    file = tmp_path / "afile"
    file.touch()
    assert run(capsys, "", "ls", code=2).startswith("error: the storage has no name: ")
    assert f"the storage is a folder, and {file} is a file" in run(capsys, file, "ls", code=2)


def test_brackets_in_a_path_are_no_markup(capsys, storage):
    folder = storage / "a[b]" / "[" / "c]"
    assert f"nothing is stored in {folder}/store" in run(capsys, folder, "ls")


def test_verify_notices_a_result_under_another_ones_name(capsys, storage):
    first, second, _ = files(storage)
    second.replace(second.with_name(first.name))
    assert "another result" in run(capsys, storage, "verify", code=1)


def test_prune_removes_leftovers_and_keeps_results_and_files_being_written(capsys, storage):
    damage(files(storage)[0])
    run(capsys, storage, "verify", code=1)
    folder = storage / "store" / "member"
    for name, age in (("young", 0), ("old", 7200)):
        path = folder / f"{'0' * 64}.safetensors.{name}.tmp"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    before = files(storage)
    assert "would remove 2" in run(capsys, storage, "prune", "--dry-run")
    assert files(storage) == before
    assert "removed 2" in run(capsys, storage, "prune")
    assert sorted(path.suffix for path in files(storage)) == [".safetensors", ".safetensors", ".tmp"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["verify"], "2 of 2 results are whole"), (["prune", "--older-than", "0"], "removed 3 of 3")],
)
def test_what_another_process_removes_meanwhile_is_no_error(capsys, storage, monkeypatch, arguments, says):
    listed = Store.entries

    def then_gone(store):
        found = listed(store)
        Path(found[0].path).unlink()
        return found

    monkeypatch.setattr(Store, "entries", then_gone)
    assert says in run(capsys, storage, *arguments)


def test_nothing_is_removed_by_age_under_a_running_sweep(capsys, storage):
    sweep = Kept(storage / "sweeps" / "pets-20260101-000000")
    sweep.folder.mkdir(parents=True)
    (sweep.folder / "sweep.json").write_text("{}")
    with sweep.lock:
        for named in (storage, storage / "store"):
            said = run(capsys, named, "prune", "--older-than", "0", code=2)
            assert f"sweep {sweep.id} is running on what is stored there" in said
        assert "would remove 3 of 3" in run(capsys, storage, "prune", "--older-than", "0", "--dry-run")
        assert "removed 0 of 3" in run(capsys, storage, "prune")
    assert "removed 3 of 3" in run(capsys, storage, "prune", "--older-than", "0")


def test_prune_removes_old_results_only_when_asked(capsys, storage):
    old = files(storage)[1]
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    run(capsys, storage, "prune", "--older-than", "41")
    assert len(files(storage)) == 3
    run(capsys, storage, "prune", "--older-than", "39")
    assert old not in files(storage)
    assert len(files(storage)) == 2


def test_an_empty_store_and_a_wrong_number_get_a_sentence(capsys, tmp_path):
    assert "nothing is stored" in run(capsys, tmp_path, "ls")
    for days in ("-1", "nan"):
        assert "--older-than must be at least 0" in run(capsys, tmp_path, "prune", "--older-than", days, code=2)


@pytest.mark.parametrize("flags", [("--older-than", "3"), ("--dry-run",)])
def test_flags_of_prune_are_refused_elsewhere(capsys, storage, flags):
    assert "--older-than and --dry-run are for prune, and this is ls" in run(capsys, storage, "ls", *flags, code=2)
