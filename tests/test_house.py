"""The rules that keep the project livable."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hardtune

ROOT = Path(__file__).parent.parent


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def tool(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_the_code_is_formatted_and_linted():
    run(tool("ruff"), "format", "--check", ".")
    run(tool("ruff"), "check", ".")


def test_the_types_hold():
    run(tool("mypy"))


def test_imports_go_down_floors_only():
    run(tool("lint-imports"))


@pytest.mark.parametrize(
    ("module", "stays_out"),
    [
        ("hardtune", ["torch", "numpy", "ray", "mlflow", "optuna", "sklearn"]),
        ("hardtune.trial", ["ray", "mlflow", "optuna", "matplotlib", "imblearn"]),
        ("hardtune.sweep", ["ray", "mlflow", "torch", "matplotlib"]),
        ("hardtune.sweep.prepare", ["ray.tune", "pandas", "mlflow", "optuna", "matplotlib"]),
        ("hardtune.sweep.cli", ["mlflow", "torch", "matplotlib"]),
    ],
)
def test_imports_stay_light(module, stays_out):
    run(sys.executable, "-c", f"import sys, {module}; assert not set(sys.modules) & {set(stays_out)!r}")


def test_the_modules_that_the_packages_docstring_names_have_something_in_them():
    named = re.findall(r"``(hardtune\.[\w.]+)``", hardtune.__doc__)
    assert named
    for name in named:
        own = [it for it in vars(importlib.import_module(name)).values() if getattr(it, "__module__", "") == name]
        assert own, f"nothing can be imported from {name}"


def test_a_trial_loads_no_more_than_it_needs():
    """Each worker of a sweep would wait for it: ``torch.compile`` alone takes longer than torch."""
    trial = """
import sys
from hardtune import Recipe, Treatment, load, run
recipe = Recipe(model="small_cnn", epochs=1, members=1, scoring_members=1, encoder="pixels", validation=0.3)
run(Treatment(), load("digits"), recipe)
assert not set(sys.modules) & {"torch._dynamo", "sympy", "torchvision", "matplotlib"}
"""
    run(sys.executable, "-c", trial)


def test_no_file_is_two_ideas_or_none():
    for path in [*ROOT.glob("hardtune/**/*.py"), *ROOT.glob("sweeps/*.py")]:
        assert path.stem not in ("utils", "helpers", "common"), f"{path} has no idea of its own"
        assert len(path.read_text().splitlines()) <= 330, f"{path} may be two ideas by now"


def test_every_public_function_and_class_says_what_it_does():
    missing = []
    for path in ROOT.glob("hardtune/**/*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"
        for node in tree.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert not missing


def test_requirements_pin_what_the_package_declares():
    pinned = set(re.findall(r"^([a-zA-Z0-9_.-]+)(?:\[.*\])?==", (ROOT / "requirements.txt").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[>=]", line)[0] for line in project["dependencies"]}
    assert declared <= pinned
