"""Of samples that are equally hard, none is among the hardest for being first."""

import numpy as np
import pytest

from hardtune.errors import InputError
from hardtune.report.hardest import class_table, finding_table, write_csv


def column(table, header):
    (found,) = [column for column in table.columns if column.header == header]
    return list(found.cells)


def test_classes_share_the_hardest_tenth_by_chance_where_it_ends_in_a_tie():
    labels = np.repeat(np.arange(4), 100)  # sorted, as a folder's images are
    scores = np.zeros(400)
    scores[[*range(10), *range(300, 310)]] = 1.0  # 20 above, so 20 more of 380 equals
    table = class_table(scores, labels, "abcd", "it")
    assert column(table, "class") == ["a", "d", "b", "c"]
    share = pytest.approx(100 * (10 + 20 * 90 / 380) / 40, abs=0.05)
    assert [float(cell[:-1]) for cell in column(table, "of the hardest 10%")[:2]] == [share] * 2
    backwards = class_table(scores[::-1], labels[::-1], "abcd", "it")
    assert column(backwards, "of the hardest 10%") == column(table, "of the hardest 10%")


def test_wrong_labels_are_found_by_chance_among_equals():
    wrong = np.arange(100) < 10
    table = finding_table({"sees": wrong.astype(float), "blind": np.zeros(100)}, wrong)
    assert column(table, "wrong, of the 10 hardest ↑") == ["100.0%", "10.0%"]


def test_a_file_whose_name_is_not_utf_8_is_listed_with_the_bytes_of_its_name(tmp_path):
    scores = {"aum": np.zeros(2)}
    files = ["caf\udce9.png", "straße.png"]  # as Python reads such a name
    write_csv(scores, np.zeros(2, np.int64), ["cat"], np.arange(2), files, tmp_path / "it.csv")
    lines = (tmp_path / "it.csv").read_bytes().splitlines()
    assert lines[1:] == [b"0,caf\xe9.png,cat,0.0", "1,straße.png,cat,0.0".encode()]


def test_of_columns_of_unequal_lengths_nothing_is_written(tmp_path):
    path = tmp_path / "it.csv"
    with pytest.raises(InputError, match="its columns are row of 2, class of 2, aum of 3"):
        write_csv({"aum": np.zeros(3)}, np.zeros(2, np.int64), ["cat"], np.arange(2), None, path)
    assert not path.exists()
