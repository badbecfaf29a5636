"""Which treatment of hardness helps most on handwritten digits?

    python sweeps/digits.py                  32 trials: about 2 minutes on 2 CPU cores, no GPU, no download
    python sweeps/digits.py --smoke          every code path in under a minute

The data are the 1,797 images of 8x8 pixels that scikit-learn ships. Ensembles of 5 small networks are trained under
each treatment; Optuna looks for the best trade-off between fairness across classes (recall gap), accuracy and
calibration (ECE). The encoder is `pixels`: standardised pixels and their principal components, no pre-trained network.
"""

from ray import tune

from hardtune import Recipe
from hardtune.sweep import Sweep, main

sweep = Sweep(
    name="digits",
    data="digits",
    recipe=Recipe(
        model="small_cnn",
        epochs=10,
        batch_size=64,
        learning_rate=0.1,
        schedule="linear",
        warmup=0.2,
        flip=False,  # a mirrored 2 is no 2
        crop_padding=1,
        members=5,
        scoring_members=8,
        encoder="pixels",
        validation=0.3,  # 375 images: with fewer, one of them would move the recall gap more than a treatment does
    ),
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

if __name__ == "__main__":
    main(sweep, doc=__doc__)
