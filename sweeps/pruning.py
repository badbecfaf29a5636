"""Does removing the easiest samples cost anything, is it better to do it per class, and does it matter which go?

    python sweeps/pruning.py                        on digits: 2 to 8 minutes on 2 CPU cores
    python sweeps/pruning.py --data cifar10         real images: about an hour on 2 CPU cores (estimated)
    python sweeps/pruning.py --estimators el2n rmd  other scores than AUM decide which samples are easy
    python sweeps/pruning.py --then-resample        search: prune per class, then return pruned images to hard classes
    python sweeps/pruning.py --smoke                every code path in about a minute; of so few samples, some
                                                    treatments leave a class none, and say so

The case study of hardness-based resampling (Pukowski & Osmani, arXiv 2504.07031): the easiest 30, 50 or 70 % of the
training samples are removed, either from the whole data set, which shrinks easy classes, or from each class, which
keeps balanced data balanced. No search: each treatment is trained once, as an ensemble with one member per seed
(member i has the same seed in all treatments), and compared by paired confidence intervals. Two questions:

1. What does pruning cost (the control removes nothing)?
2. Is it better than removing random samples, which takes no scores, or the hardest, where wrong labels gather?
   And than random samples of which hard classes lose fewer (DRoP's quotas, Vysogorets et al., arXiv 2404.05579)?

All train for the same number of epochs, so those with fewer samples take fewer steps; `--recipe budget=steps` gives
them more epochs, for as many steps.
`python -m hardtune plan sweeps/pruning.py` shows what would be left of each class; docs/results/pruning.md has results.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from hardtune import Treatment
from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Comparison, Sweep, data_name, main, parser

flags = parser(__doc__)
flags.add_argument(
    "--then-resample", action="store_true", help="search over alpha, and oversample hard classes with pruned images"
)
flags.add_argument(
    "--estimators",
    action="extend",
    nargs="+",
    metavar="NAME",
    help="estimators that rank the samples (default: aum; to search: aum el2n forgetting rmd)",
)

on_digits = dataclasses.replace(ON_DIGITS, members=10, scoring_members=10)
on_cifar10 = Recipe(
    model="small_cnn", epochs=6, schedule="linear", warmup=0.2, members=6, scoring_members=6, encoder="pixels"
)


def sweep(data: str = "digits", estimators: Sequence[str] = ("aum",)) -> Sweep:
    """The case study on one data set; the key treatments come first, in case it is stopped."""
    rates = (0.5, 0.3, 0.7)
    by_lot = {rate: Treatment(prune="random", prune_rate=rate) for rate in rates}
    by_score = {
        rate: [
            dataclasses.replace(by_lot[rate], prune=prune, estimator=estimator)
            for estimator in estimators
            for prune in ("class", "dataset", "hardest")
        ]
        + [dataclasses.replace(by_lot[rate], prune="quotas", estimator="el2n_mean")]
        for rate in rates
    }
    treatments = [treatment for rate in rates for treatment in (by_lot[rate], *by_score[rate])]
    metrics = ("test/accuracy", "test/recall_gap", "test/worst_recall", "test/ece")
    against_lots = [Comparison(tuple(by_score[rate]), reference=by_lot[rate], metrics=metrics) for rate in rates]
    return Sweep(
        name=f"pruning-{data_name(data)}",
        data=data,
        recipe={"digits": on_digits, "cifar10": on_cifar10}.get(data, Recipe()),
        space=treatments,
        objectives={"final/accuracy": "max", "final/recall_gap": "min"},
        comparisons=[Comparison(tuple(treatments), metrics=metrics), *against_lots],
    )


def then_resample(data: str, estimators: Sequence[str] = ("aum", "el2n", "forgetting", "rmd")) -> Sweep:
    """Its sequel: how many pruned samples should return, and to which classes?"""

    def space(trial: Any) -> dict[str, Any]:
        trial.suggest_categorical("estimator", list(estimators))
        rate = trial.suggest_categorical("prune_rate", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
        # Under `shift` a class gains less than alpha times its share of what is left, and pruning took `rate` of it.
        trial.suggest_float("alpha", 0.0, min(1.0, rate / (1 - rate)))
        return {"policy": "shift", "prune": "class", "oversample": "holdout"}

    return Sweep(
        name=f"pruning-resampled-{data_name(data)}",
        data=data,
        recipe=ON_DIGITS if data == "digits" else Recipe(),
        space=space,
        objectives={"final/accuracy": "max", "final/recall_gap": "min"},
        trials=28,
    )


if __name__ == "__main__":
    options = flags.parse_args()
    asked = {"estimators": options.estimators} if options.estimators else {}
    main((then_resample if options.then_resample else sweep)(options.data or "digits", **asked), options)
