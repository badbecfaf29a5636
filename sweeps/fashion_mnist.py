"""Which treatment of hardness helps most on Fashion-MNIST? Real images that a laptop can handle.

    python sweeps/fashion_mnist.py --data-dir DIR      24 trials: about an hour on 2 CPU cores (estimated)
    python sweeps/fashion_mnist.py --smoke             every code path in under a minute

The 70,000 images are downloaded if there is a network; otherwise `--data-dir` points at the idx files (Debian's package
dataset-fashion-mnist puts them in /usr/share/datasets/fashion-mnist). Shirts are confused with T-shirts, pullovers and
coats, so there is a recall gap to close: classes are equally large but differ widely in difficulty. The encoder is
`pixels`: standardised pixels and their principal components, no pre-trained network;
`--recipe encoder=ViT-B-32/openai` uses CLIP.
"""

from ray import tune

from hardtune import Recipe
from hardtune.sweep import Sweep, main

sweep = Sweep(
    name="fashion_mnist",
    data="fashion_mnist",
    recipe=Recipe(
        model="small_cnn",
        epochs=5,
        learning_rate=0.1,
        schedule="linear",
        warmup=0.2,
        crop_padding=1,
        members=4,
        scoring_members=4,
        encoder="pixels",
    ),
    space={
        "policy": "shift",  # the paper's ratio has no meaning for RMD, whose mean over all samples is 0
        "estimator": tune.choice(["aum", "el2n", "forgetting", "rmd"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.uniform(0.0, 1.5),
        "entropy_weight": tune.uniform(0.0, 0.4),
    },
    trials=24,
)

if __name__ == "__main__":
    main(sweep, doc=__doc__)
