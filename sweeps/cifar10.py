"""The papers' grid on CIFAR-10: hardness-based resampling and difficulty-aware entropy regularisation together.

    python sweeps/cifar10.py                           on a machine with GPUs
    ray submit cluster.yaml sweeps/cifar10.py          on a cluster
    python sweeps/cifar10.py --smoke                   every code path in under a minute, on CPUs too

HBR's recipe: ResNet-18 with a CIFAR stem, 200 epochs, a scoring ensemble of 8, alpha in {1, 3, 5}. HBR finds that
resampling hardly changes the recall gap; compare the control's row and the test figures to see if that holds for you.
Cost: 8 scoring networks, then 5 per trial: 248 networks of 200 epochs, about 9 hours on an H200 (benchmarks/gpu.py),
minus what racing saves by stopping trials that are not worth finishing (docs/racing.md).
CLIP ViT-B-32 weights are downloaded once (about 600 MB), or read from a file:
--recipe encoder=ViT-B-32/openai@/path/weights.safetensors
"""

from ray import tune

from hardtune import Recipe, Treatment
from hardtune.sweep import Sweep, main

sweep = Sweep(
    name="cifar10",
    data="cifar10",
    recipe=Recipe(),
    space={
        "estimator": tune.choice(["aum", "el2n", "forgetting"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.choice([0.0, 1.0, 3.0, 5.0]),
        "entropy_weight": tune.choice([0.0, 0.1, 0.2, 0.3]),
    },
    first=[Treatment(alpha=1.0), Treatment(entropy_weight=0.2)],  # each paper's method alone
    racing=0.01,
    trials=48,
)

if __name__ == "__main__":
    main(sweep, doc=__doc__)
