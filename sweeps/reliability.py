"""Does knowing which samples are hard make predictions more reliable? The paper's method, its rivals and controls.

    python sweeps/reliability.py                         on digits: about 3 minutes on 2 CPU cores
    python sweeps/reliability.py --data fashion_mnist    real images: about 1.5 hours on a laptop (estimated)
    python sweeps/reliability.py --smoke                 every code path in about a minute

No search: each treatment is trained once, as an ensemble with one member per seed (member i has the same seed in all
treatments), and compared by paired confidence intervals. The method subtracts the entropy of each prediction, weighted
by the sample's difficulty (relative Mahalanobis distance; Cui et al., NeurIPS 2023), from the cross-entropy. Questions:

1. Is it, or a rival, better than plain cross-entropy (the control)?
2. Does difficulty matter? `shuffled` gives the same weights to the wrong samples, `mean` the same weight to all.

The encoder is `pixels`: standardised pixels and their principal components, no pre-trained network;
`--recipe encoder=ViT-B-32/openai` uses CLIP, as the paper does. `--difficulty el2n_mean` takes what training itself
found hard, and needs no encoder. For results, see docs/results/reliability.md.
"""

import dataclasses

from hardtune import Treatment
from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Comparison, Sweep, data_name, main, parser

flags = parser(__doc__)
flags.add_argument(
    "--entropy-weight", type=float, default=0.3, metavar="X", help="for the method and its controls (default: 0.3)"
)
flags.add_argument("--difficulty", default="rmd", metavar="NAME", help="the score of difficulty (default: rmd)")

on_digits = dataclasses.replace(ON_DIGITS, members=10)
on_fashion_mnist = Recipe(
    model="small_cnn", epochs=5, schedule="linear", warmup=0.2, crop_padding=1, members=5, encoder="pixels"
)


def sweep(data: str = "digits", entropy_weight: float = 0.3, estimator: str = "rmd") -> Sweep:
    """The comparison on one data set."""
    difficulty, shuffled, mean, constant = (
        Treatment(entropy_weight=entropy_weight, entropy_estimator=estimator, entropy_target=target)
        for target in ("difficulty", "shuffled", "mean", "constant")
    )
    rivals = [Treatment(loss=name) for name in ("label_smoothing", "focal", "adaptive_focal", "crl")]
    figures = ("test/accuracy", "test/ece", "test/nll", "test/aurc")
    beyond = ("test/ece_scaled", "test/nll_scaled", "ood/msp_auroc", "corruptions/ece")
    treatments = (difficulty, shuffled, mean, constant, *rivals)
    return Sweep(
        name=f"reliability-{data_name(data)}",
        data=data,
        recipe={"digits": on_digits, "fashion_mnist": on_fashion_mnist}.get(data, Recipe()),
        space=treatments,
        ood="inverted" if data == "digits" else "digits",
        corruptions=["gaussian_noise", "defocus_blur", "fog", "contrast", "jpeg_compression"],
        severities=[1, 3, 5],
        comparisons=[
            Comparison(treatments, metrics=figures + beyond),
            Comparison((shuffled, mean), reference=difficulty, metrics=figures + beyond),
        ],
    )


if __name__ == "__main__":
    options = flags.parse_args()
    if not 0 < options.entropy_weight < float("inf"):
        flags.error(f"--entropy-weight must be a finite number above 0, got {options.entropy_weight}")
    main(sweep(options.data or "digits", options.entropy_weight, options.difficulty), options)
