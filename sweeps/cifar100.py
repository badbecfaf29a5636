"""The papers' grid on CIFAR-100: hardness-based resampling and difficulty-aware entropy regularisation together.

    python sweeps/cifar100.py                          on a machine with GPUs
    ray submit cluster.yaml sweeps/cifar100.py         on a cluster
    python sweeps/cifar100.py --smoke                  every code path in under a minute, on CPUs too

HBR's recipe: ResNet-18 with a CIFAR stem, 200 epochs, a scoring ensemble of 8, alpha in {1, 2}. With 500 images a class
the hardest ones are few, which is where synthesised images (SMOTE) might earn their place.
Cost: 8 scoring networks, then 5 a trial: 248 networks of 200 epochs, at an H200's rate (benchmarks/gpu.py) 9 hours of
it, less those that racing spares: a trial stops after a member once its others are not expected to raise the front's
hypervolume by their part of a hundredth.
Weights of CLIP ViT-B-32 are downloaded once (about 600 MB), or read from a file:
--recipe encoder=ViT-B-32@/path/weights.safetensors
"""

from ray import tune

from hardtune import Recipe
from hardtune.sweep import Sweep, main

sweep = Sweep(
    name="cifar100",
    data="cifar100",
    recipe=Recipe(),
    space={
        "estimator": tune.choice(["aum", "el2n", "forgetting"]),
        "undersample": tune.choice(["easiest", "random"]),
        "oversample": tune.choice(["random", "hard", "smote"]),
        "alpha": tune.choice([0.0, 1.0, 2.0]),
        "entropy_weight": tune.choice([0.0, 0.05, 0.1, 0.2]),
    },
    racing=0.01,
    trials=48,
)

if __name__ == "__main__":
    main(sweep, doc=__doc__)
