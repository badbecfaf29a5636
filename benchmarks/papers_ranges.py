"""A sweep for racing.py to replay: alpha and entropy weight in the papers' whole ranges, on digits.

python benchmarks/papers_ranges.py        200 trials of 5 networks, some 20 minutes on 2 cores
"""

import dataclasses
import sys
from pathlib import Path

from ray import tune

sys.path.insert(0, str(Path(__file__).parents[1] / "sweeps"))

from digits import sweep as digits

from hardtune.sweep import main

sweep = dataclasses.replace(
    digits,
    name="papers-ranges",
    recipe=dataclasses.replace(digits.recipe, epochs=6),
    space={
        "policy": "shift",
        "estimator": tune.choice(["aum", "el2n", "forgetting", "rmd"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.uniform(0.0, 5.0),
        "entropy_weight": tune.uniform(0.0, 1.0),
    },
    trials=200,
)

if __name__ == "__main__":
    main(sweep, doc=__doc__)
