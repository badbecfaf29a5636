"""Copies of images in a folder are listed by their files."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from hardtune import Recipe, Treatment, load
from hardtune.sweep import Sweep
from hardtune.sweep.definition import THREE_OBJECTIVES
from hardtune.sweep.live import View
from hardtune.sweep.notes import say_what_is_doubtful

TREATMENTS = [Treatment(entropy_weight=0.1)]


@pytest.fixture
def folder(tmp_path):
    """Two classes; five test images of one are trained on, and the other has three images of it, too."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for part, size in (("train", 40), ("test", 12)):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for number in range(size):
                image = Image.fromarray(rng.integers(256, size=(4, 4, 3), dtype=np.uint8))
                image.save(tmp_path / "pets" / part / name / f"{number:02}.png")
    copy(tmp_path / "pets", "train/cat", "test/cat", range(5))
    copy(tmp_path / "pets", "train/cat", "train/dog", range(10, 13))
    return tmp_path / "pets"


def copy(folder, of, to, numbers):
    for number in numbers:
        (folder / to / f"{number:02}.png").write_bytes((folder / of / f"{number:02}.png").read_bytes())


def told(split, folder, storage):
    """What a sweep of these images says before its first trial."""
    view = View("s", THREE_OBJECTIVES, Console(file=io.StringIO(), width=400))
    say_what_is_doubtful(Sweep("s", str(folder), Recipe(), {}), split, TREATMENTS, storage, view)
    return view.console.file.getvalue()


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_names_copies_by_their_files_and_lists_them_all(folder, tmp_path):
    said = told(load(str(folder)).hold_out("test", 0), folder, tmp_path)
    pairs = [f"{folder}/test/cat/0{n}.png is {folder}/train/cat/0{n}.png" for n in range(3)]
    assert f"note: 5 of 24 test images are trained on, too ({', '.join(pairs)}, and 2 more), so figures" in said
    pairs = [f"{folder}/train/dog/{n}.png ('dog') is {folder}/train/cat/{n}.png ('cat')" for n in range(10, 13)]
    assert f"note: 3 of 80 training images are there as another class, too ({', '.join(pairs)}), and no" in said
    assert f"these copies are listed in {tmp_path / 'copies.csv'}, each beside the first image" in said
    rows = listed(tmp_path / "copies.csv")
    assert [(row["part"], row["copy_part"]) for row in rows] == [("test", "training")] * 5 + [("training",) * 2] * 3
    for row in rows:
        assert Path(row["file"]).read_bytes() == Path(row["copy_file"]).read_bytes()
        assert [Path(row[name]).parent.name for name in ("file", "copy_file")] == [row["class"], row["copy_class"]]
    assert [row["row"] for row in rows[5:]] == ["50", "51", "52"], "after 40 cats"


def test_rows_stay_those_of_the_folder_where_samples_are_held_out(folder, tmp_path):
    split = load(str(folder)).hold_out(0.25, 0)
    told(split, folder, tmp_path)
    rows = listed(tmp_path / "copies.csv")
    assert {row["copy_part"] for row in rows if row["part"] == "test"} == {"training", "held-out"}
    for row in rows:
        assert Path(row["file"]).read_bytes() == Path(row["copy_file"]).read_bytes()


def test_a_folder_that_changed_since_it_was_read_names_rows_rather_than_wrong_files(folder, tmp_path):
    split = load(str(folder)).hold_out("test", 0)
    (folder / "train" / "cat" / "00.png").unlink()
    said = told(split, folder, tmp_path)
    assert "(test image 0 ('cat') is training image 0 ('cat'), " in said
    assert listed(tmp_path / "copies.csv")[0]["file"] == ""


def test_copies_that_cannot_be_listed_are_told_all_the_same(folder, tmp_path):
    said = told(load(str(folder)).hold_out("test", 0), folder, tmp_path / "nowhere")
    assert "note: 5 of 24 test images are trained on" in said
    assert f"note: the copies could not be listed in {tmp_path / 'nowhere' / 'copies.csv'}: FileNotFoundError" in said
