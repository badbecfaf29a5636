"""Which entropy weight is best? Optuna searches over it alone; everything else is fixed.

    python sweeps/entropy_weight.py                              on digits: about a minute on 2 CPU cores
    python sweeps/entropy_weight.py --objective ece              ECE, among weights that hardly lower accuracy
    python sweeps/entropy_weight.py --data cifar100              the paper's recipe, for GPUs
    python sweeps/entropy_weight.py --smoke                      every code path in under a minute

The loss is cross-entropy minus the entropy of each prediction, times the entropy weight and a weight from the sample's
difficulty (relative Mahalanobis distance; Cui et al., NeurIPS 2023). The objective is the negative log-likelihood of
single networks on held-out training data, a proper scoring rule that covers accuracy and calibration. (An ensemble is
less confident than its members, so that its best weight is lower.) A weight of 0 is the control: if nothing beats it,
its row on the front shows that.
"""

from ray import tune

from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Sweep, data_name, main, parser

flags = parser(__doc__)
flags.add_argument("--objective", choices=["nll", "ece"], default="nll", help="what is minimised (default: nll)")


def sweep(data: str = "digits", objective: str = "nll") -> Sweep:
    """The search on one data set."""
    return Sweep(
        name=f"entropy_weight-{data_name(data)}-{objective}",
        data=data,
        recipe=ON_DIGITS if data == "digits" else Recipe(),
        space={"entropy_weight": tune.uniform(0.0, 1.0)},
        objectives={f"final/{objective}": "min"},
        no_worse_than_control={"final/accuracy": 0.005} if objective == "ece" else {},
        trials=20,
    )


if __name__ == "__main__":
    options = flags.parse_args()
    main(sweep(options.data or "digits", options.objective), options)
