"""Sweeps that differ in their seed alone, taken together: what is one of them, and what their mean is."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from hardtune import Recipe, Treatment, load
from hardtune.errors import InputError
from hardtune.report import records
from hardtune.report.classes import class_rows, class_tables
from hardtune.report.comparison import Comparison, compared, tried
from hardtune.report.comparison_views import tables
from hardtune.report.pooled import alike, pooled, unlike
from hardtune.report.records import CONTROL, Record
from hardtune.report.sweeps import kept
from hardtune.sweep import Sweep
from hardtune.sweep.ledger import open_ledger

METHOD, OTHER = Treatment(alpha=0.5, policy="shift"), Treatment(loss="focal")
SWEEP = Sweep("pets", "digits", Recipe(members=2), [METHOD, OTHER])
SPLITS = {seed: load("digits").hold_out(0.1, seed) for seed in range(4)}


def record(number, treatment, accuracy, gap=0.0, recall=0.5, size=10.0):
    """Two networks that differ by 0.02, and, without each of 3 parts of the test images, a little more or less."""
    figures = {"test/accuracy": accuracy, "test/recall_hard_easy": gap, "final/accuracy": accuracy}
    spread = 0.0005 if number == CONTROL else 0.001
    parts = (-spread, 0.0, spread)
    return Record(
        number,
        treatment,
        "finished",
        {"test/accuracy": accuracy},
        per_class={"cat": {"size": size, "weight": 1.0, "recall": recall, "test_ece": None}},
        members={name: [value - 0.01, value + 0.01] for name, value in figures.items()},
        left_out={"test/accuracy": [accuracy + part for part in parts]},
        recalls={"cat": {"members": [recall - 0.01, recall + 0.01], "left_out": [recall + part for part in parts]}},
    )


def begun(storage, seed, *found, sweep=SWEEP, **changes):
    recipe = dataclasses.replace(sweep.recipe, seed=seed, **changes)
    ledger = open_ledger(dataclasses.replace(sweep, recipe=recipe), SPLITS[seed], storage, resume=False)
    ledger.resolved(lambda: dataclasses.replace(recipe, precision="float32", layout="channels_last"), "cpu")
    for one in found:
        records.write(ledger.trials, one)
    return ledger


@pytest.fixture
def three(tmp_path):
    """Sweeps by which the method gains 0.02, 0.03 and 0.07; the second numbers treatments otherwise."""
    gains = {0: 0.02, 1: 0.03, 2: 0.07}
    for seed, gain in gains.items():
        numbers = (1, 0) if seed == 1 else (0, 1)
        found = [
            record(CONTROL, Treatment(), 0.8 + 0.01 * seed, recall=0.5),
            record(
                numbers[0], METHOD, 0.8 + 0.01 * seed + gain, gap=0.1 * (-1) ** seed, recall=0.5 + gain, size=11 + seed
            ),
            record(numbers[1], OTHER, 0.8),
        ]
        begun(tmp_path, seed, *found)
    return tmp_path


def test_each_sweep_is_one_replication_of_the_difference(three):
    sweeps = kept(three, "pets")
    found = pooled(sweeps)
    assert [(one.number, one.treatment) for one in found] == [(CONTROL, Treatment()), (0, METHOD), (1, OTHER)]
    np.testing.assert_allclose(found[1].members["test/accuracy"], [0.82, 0.84, 0.89])
    np.testing.assert_allclose(found[1].left_out["test/accuracy"], 0.85 + np.array([-0.001, 0.0, 0.001]))
    np.testing.assert_allclose(found[1].members["test/recall_hard_easy"], [0.1, -0.1, 0.1])
    (row,) = compared(found, Comparison((METHOD,), metrics=("final/accuracy",)), over="sweeps")
    by_hand = ttest_rel([0.82, 0.84, 0.89], [0.8, 0.81, 0.82])
    assert (row["members"], row["over"]) == (3, "sweeps")
    assert row["difference"] == pytest.approx(0.04)
    assert row["p"] == pytest.approx(by_hand.pvalue)
    assert (row["low"], row["high"]) == pytest.approx(tuple(by_hand.confidence_interval()))


def test_tables_say_what_their_intervals_are_over(three):
    found = pooled(kept(three, "pets"))
    rows = compared(found, Comparison((METHOD,), metrics=("test/accuracy", "final/accuracy")), over="sweeps")
    (table,) = tables(rows)
    assert table.title.endswith("paired over 3 sweeps")
    said = (
        "over whole sweeps (each with its own scores, networks and, if drawn at random, held-out samples) and over "
        "test images (held-out accuracy: over sweeps alone); with endlessly many sweeps the median interval would"
    )
    assert said in table.caption
    (table,) = class_tables(class_rows(found[1:2], found[0], among=2, over="sweeps"))
    assert table.title.endswith("paired over 3 sweeps")
    assert "on one split" not in table.caption
    assert list(table.columns[2].cells) == ["12"], "samples in training are the mean over sweeps"
    alone = compared(found, Comparison((METHOD,), metrics=("final/accuracy",)), over="sweeps")
    assert "if drawn at random, held-out samples), on one test set" in tables(alone)[-1].caption


def test_what_an_older_sweeps_records_lack_of_a_class_has_no_mean():
    older, newer = (record(0, METHOD, 0.8), record(0, METHOD, 0.9))
    newer = dataclasses.replace(newer, per_class={"cat": {**newer.per_class["cat"], "hardness": 0.3}})
    sweeps = [SimpleNamespace(records=[one]) for one in (older, newer)]
    assert pooled(sweeps)[0].per_class["cat"]["hardness"] is None
    counted = dataclasses.replace(newer, per_class={"cat": {**newer.per_class["cat"], "test_size": 7}})
    for one, count in ((newer, None), (counted, 7)):
        both = [SimpleNamespace(records=[it]) for it in (one, counted)]
        assert repr(pooled(both)[0].per_class["cat"]["test_size"]) == repr(count), "images are whole"
    assert pooled(sweeps[::-1])[0].per_class["cat"]["recall"] == 0.5


def test_only_what_finished_in_each_is_compared(three):
    last = kept(three, "pets")[-1]
    records.write(last.trials, Record(1, OTHER, "failed", reason="it diverged"))
    found = pooled(kept(three, "pets"))
    assert [one.treatment for one in found if one.state == "finished"] == [Treatment(), METHOD]


@pytest.mark.parametrize("ending", ["failed", None])
def test_what_did_not_finish_everywhere_still_counts_in_the_correction(three, ending):
    """Else a treatment that fails, or has yet to be tried, would make the others look surer."""
    comparison = Comparison((METHOD, OTHER), metrics=("test/accuracy",))
    whole = {row["trial"]: row for row in compared(pooled(kept(three, "pets")), comparison, over="sweeps")}
    (three / "sweeps" / kept(three, "pets")[0].id / "trials" / "00001.json").unlink()
    if ending is not None:
        records.write(kept(three, "pets")[0].trials, Record(1, OTHER, ending, reason="it diverged"))
    found = pooled(kept(three, "pets"))
    assert set(tried(found)) == {METHOD, OTHER}, "as many as a table of classes is corrected for"
    (row,) = compared(found, comparison, over="sweeps")
    assert (row["of"], row["p"]) == (2, whole[row["trial"]]["p"])
    assert row["p_adjusted"] == pytest.approx(min(1, 2 * row["p"]))


def test_a_sweep_that_has_only_begun_does_not_keep_the_others_from_being_pooled(three):
    control = record(CONTROL, Treatment(), 0.8)
    begun(three, 3, control)
    began_again = begun(three, 1, control)
    sweeps = kept(three, "pets")
    mine = next(one for one in sweeps if one.recipe.seed == 2)
    pool = alike(mine, sweeps)
    assert [one.recipe.seed for one in pool] == [0, 1, 2]
    assert began_again.id not in [one.id for one in pool], "of this seed another has finished"


def test_alike_are_those_that_differ_in_their_seed_alone_and_of_a_seed_the_latest(three):
    control, method = record(CONTROL, Treatment(), 0.8), record(0, METHOD, 0.9)
    longer = begun(three, 3, control, method, epochs=7)
    begun(three, 3)
    again = begun(three, 1, control, method, record(1, OTHER, 0.9))
    sweeps = kept(three, "pets")
    mine = next(one for one in sweeps if one.recipe.seed == 0)
    assert [one.recipe.seed for one in alike(mine, sweeps)] == [1, 2, 0], "itself last"
    assert again.id in [one.id for one in alike(mine, sweeps)]
    says = f"no other sweep like {longer.id} with another seed .{again.id} is .*: its recipe epochs is .*seed=4"
    with pytest.raises(InputError, match=says):
        alike(next(one for one in sweeps if one.id == longer.id), sweeps)
    search = begun(
        three, 0, control, sweep=dataclasses.replace(SWEEP, name="search", space={"alpha": 1.0}, comparisons=())
    )
    with pytest.raises(
        InputError, match=f"{search.id} is a search, whose treatments are its own: pool sweeps of a list"
    ):
        alike(kept(three, "search")[0], [])


def test_it_is_said_in_what_a_sweep_with_another_seed_differs_besides(three):
    found = [record(CONTROL, Treatment(), 0.8), record(0, METHOD, 0.9)]
    longer = begun(three, 3, *found, epochs=7, members=4)
    fewer = begun(three, 3, *found, sweep=dataclasses.replace(SWEEP, space=[METHOD]))
    begun(three, 0, *found, epochs=8)  # of the same seed
    begun(three, 1, epochs=9)  # nothing has finished
    mine = next(one for one in kept(three, "pets") if one.recipe.seed == 0)
    said = dict(one.split(" is another sweep: ") for one in unlike(mine, kept(three, "pets")))
    usual = SWEEP.recipe.epochs
    assert said == {
        longer.id: f"its recipe epochs is 7, not {usual}, its recipe members is 4, not 2",
        fewer.id: f"its space lacks '{OTHER}'",
    }
