"""On a long tail, is it a class's size that matters, or its hardness? And should samples, weights or logits change?

    python sweeps/long_tail.py                       digits, the first class 10 times the last: within 2 minutes
    python sweeps/long_tail.py --data cifar10        CIFAR-10-LT: about 30 minutes on 2 CPU cores
    python sweeps/long_tail.py --data path/to/images     your classes as unequal as they are
    python sweeps/long_tail.py --imbalance 100       another ratio
    python sweeps/long_tail.py --smoke               every code path in about a minute

No search: each treatment is trained once, as an ensemble with one member per seed (member i has the same seed in all
treatments), and compared by paired confidence intervals, on the test split, which has no long tail. By size, all
classes count the same: random samples are removed and repeated, or only repeated, or losses weighted (by inverse class
frequency), or logits shifted (Menon et al., arXiv 2007.07314), in training or, post hoc, only those of the control's
predictions. By hardness (AUM), the hardest class gets twice what the easiest gets, as in sweeps/resampling.py, for its
size, or of equal sizes. Group DRO with classes as groups (`class_dro`; Sagawa et al., ICLR 2020) takes neither, and
weighs classes by their losses while it trains. Five questions:

1. Is either fairer than leaving the tail as it is (the control), and what does it cost?
2. Is hardness as good as size, which takes no scoring ensemble?
3. Are both better than size alone?
4. Are weights or logits better than samples?
5. Does it take sizes or scores at all, or do losses tell which classes need more weight?

For results, see docs/results/long_tail.md.
"""

import dataclasses

from hardtune import Treatment
from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Comparison, Sweep, data_name, main, parser

flags = parser(__doc__)

BALANCED = ("digits", "fashion_mnist", "cifar10", "cifar100")
on_digits = dataclasses.replace(ON_DIGITS, members=10, scoring_members=10)
on_cifar10 = Recipe(
    model="small_cnn", epochs=6, schedule="linear", warmup=0.2, members=6, scoring_members=6, encoder="pixels"
)


def sweep(data: str = "digits") -> Sweep:
    """The comparison on one data set; the key treatments come first, in case it is stopped."""
    by_size = Treatment(balance=1.0, undersample="random")
    by_hardness = Treatment(alpha=1.0, policy="shift", undersample="random")
    by_both = dataclasses.replace(by_hardness, balance=1.0)
    logits = dataclasses.replace(by_size, undersample="adjust", oversample="adjust")
    afterwards = dataclasses.replace(by_size, undersample="posthoc", oversample="posthoc")
    logits_by_both = dataclasses.replace(by_both, undersample="adjust", oversample="adjust")
    weights = dataclasses.replace(by_size, undersample="reweight", oversample="reweight")
    repeats = dataclasses.replace(by_size, undersample="none")
    harder = dataclasses.replace(by_hardness, alpha=2.0)
    calmer = dataclasses.replace(logits, entropy_weight=0.2, entropy_estimator="rmd_balanced")
    by_loss = Treatment(loss="class_dro")
    rivals = (by_hardness, harder, by_both, weights, logits, afterwards, by_loss)
    treatments = (
        by_size,
        by_hardness,
        by_both,
        logits,
        logits_by_both,
        afterwards,
        weights,
        repeats,
        harder,
        calmer,
        by_loss,
    )
    metrics = ("test/recall_gap", "test/worst_recall", "test/accuracy", "test/ece")
    return Sweep(
        name=f"long_tail-{data_name(data)}",
        data=data,
        imbalance=10.0 if data in BALANCED else 1.0,  # other data have a tail of their own
        recipe={"digits": on_digits, "cifar10": on_cifar10}.get(data, Recipe()),
        space=treatments,
        comparisons=[
            Comparison(treatments, metrics=metrics),
            Comparison(rivals, reference=by_size, metrics=metrics),
            Comparison((logits_by_both, afterwards, calmer), reference=logits, metrics=metrics),
        ],
    )


if __name__ == "__main__":
    options = flags.parse_args()
    main(sweep(options.data or "digits"), options)
