"""What the README says can be typed, and what it links to, is there."""

import re
from pathlib import Path

import pytest
import torch

from hardtune import load
from hardtune.commands import COMMANDS
from hardtune.training.weights import difficulty_weights

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
PROSE = re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)
LIBRARY, _, OWN_LOOP = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(OWN_TREATMENT,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "library.md").read_text(), re.DOTALL)


def test_the_library_in_a_few_lines(capsys):
    code = LIBRARY.replace("epochs=10, members=5", "epochs=1, members=2, scoring_members=2")
    assert code != LIBRARY
    exec(code, {})
    gap, ece = map(float, capsys.readouterr().out.split())
    assert 0 <= gap <= 1
    assert 0 <= ece <= 1


def test_an_own_training_loop_gets_every_score():
    labels = torch.arange(40) % 4
    images = torch.randn(40, 3, 8, 8)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    loader = [(ids, images[ids], labels[ids]) for ids in torch.arange(40).split(10)]
    names = {"dataset": labels, "device": "cpu", "epochs": 2, "loader": loader, "model": model}
    exec(OWN_LOOP, names)
    assert {"aum", "forgetting", "el2n_mean"} <= names["scores"].keys()
    assert {score.shape for score in names["scores"].values()} == {(40,)}


def test_an_own_training_loop_may_resample_and_regularise_by_the_scores():
    count = len(load("digits").train)
    scores = torch.rand(count).numpy()
    places = torch.cat([torch.arange(10), torch.arange(count - 10, count)])  # the last are made by SMOTE
    logits = torch.randn(20, 10, requires_grad=True)
    names = {"scores": {"aum": scores}, "device": "cpu", "places": places, "logits": logits}
    exec(OWN_TREATMENT, names)
    plan, labels, s = names["plan"], names["labels"], names["s"]
    assert len(plan) == len(names["images"]) == len(labels) == len(s) == count
    assert len(plan.images) >= 10
    assert labels[-1] == plan.labels[-1]
    assert s[-1] == difficulty_weights(scores)[plan.parents[-1]]
    names["loss"].backward()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)[)#]", PROSE))))
def test_what_it_links_to_is_there(link):
    assert (ROOT / link).exists()


def test_the_scripts_and_commands_that_it_names_are_there():
    scripts = set(re.findall(r"\b(?:sweeps|benchmarks)/\w+\.py", TEXT))
    assert len(scripts) > 5
    assert {script for script in scripts if not (ROOT / script).exists()} == set()
    commands = set(re.findall(r"python -m hardtune (\w+)", TEXT))
    assert commands
    assert commands <= set(COMMANDS)
