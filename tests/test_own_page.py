"""What docs/own.md registers can be trained with, as it says, and its table is resampled."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from hardtune import Recipe, Treatment, load, run
from hardtune.registry import _REGISTRIES, plug_in_code, plug_ins

PAGE = Path(__file__).parent.parent / "docs" / "own.md"
CODE, TABLE = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
RECIPE = Recipe(
    model="linear", epochs=1, members=1, scoring_members=1, batch_size=32, encoder="pixels", validation=0.25, flip=False
)


@pytest.fixture
def registered(monkeypatch, tmp_path):
    for registry in _REGISTRIES.values():
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_digests", {})
    (tmp_path / "own.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    exec(compile(CODE, str(tmp_path / "own.py"), "exec"), {"__name__": "own"})


def test_all_of_it_is_trained_with(registered):
    resampled = {"alpha": 1.0, "policy": "squared", "estimator": "norm", "undersample": "hardest"}
    regularised = {"entropy_weight": 0.1, "entropy_estimator": "crowded", "entropy_scale": "squared rank"}
    treatment = Treatment(
        **resampled,
        oversample="mirrored",
        prune="middling",
        prune_rate=0.2,
        **regularised,
        entropy_target="hard half",
        loss="squared error",
    )
    data = load("noise")
    result = run(treatment, data, RECIPE)
    assert 0 <= result.held_out.member_mean["geometric_recall"] <= 1
    assert sum(row.count for row in result.classes) == round(0.8 * (1 - RECIPE.validation) * len(data.train))


def test_all_of_it_goes_to_workers_and_is_part_of_the_keys(registered):
    names = set(re.findall(r'^@\S+\("([\w ]+)"', CODE, re.MULTILINE))
    sent = {name for entries in plug_ins().values() for name in entries}
    assert len(names) == 12
    assert names - sent == {"noise"}, "the driver reads the data"
    assert len(plug_in_code()) == len(sent)


def test_a_table_gets_the_counts_of_a_preview_by_smote():
    before = np.bincount(load_breast_cancer().target)
    names = {}
    exec(TABLE, names)
    hardness = [row.hardness for row in names["rows"]]
    after = np.bincount(names["labels"])
    assert np.argmax(hardness) == 0
    assert after[0] > before[0]
    assert after[1] == before[1]
    assert names["table"].shape == (after.sum(), 30)
    assert len(np.unique(names["table"], axis=0)) > before.sum() + 0.9 * (after - before).sum(), "made, not repeated"
