"""Names of a trial's figures, ``group/metric``: what each is measured on, which way it is better, how it is displayed.

:meth:`hardtune.trial.Result.metrics` lists the groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hardtune.errors import unknown
from hardtune.evaluation.metric import CALIBRATION, CORRUPTION_METRICS, METRICS, Better, directions
from hardtune.evaluation.ood import OOD_FIGURES, OOD_SCORES

GROUPS = ("final", "test", "ood", "corruptions")
"""Prefixes of the names of members' figures."""
HELD_OUT = ("final", "ensemble")
"""How the names of metrics begin that are measured on held-out samples."""
UNSEEN = ("test", "ood", "corruptions")
"""Name prefixes of metrics that are measured with the test split: the search never sees them."""
ACRONYMS = ("ECE", "NLL", "AUROC", "AUPR", "AURC", "eAURC", "FPR95", "MSP", "MAD", "F1")
"""How words of metrics' names are displayed."""
_ON_TEST = {"final": "test", "final_std": "test_std", "ensemble": "test_ensemble"}


def always_measured() -> set[str]:
    """Every name that ``Result.metrics`` of a sweep's trial always has; objectives are those not of the test split."""
    groups = ("final", "final_std", "ensemble", "test", "test_std", "test_ensemble")
    return {f"{group}/{name}" for group in groups for name in (*METRICS, "recall_hard_easy")}


def on_test(metric: str) -> str | None:
    """The test-split counterpart of a held-out metric; None for one that is from the test split itself.

    >>> on_test("final/ece"), on_test("ensemble/nll"), on_test("test/ece")
    ('test/ece', 'test_ensemble/nll', None)
    """
    group, _, name = metric.partition("/")
    return f"{_ON_TEST[group]}/{name}" if group in _ON_TEST else None


def mean_of(metric: str) -> str:
    """Of a standard deviation over members, the mean that it belongs to; any other metric is itself.

    >>> mean_of("final_std/ece"), mean_of("final/ece")
    ('final/ece', 'final/ece')
    """
    group, _, name = metric.partition("/")
    return f"{group.removesuffix('_std')}/{name}"


def is_spread(metric: str) -> bool:
    """Whether it is a standard deviation over members.

    >>> is_spread("final_std/ece"), is_spread("weights/std")
    (True, False)
    """
    return metric.partition("/")[0].endswith("_std")


def of_ensemble(metric: str) -> bool:
    """Whether it is measured on the averaged predictions, so that a trial has one of it, without a spread."""
    return metric.partition("/")[0] in ("ensemble", "test_ensemble")


def members_like(metric: str) -> str:
    """Of an ensemble's figure, the one of members that is better the same way; any other metric is itself.

    >>> members_like("test_ensemble/ece"), members_like("final/ece")
    ('test/ece', 'final/ece')
    """
    return f"test/{metric.partition('/')[2]}" if of_ensemble(metric) else metric


def figures_of_members(
    groups: Collection[str] = GROUPS, *, scaled: bool = True, metrics: Mapping[str, Better] | None = None
) -> dict[str, Better]:
    """The figures of each member that a comparison may use, by full name, and which way each is better.

    Args:
        groups: What is measured, of ``final``, ``test``, ``ood`` and ``corruptions``.
        scaled: Whether there are held-out samples besides the test split, to fit temperatures on.
        metrics: A sweep's metrics and which way each is better, if not those registered here.

    >>> figures_of_members(["corruptions"])
    {'corruptions/accuracy': 'max', 'corruptions/ece': 'min'}
    """
    judged: dict[str, Better] = {**(metrics or directions()), "recall_hard_easy": "min"}
    after_scaling = {f"{name}_scaled": METRICS[name].better for name in CALIBRATION if scaled}
    figures = {
        "final": judged,
        "test": judged | after_scaling,
        "ood": {f"{score}_{name}": way for score in (*OOD_SCORES, "mahalanobis") for name, way in OOD_FIGURES.items()},
        "corruptions": {name: METRICS[name].better for name in CORRUPTION_METRICS},
    }
    return {f"{group}/{name}": way for group in GROUPS if group in groups for name, way in figures[group].items()}


def better(metric: str, metrics: Mapping[str, Better] | None = None) -> Better:
    """``min`` or ``max``: which way a member's figure is better; ``metrics`` as for :func:`figures_of_members`.

    >>> better("test/ece_scaled"), better("ood/msp_auroc"), better("corruptions/accuracy")
    ('min', 'max', 'max')

    Raises:
        InputError: members have no such figure.
    """
    known = figures_of_members(metrics=metrics)
    if metric not in known:
        raise unknown("figure of a member", metric, known)
    return known[metric]


def direction(metric: str, objectives: Mapping[str, str]) -> str:
    """``min`` or ``max``: which way a trial's figure is better, on held-out samples.

    >>> direction("ensemble/accuracy_at_90", {}), direction("final_std/accuracy", {})
    ('max', 'min')
    """
    if metric in objectives:
        return objectives[metric]
    # An ensemble is judged as its members are; the less they differ, the better.
    return "min" if is_spread(metric) else better(f"final/{metric.partition('/')[2]}")


def labels(metrics: Iterable[str]) -> dict[str, str]:
    """The metrics' display names; those of held-out samples say so if others are of the test split.

    >>> labels(["final/recall_gap", "ensemble/nll"])
    {'final/recall_gap': 'recall gap', 'ensemble/nll': 'ensemble NLL'}
    >>> labels(["final/ece", "test/ece"])
    {'final/ece': 'held-out ECE', 'test/ece': 'test ECE'}
    """
    names = list(metrics)
    held_out = "held-out " if any(name.startswith(UNSEEN) for name in names) else ""
    return {name: held_out + label(name) if name.startswith(HELD_OUT) else label(name) for name in names}


def label(metric: str) -> str:
    """A metric's display name.

    >>> label("final/recall_gap"), label("ensemble/nll"), label("ood/msp_auroc"), label("final/piece")
    ('recall gap', 'ensemble NLL', 'OOD MSP AUROC', 'piece')
    """
    group, _, name = metric.rpartition("/")
    acronyms = {word.lower(): word for word in ACRONYMS}
    words = " ".join(acronyms.get(word, word) for word in name.split("_"))
    measured = {"final": "", "": "", "ood": "OOD ", "corruptions": "corrupted "}.get(group, f"{group} ")
    return measured.replace("_", " ") + words


def heading(metric: str) -> str:
    """What a column or panel of the metric is headed by; of the test split unless it says otherwise.

    >>> heading("test/ece"), heading("final/ece"), heading("test_ensemble/ece"), heading("ensemble/ece")
    ('ECE', 'held-out ECE', 'ensemble ECE', 'held-out ensemble ECE')
    """
    group, _, name = metric.partition("/")
    measured = {"test": "final", "test_ensemble": "ensemble"}.get(group, group)
    words = label(f"{measured}/{name}")
    words = words.replace("adaptive", "adapt.").replace("misclassification", "errors'")
    return f"held-out {words}" if group in HELD_OUT else words
