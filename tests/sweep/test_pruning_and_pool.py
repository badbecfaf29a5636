"""Sweeps that prune, give back what was pruned, or add images of the user's own; scored by gradients on a cluster."""

import json

import numpy as np
import pytest
from ray import tune

from hardtune import Recipe, Treatment, load
from hardtune.sweep import Sweep, main, parser

QUICK = ("--recipe", "epochs=1", "members=1", "scoring_members=2")

POOLED = '''
"""Images of a pool, chosen in every way."""
from ray import tune
from hardtune import Recipe
from hardtune.sweep import Sweep, main

sweep = Sweep(
    "pooled", "digits",
    Recipe(model="small_cnn", epochs=1, batch_size=64, flip=False, crop_padding=1, members=1, scoring_members=2,
           encoder="pixels", validation=0.3),
    {"policy": "shift", "alpha": 1.0, "oversample": tune.choice(["pool_random", "pool_hard", "pool_mean"])},
    trials=3,
)
if __name__ == "__main__":
    main(sweep, doc=__doc__)
'''


def records(script):
    """The trials of the latest sweep."""
    return [json.loads(path.read_text()) for path in sorted(script.sweeps()[-1].glob("trials/0*.json"))]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    digits = load("digits")
    path = tmp_path_factory.mktemp("pool") / "pool.npz"
    np.savez(path, images=np.roll(digits.train.images, -1, axis=2), labels=digits.train.labels)
    return str(path)


def test_what_gradient_norms_call_easy_is_pruned_and_some_of_it_given_back(script):
    out = script.here("pruning.py", "--then-resample", "--estimators", "grand", "--trials", "2", *QUICK)
    assert "changes nothing" in out
    assert len(list(script.storage.glob("store/gradients/*"))) == 2  # one of each scoring member
    for record in records(script):
        treatment = record["treatment"]
        assert (treatment["prune"], treatment["oversample"], record["state"]) == ("class", "holdout", "finished")
        kept = sum(round((1 - treatment["prune_rate"]) * size) for size in (87, 89, 87, 90, 89, 89, 89, 87, 85, 88))
        sizes = [row["size"] for row in record["per_class"].values()]
        assert sum(sizes) == pytest.approx(kept, abs=5)  # each class is rounded on its own
        assert len(set(sizes)) > 3


@pytest.mark.parametrize(
    ("space", "noted"),
    [
        ({"alpha": tune.uniform(0, 1), "oversample": tune.choice(["random", "smote"])}, True),
        ([Treatment(alpha=1.0), Treatment(loss="focal", oversample="pool_hard")], True),
        ({"alpha": tune.uniform(0, 1), "oversample": tune.choice(["random", "pool_hard"])}, False),
        (lambda trial: {"alpha": 1.0}, False),
    ],
    ids=["a space", "a list", "drawn on", "a function"],
)
def test_a_pool_that_no_treatment_draws_on_is_noted_before_it_is_read(tmp_path, capsys, space, noted):
    pool = tmp_path / "pool.npz"
    pool.write_bytes(b"no images")
    with pytest.raises(SystemExit):
        main(
            Sweep("pooled", "digits", Recipe(model="small_cnn", encoder="pixels"), space, pool=str(pool)),
            parser("").parse_args(["--storage", str(tmp_path / "results")]),
        )
    out, err = capsys.readouterr()
    assert str(pool) in err, "it cannot be read"
    assert (f"\nnote: the pool {pool} makes no difference to any treatment in the space: " in out) == noted
    assert ("oversample pool_hard, pool_mean, pool_random\n" in out) == noted


def test_a_pool_is_judged_by_each_scoring_member_and_drawn_from_in_every_way(script, pool, tmp_path):
    path = tmp_path / "pooled.py"
    path.write_text(POOLED)
    script.here(str(path), "--pool", pool)
    found = records(script)
    assert {record["state"] for record in found} == {"finished"}
    assert all(record["treatment"]["oversample"].startswith("pool_") for record in found)
    assert all(sum(row["size"] for row in record["per_class"].values()) == 880 for record in found)
    assert len(list(script.storage.glob("store/pool/*"))) == 2  # one of each scoring member
