"""The page of methods names what exists, and all that exists."""

import ast
import importlib
import re
from pathlib import Path

import pytest

from hardtune.evaluation import METRICS
from hardtune.evaluation.ood import OOD_SCORES
from hardtune.hardness.estimators import ESTIMATORS
from hardtune.resampling.oversamplers import OVERSAMPLERS
from hardtune.resampling.policies import POLICIES
from hardtune.resampling.prune import PRUNERS
from hardtune.resampling.undersample import UNDERSAMPLERS
from hardtune.training.losses import LOSSES
from hardtune.training.weights import SCALES, TARGETS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "methods.md").read_text()
ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    for line in PAGE.splitlines()
    if line.startswith("| ") and "::test_" in line
]


def section(start):
    return PAGE[PAGE.index(f"## {start}") :].split("\n## ")[0]


@pytest.mark.parametrize("name", sorted({row[3].strip("`") for row in ROWS}))
def test_every_function_on_the_page_can_be_imported(name):
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[split:]:
            found = getattr(found, attribute)
        assert found.__doc__
        return
    pytest.fail(f"there is no module for {name}")


@pytest.mark.parametrize("test", sorted(set(re.findall(r"tests/[\w/]+\.py::\w+", PAGE))))
def test_every_test_on_the_page_exists(test):
    file, _, name = test.partition("::")
    tree = ast.parse((ROOT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_row_has_a_formula_a_source_a_function_and_a_test():
    assert len(ROWS) > 45
    for row in ROWS:
        assert len(row) == 5, row
        assert all(row), row
        assert row[4].startswith("`tests/"), row


def papers(text):
    found = re.findall(r"([A-Z][a-z]+) ((?:\d{4}, )*\d{4})", text)
    return {f"{name} {year}" for name, years in found for year in years.split(", ")}


def test_every_paper_that_is_used_is_listed_and_every_one_listed_is_used():
    listed = re.findall(r"^\| (\w+ [\d, ]+) \|", PAGE, re.M)
    assert papers(" ".join(listed)) == papers(PAGE[PAGE.index("\n## ") :])


@pytest.mark.parametrize(
    ("start", "registry"),
    [
        ("Estimators", ESTIMATORS),
        ("Counts", POLICIES),
        ("Undersampling", UNDERSAMPLERS),
        ("Oversampling", OVERSAMPLERS),
        ("Pruning", PRUNERS),
        ("Losses", LOSSES),
        ("Entropy weights", SCALES),
        ("Entropy targets", TARGETS),
        ("Metrics", METRICS),
        ("Foreign images", OOD_SCORES),
    ],
)
def test_every_registered_method_has_a_row_and_every_row_a_method(start, registry):
    assert set(re.findall(r"^\| `(\w+)` \|", section(start), re.M)) == set(registry)


@pytest.mark.parametrize(
    ("start", "registry"),
    [
        ("Undersampling", UNDERSAMPLERS),
        ("Pruning", PRUNERS),
        ("Counts", POLICIES),
        ("Losses", LOSSES),
        ("Entropy weights", SCALES),
        ("Entropy targets", TARGETS),
    ],
)
def test_a_rows_function_is_the_one_that_is_registered(start, registry):
    for name, function in re.findall(r"^\| `(\w+)` \|.*\| `(hardtune[\w.]+)` \|", section(start), re.M):
        module, _, attribute = function.rpartition(".")
        assert registry[name] is getattr(importlib.import_module(module), attribute)
