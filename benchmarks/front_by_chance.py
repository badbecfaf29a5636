"""What a search finds where no treatment has an effect: fronts of noise alone, as large as that of recorded sweeps.

    python benchmarks/front_by_chance.py             a few seconds

Every treatment is the control, but for the seeds: figures of trials are drawn with the covariance of networks in
the sweeps of benchmarks/recorded, around their trial's and their seed's mean. Held-out images, which all trials share,
would add noise.

without the control    searches in which some trial beats the control in everything
trials on the front    mean
gain                   of the front's hypervolume over the control's own, against twice the control's costs: mean
"""

from __future__ import annotations

import moocore
import numpy as np
from racing import RECORDED, read_csv
from rich.console import Console
from rich.table import Table

from hardtune.report.hypervolume import REFERENCE
from hardtune.report.pareto import pareto_mask

SEARCHES = 2000
SWEEPS = {"digits": 32, "fashion_mnist": 24}
"""How many trials their scripts make."""


def main() -> None:
    """Simulate both, and print a row for each."""
    table = Table("search", "trials", "without the control", "trials on the front", "gain")
    for name, trials in SWEEPS.items():
        costs = read_csv(RECORDED / f"{name}.csv").costs
        total, members, objectives = costs.shape
        noise = costs - costs.mean(axis=1, keepdims=True)
        noise -= noise.mean(axis=0)
        covariance = np.einsum("tmo,tmp->op", noise, noise) / ((total - 1) * (members - 1)) / members
        rng = np.random.default_rng(0)
        beaten, sizes, gains = 0, [], []
        for _ in range(SEARCHES):
            drawn = 1 + rng.multivariate_normal(np.zeros(objectives), covariance, size=1 + trials)
            on_front = pareto_mask(drawn, ["min"] * objectives)
            beaten += not on_front[0]
            sizes.append(on_front[1:].sum())
            reference = np.full(objectives, REFERENCE)
            gains.append(moocore.hypervolume(drawn / drawn[0], ref=reference) / (REFERENCE - 1) ** objectives - 1)
        row = (f"{beaten / SEARCHES:.0%}", f"{np.mean(sizes):.1f}", f"{np.mean(gains):+.0%}")
        table.add_row(name, str(trials), *row)
    Console().print(table)


if __name__ == "__main__":
    main()
