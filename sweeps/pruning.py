"""Does removing the easiest samples cost anything, and is it better to do it per class?

    python sweeps/pruning.py                        on digits: about 1.5 minutes on 2 CPU cores
    python sweeps/pruning.py --then-resample        prune per class, then return pruned images to hard classes
    python sweeps/pruning.py --data cifar10         the paper's recipe, for GPUs
    python sweeps/pruning.py --smoke                every code path in under a minute

The case study of hardness-based resampling (Pukowski & Osmani, arXiv 2504.07031): the easiest 10 to 70 % of the
training samples are removed, either from the whole data set, which shrinks easy classes, or from each class, which
keeps balanced data balanced. The estimator decides which samples are easy. The control's row on the front shows what
pruning costs; `python -m hardtune plan sweeps/pruning.py` shows what would be left of each class.
"""

from collections.abc import Sequence
from typing import Any

from ray import tune

from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Sweep, data_name, main, parser

ESTIMATORS = ("aum", "el2n", "forgetting", "rmd")

flags = parser(__doc__)
flags.add_argument(
    "--then-resample", action="store_true", help="search over alpha, and oversample hard classes with pruned images"
)
flags.add_argument(
    "--estimators",
    action="extend",
    nargs="+",
    metavar="NAME",
    help=f"estimators that rank the samples (default: {' '.join(ESTIMATORS)})",
)

RATES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def sweep(data: str = "digits", then_resample: bool = False, estimators: Sequence[str] = ESTIMATORS) -> Sweep:
    """The case study on one data set, or its sequel."""
    case_study = {
        "estimator": tune.choice(list(estimators)),
        "prune": tune.choice(["dataset", "class"]),
        "prune_rate": tune.choice(RATES),
    }

    def sequel(trial: Any) -> dict[str, Any]:
        trial.suggest_categorical("estimator", list(estimators))
        rate = trial.suggest_categorical("prune_rate", RATES)
        # Under `shift` a class gains less than alpha times its share of what is left, and pruning took `rate` of it.
        trial.suggest_float("alpha", 0.0, min(1.0, rate / (1 - rate)))
        return {"policy": "shift", "prune": "class", "oversample": "holdout"}

    return Sweep(
        name=f"{'pruning-resampled' if then_resample else 'pruning'}-{data_name(data)}",
        data=data,
        recipe=ON_DIGITS if data == "digits" else Recipe(),
        space=sequel if then_resample else case_study,
        objectives={"final/accuracy": "max", "final/recall_gap": "min"},
        trials=28,
    )


if __name__ == "__main__":
    options = flags.parse_args()
    main(sweep(options.data or "digits", options.then_resample, options.estimators or ESTIMATORS), options)
