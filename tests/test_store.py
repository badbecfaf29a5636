"""What was computed once is found again; what is damaged is set aside, said, and computed again."""

import json
import multiprocessing
import pickle
from pathlib import Path

import numpy as np
import pytest

from hardtune import Store
from hardtune.errors import InputError
from hardtune.store import digest

IDENTITY = {"kind": "scores", "data": "abc", "seed": [0, 1]}
ARRAYS = {"aum": np.arange(5, dtype=np.float32), "loss": np.ones((2, 3))}


def entry(store: Store) -> Path:
    (path,) = Path(store.root).rglob("*.safetensors")
    return path


def test_what_was_put_is_got_back_bit_for_bit(tmp_path):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    found = Store(tmp_path).get(IDENTITY)
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_the_order_of_an_identity_does_not_matter_but_every_value_does(tmp_path):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    assert {"seed": [0, 1], "data": "abc", "kind": "scores"} in store
    assert {**IDENTITY, "seed": [0, 2]} not in store
    assert store.get({**IDENTITY, "data": "abd"}) is None


def test_a_truncated_file_is_set_aside_said_and_counts_as_absent(tmp_path):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    path = entry(store)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get(IDENTITY) is None
    assert path.with_name(path.name + ".corrupt").exists()
    store.put(IDENTITY, ARRAYS)
    assert store.get(IDENTITY) is not None


def test_one_flipped_bit_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    path = entry(store)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="checksum"):
        assert store.get(IDENTITY) is None


def test_a_file_that_holds_another_result_is_not_believed(tmp_path):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    mine = entry(store)
    other = {**IDENTITY, "seed": [9]}
    store.put(other, ARRAYS)
    (foreign,) = set(Path(store.root).rglob("*.safetensors")) - {mine}
    foreign.replace(mine)
    with pytest.warns(UserWarning, match="another result"):
        assert store.get(IDENTITY) is None


def test_a_pickle_in_place_of_a_result_is_never_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path, "exploded").touch, ())

    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    entry(store).write_bytes(pickle.dumps(Bomb()))
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get(IDENTITY) is None
    assert not Path(tmp_path, "exploded").exists()


def _write_often(root: str, value: float) -> None:
    store = Store(root)
    for _ in range(50):
        store.put(IDENTITY, {"aum": np.full(20_000, value)})


def test_concurrent_writers_leave_one_whole_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(str(tmp_path), float(i))) for i in range(3)]
    for writer in writers:
        writer.start()
    store = Store(tmp_path)
    while any(writer.is_alive() for writer in writers):
        found = store.get(IDENTITY)
        assert found is None or len(set(found["aum"])) == 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert [path.name for path in entry(store).parent.iterdir()] == [entry(store).name]


def test_any_fsspec_url_will_do():
    store = Store("memory://results")
    store.check_writable()
    store.put(IDENTITY, ARRAYS)
    found = Store("memory://results").get(IDENTITY)
    assert found is not None
    np.testing.assert_array_equal(found["aum"], ARRAYS["aum"])


@pytest.mark.parametrize("name", ["memory://results[1]/a*", "memory://what?"])
def test_brackets_and_stars_are_names_at_a_url_too(name):
    store = Store(name)
    store.check_writable()
    store.put(IDENTITY, ARRAYS)
    assert IDENTITY in store
    path = store._file(IDENTITY)
    store._files.pipe_file(path, b"damaged")
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get(IDENTITY) is None
    assert [entry.path for entry in store.entries()] == [f"{path}.corrupt"]


def test_a_damaged_file_that_cannot_be_set_aside_counts_as_absent_whatever_its_file_system_raises(monkeypatch):
    class NotAllowedError(Exception):
        """As a bucket's library has for those who may only read."""

    def refuse(*_):
        raise NotAllowedError

    store = Store("memory://read-only")
    store.put(IDENTITY, ARRAYS)
    store._files.pipe_file(store._file(IDENTITY), b"damaged")
    for name in ("cp_file", "mv", "rm_file"):
        monkeypatch.setattr(type(store._files), name, refuse)
    with pytest.warns(UserWarning, match="damaged"):
        assert store.get(IDENTITY) is None


def test_colons_are_a_part_of_a_folders_name(tmp_path):
    store = Store(tmp_path / "a::b")
    store.put(IDENTITY, ARRAYS)
    assert [path.name for path in tmp_path.iterdir()] == ["a::b"]
    assert Path(store.root) == tmp_path / "a::b"
    assert entry(store).is_relative_to(tmp_path / "a::b")


def test_a_path_that_was_made_of_a_url_or_nothing_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the store has no name"):
        Store("")
    with pytest.raises(InputError, match=r"URL such as s3://bucket/results: give"):
        Store(Path("s3://bucket/results"))


def fill(store, monkeypatch):
    """From now on the store's disk is full: what is written is cut off, and said to be."""
    whole = store._files.pipe_file

    def cut_off(path, data):
        whole(path, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._files, "pipe_file", cut_off)


def test_a_full_disk_is_not_filled_further_by_what_could_not_be_written(tmp_path, monkeypatch):
    store = Store(tmp_path)
    fill(store, monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        store.put(IDENTITY, ARRAYS)
    with pytest.raises(InputError, match="No space left"):
        store.check_writable()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("other", ["sets it aside", "mends it", "forbids writing"])
def test_a_damaged_file_that_somebody_else_sees_to_is_left_to_them(tmp_path, monkeypatch, other):
    store = Store(tmp_path)
    store.put(IDENTITY, ARRAYS)
    path = entry(store)
    whole = path.read_bytes()
    path.write_bytes(b"damaged")

    def meanwhile(data, identity):
        if other == "sets it aside":
            path.rename(f"{path}.corrupt")
        elif other == "mends it":
            path.write_bytes(whole)
        raise ValueError("it is damaged")

    def refuse(*paths):
        raise PermissionError("Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("hardtune.store._decode", meanwhile)
        if other == "forbids writing":
            patch.setattr(store._files, "mv", refuse)
        with pytest.warns(UserWarning, match="damaged"):
            assert store.get(IDENTITY) is None
    if other == "mends it":
        assert store.get(IDENTITY) is not None


def test_a_place_that_cannot_be_written_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write results"):
        Store(tmp_path / "file").check_writable()


def test_a_digest_tells_shape_type_and_content_apart():
    zeros = np.zeros(4, np.float32)
    others = [np.zeros((2, 2), np.float32), np.zeros(2, np.float64), np.array([0, 0, 0, 1], np.float32)]
    assert digest(zeros) == digest(zeros.copy())
    assert digest(zeros) not in {digest(other) for other in others}
    assert json.dumps(digest(zeros))
