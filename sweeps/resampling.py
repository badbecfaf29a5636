"""Do hard classes gain from more samples, and is hardness the reason? HBR's method, its parts and its control.

    python sweeps/resampling.py                      on digits: about 3 minutes on 2 CPU cores
    python sweeps/resampling.py --data cifar10       real images: about three hours on 2 CPU cores (estimated)
    python sweeps/resampling.py --smoke              every code path in about a minute

No search: each treatment is trained once, as an ensemble with one member per seed (member i has the same seed in all
treatments), and compared by paired confidence intervals. The method gives hard classes more samples and easy ones fewer
(Pukowski & Osmani, arXiv 2504.07031). Class sizes follow the policy `shift`: at alpha = 1 the hardest class is twice as
large as the easiest, at alpha = 2 about five times. Four questions:

1. Is it, or one of its parts, fairer than the unmodified data (the control), and what does that cost?
2. Does hardness matter? `reversed` applies the same amount of resampling in reverse, and `random/random` removes random
   samples of a class rather than its easiest.
3. Does it take other samples? `reweight` leaves all as they are, and lets their losses count for as much instead;
   `adjust` lets the odds of their labels, by a shift of the logits (Menon et al., arXiv 2007.07314), and `posthoc`
   shifts only those of the control's predictions, which takes no training at all.
4. Does it take scores? Group DRO with classes as groups (`class_dro`; Sagawa et al., ICLR 2020) has none, and weighs
   classes by their losses while it trains.

For results, see docs/results/resampling.md.
"""

import dataclasses

from hardtune import Treatment
from hardtune.recipe import ON_DIGITS, Recipe
from hardtune.sweep import Comparison, Sweep, data_name, main, parser

flags = parser(__doc__)

on_digits = dataclasses.replace(ON_DIGITS, members=10, scoring_members=10)
on_cifar10 = Recipe(
    model="small_cnn", epochs=6, schedule="linear", warmup=0.2, members=8, scoring_members=8, encoder="pixels"
)


def sweep(data: str = "digits") -> Sweep:
    """The comparison on one data set; the key treatments come first, in case it is stopped."""
    method = Treatment(alpha=1.0, policy="shift")
    by_lot = dataclasses.replace(method, undersample="random")
    wrong_way = dataclasses.replace(method, policy="reversed")
    repeats = dataclasses.replace(method, undersample="none")
    weights = dataclasses.replace(method, undersample="reweight", oversample="reweight")
    heavier = dataclasses.replace(repeats, oversample="reweight")
    logits = dataclasses.replace(method, undersample="adjust", oversample="adjust")
    afterwards = dataclasses.replace(method, undersample="posthoc", oversample="posthoc")
    by_loss = Treatment(loss="class_dro")
    resampled = (
        method,
        dataclasses.replace(method, alpha=2.0),
        wrong_way,
        by_lot,
        dataclasses.replace(method, oversample="smote"),
        dataclasses.replace(method, oversample="hard"),
        repeats,
        dataclasses.replace(method, oversample="none"),
    )
    fairness = ("test/recall_gap", "test/worst_recall", "test/recall_hard_easy", "test/recall_range")
    price = ("test/accuracy", "test/macro_f1", "test/ece", "test/nll")
    return Sweep(
        name=f"resampling-{data_name(data)}",
        data=data,
        recipe={"digits": on_digits, "cifar10": on_cifar10}.get(data, Recipe()),
        space=(*resampled, weights, heavier, logits, afterwards, by_loss),
        comparisons=[
            Comparison(resampled, metrics=fairness + price),
            Comparison((by_lot, wrong_way), reference=method, metrics=fairness + price),
            Comparison((weights, heavier, logits, afterwards, by_loss), metrics=fairness + price),
            Comparison((weights, logits, afterwards, by_loss), reference=by_lot, metrics=fairness + price),
            Comparison((heavier,), reference=repeats, metrics=fairness + price),
        ],
    )


if __name__ == "__main__":
    options = flags.parse_args()
    main(sweep(options.data or "digits"), options)
