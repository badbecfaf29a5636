"""The control on the real CIFAR-10: recall per class next to the paper's, and how stable its AUM scores are.

    python benchmarks/control.py --data-dir ~/data --device cuda --epochs 200 --at-once 4
    python benchmarks/control.py --data-dir ~/data --model small_cnn --epochs 15 --learning-rate 0.2

HBR's recipe (arXiv 2504.07031) and protocol: all 50,000 training images, recall on the test images, 8 members; a
shorter run scales the schedule too. Writes its tables, the scores and the members' outputs to the folder ``--out``, so
that the same command resumes where it was stopped.

Needs no Ray, MLflow or Optuna: Python, torch with torchvision, scikit-learn, safetensors and fsspec suffice.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from interleaved import describe_machine
from numpy.typing import NDArray

from hardtune import Recipe, Store, Treatment, load
from hardtune.hardness.stability import Stability, assess
from hardtune.needs import Needs
from hardtune.resampling.counts import class_counts
from hardtune.scoring import gather
from hardtune.scoring_member import findings_of, score_member
from hardtune.training.choices import resolved
from hardtune.trial import Result, run_trial

HBR = (89.1, 92.2, 93.6, 95.9, 96.3, 96.6, 96.7, 96.9, 97.0, 97.9)
"""Class recalls of HBR's CIFAR-10 baseline, sorted; read off the authors' figure (± 0.1; 5 models, 200 epochs)."""
RATE = 0.3
NEEDS = Needs(frozenset({"aum"}))


def train_control(recipe: Recipe, data_dir: Path, device: str, at_once: int, out: Path) -> None:
    """Train the scoring ensemble, which is the control, and write its results."""
    recipe = resolved(recipe, device)
    split = load("cifar10", data_dir).hold_out(recipe.validation, recipe.seed)
    store = Store(out / "store")
    started = time.perf_counter()
    epochs_done = 0

    def on_epoch(epoch: int) -> None:
        nonlocal epochs_done
        epochs_done += 1
        spent = time.perf_counter() - started
        left = spent / epochs_done * (recipe.scoring_members * recipe.epochs - epochs_done)
        print(f"\r{epochs_done} of {recipe.scoring_members * recipe.epochs} epochs, {left:,.0f} s left  ", end="")

    def one(member: int) -> None:
        score_member(split, recipe, NEEDS, member, store, device=device, on_epoch=on_epoch)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(recipe.scoring_members)))
    minutes = (time.perf_counter() - started) / 60
    print(f"\r{recipe.scoring_members} members in {minutes:.1f} minutes{' ' * 20}")

    prepared = gather(split, recipe, NEEDS, store, device=device)
    result = run_trial(Treatment(), prepared, recipe, store, device=device)
    members = np.stack(
        [findings_of(split, recipe, NEEDS, m, store, device=device)["aum"] for m in range(recipe.scoring_members)]
    )

    def sizes(hardness: NDArray[np.float64]) -> NDArray[np.int64]:
        policy = "paper" if (hardness < 0).all() else "shift"
        have = np.bincount(split.train.labels, minlength=split.num_classes)
        return class_counts(hardness, have, 1.0, policy, low_is_hard=True, classes=split.classes)

    settled = assess(members, split.train.labels, split.num_classes, sizes=sizes, rate=RATE)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    text = report(recipe, result, split.classes, settled, f"{name}, {minutes:.1f} minutes, {recipe.precision}")
    (out / "control.md").write_text(text)
    np.savez_compressed(out / "aum.npz", aum=prepared.scores["aum"].astype(np.float16), labels=split.train.labels)
    print(text)
    print(f"written to {out}")


def report(recipe: Recipe, result: Result, classes: tuple[str, ...], settled: Stability, where: str) -> str:
    """The tables, as Markdown."""
    recall = 100 * result.test.recall
    order = np.argsort(recall.mean(axis=0))
    spread = recall.std(axis=0, ddof=1) if len(recall) > 1 else np.zeros(len(classes))
    metrics = result.metrics()
    lines = [
        f"    python benchmarks/{shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])}",
        "",
        f"{recipe.model}, {recipe.epochs} epochs, {recipe.members} members, trained on all training images; {where}.",
        "",
        "| class | recall on test images, % (± over members) | HBR's, by rank |",
        "|---|---|---|",
    ]
    theirs = HBR if len(classes) == len(HBR) else [float("nan")] * len(classes)
    for rank, k in enumerate(order):
        lines.append(f"| {classes[k]} | {recall[:, k].mean():.1f} ± {spread[k]:.1f} | {theirs[rank]:.1f} |")
    mean = f"{recall.mean():.1f} ± {recall.mean(axis=1).std(ddof=1) if len(recall) > 1 else 0:.1f}"
    lines += [
        f"| **mean** | {mean} | {np.mean(theirs):.1f} |",
        f"| **recall gap** (std over classes) | {100 * metrics['test/recall_gap']:.2f} | {np.std(theirs):.2f} |",
        f"| **ECE** | {100 * metrics['test/ece']:.2f} | |",
        "",
        "| members | change of class sizes as one joins | ρ of two ensembles that share none | same easiest 30 % |",
        "|---|---|---|---|",
    ]
    for size, (change, apart) in enumerate(zip(settled.change, settled.disjoint, strict=False), 1):
        agreement = f"{apart.rank_correlation.mean():.3f} | {apart.pruned_overlap.mean():.1%}"
        lines.append(f"| {size} | {change.mean():.1f} | {agreement} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data-dir", type=Path, required=True, help="the folder that has CIFAR-10 in it")
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    flags.add_argument("--model", default="resnet18")
    flags.add_argument("--epochs", type=int, default=200)
    flags.add_argument("--learning-rate", type=float, default=0.1)
    flags.add_argument("--members", type=int, default=8)
    flags.add_argument("--at-once", type=int, default=1, help="members that train beside each other")
    flags.add_argument("--compile", action="store_true", help="through torch.compile")
    flags.add_argument("--out", type=Path, default=Path("control-results"))
    options = flags.parse_args()
    describe_machine()
    recipe = Recipe(
        model=options.model,
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        members=options.members,
        scoring_members=options.members,
        compile=options.compile,
        validation="test",
    )
    train_control(recipe, options.data_dir, options.device, options.at_once, options.out)


if __name__ == "__main__":
    main()
