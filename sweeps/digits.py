"""Which treatment of hardness helps most on handwritten digits?

    python sweeps/digits.py                  32 trials: 1 to 6 minutes on 2 CPU cores, no GPU, no download
    python sweeps/digits.py --smoke          every code path in under a minute
    python sweeps/digits.py --everything     64 trials over every estimator, undersampling and oversampling, and pruning

The data are scikit-learn's 1,797 images of 8x8 pixels. Each treatment trains an ensemble of 5 small networks; Optuna
searches for the best trade-off between fairness across classes (recall gap), accuracy and calibration (ECE). The
encoder is `pixels`: standardised pixels and their principal components, no pre-trained network.
"""

import dataclasses
from typing import Any

from ray import tune

from hardtune.hardness.estimators import ESTIMATORS
from hardtune.needs import FROM_POOL
from hardtune.recipe import ON_DIGITS
from hardtune.resampling.oversamplers import OVERSAMPLERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.sweep import Sweep, main, parser

flags = parser(__doc__)
flags.add_argument(
    "--everything",
    action="store_true",
    help="search over all estimators, ways to under- and oversample, and pruning (image pools need --pool)",
)

sweep = Sweep(
    name="digits",
    data="digits",
    recipe=ON_DIGITS,
    space={
        "policy": "shift",  # the paper's ratio has no meaning for RMD, whose mean over all samples is 0
        "estimator": tune.choice(["aum", "el2n", "forgetting", "rmd"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.uniform(0.0, 2.0),
        "entropy_weight": tune.uniform(0.0, 0.4),
    },
    trials=32,
)


def everything(pool: str | None = None) -> Sweep:
    """The same search over all methods, in a conditional space: a function of an Optuna trial."""
    oversamplings = sorted(name for name, how in OVERSAMPLERS.items() if how.needs not in FROM_POOL or pool is not None)

    def space(trial: Any) -> dict[str, Any]:
        trial.suggest_categorical("estimator", sorted(ESTIMATORS))
        trial.suggest_categorical("undersample", sorted(UNDERSAMPLERS))
        trial.suggest_float("alpha", 0.0, 1.0)
        if trial.suggest_categorical("oversample", oversamplings) == "holdout":
            # It returns samples that pruning removed from a class, so enough must have been pruned.
            return {"policy": "shift", "prune": "class", "prune_rate": 0.5}
        if trial.suggest_categorical("prune", ["none", "dataset", "class"]) != "none":
            trial.suggest_float("prune_rate", 0.1, 0.3)
        return {"policy": "shift"}

    return dataclasses.replace(sweep, name="digits-everything", space=space, pool=pool, trials=64)


if __name__ == "__main__":
    options = flags.parse_args()
    main(everything(options.pool) if options.everything else sweep, options)
