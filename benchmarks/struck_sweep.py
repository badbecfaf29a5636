"""The sweep that benchmarks/faults.py strikes: fixed treatments, so that no proposal depends on what ended when.

Two of them are equivalent, one uses features and one uses gradients, so that every kind of preparation and the sharing
of networks are struck too. Two train on almost no data, which is what racing stops. A network takes a
second or two.
"""

import dataclasses
import functools
from typing import Any

from hardtune import Recipe, Treatment
from hardtune.sweep import Sweep, main, parser

TREATMENTS = (
    Treatment(alpha=1.0, policy="shift"),
    Treatment(alpha=0.0, estimator="aum", entropy_weight=0.2, entropy_target="constant"),
    Treatment(alpha=0.0, estimator="el2n", entropy_weight=0.2, entropy_target="constant"),
    Treatment(alpha=0.5, policy="shift", estimator="rmd", oversample="smote"),
    Treatment(loss="focal"),
    Treatment(entropy_weight=0.3),
    Treatment(alpha=1.5, policy="shift", estimator="grand", undersample="random", oversample="hard"),
    Treatment(loss="label_smoothing"),
    Treatment(prune="class", prune_rate=0.95),
    Treatment(prune="class", prune_rate=0.97),
)

flags = parser(__doc__)
flags.add_argument("--first", type=int, default=len(TREATMENTS), metavar="N", help="try the first N only")


def proposed(first: int, trial: Any) -> dict[str, Any]:
    """Trial i tries treatment i."""
    return dataclasses.asdict(TREATMENTS[trial.number % first])


def sweep(first: int = len(TREATMENTS), *, raced: bool = False) -> Sweep:
    """A sweep of the list's first treatments, as a search, which can be raced, or as a list."""
    recipe = Recipe(
        model="small_cnn",
        epochs=8,
        batch_size=64,
        schedule="linear",
        warmup=0.2,
        flip=False,
        crop_padding=1,
        members=3,
        scoring_members=4,
        encoder="pixels",
        validation=0.3,
        precision="float32",  # bit-identical in every process
    )
    space = functools.partial(proposed, first) if raced else TREATMENTS[:first]
    return Sweep(name="struck", data="digits", recipe=recipe, space=space, trials=first)


if __name__ == "__main__":
    options = flags.parse_args()
    main(sweep(options.first, raced=options.racing is not None), options)
