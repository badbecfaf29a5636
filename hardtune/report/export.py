"""Exports a trial: its predictions and weights, all that is known of them, and the training set sample by sample."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hardtune import csv_files, durable
from hardtune.answers import Answers
from hardtune.checks import class_plans
from hardtune.data import Split
from hardtune.errors import InputError
from hardtune.member import Prepared, epochs_of, plan_for, weights_for
from hardtune.recipe import Recipe
from hardtune.report.metric_names import label
from hardtune.report.records import Record
from hardtune.report.sweeps import Kept
from hardtune.treatment import Treatment

SHOWN = {"final/accuracy": "max", "final/recall_gap": "min", "final/ece": "min"}
"""What the ``README.md`` has beside the sweep's own objectives, if these are others."""

README = """\
# {title}

{treatment} on {data}.

{figures}

[model.json](model.json) says everything that is known of it.
"""

PREDICTIONS = """
## Predictions

[predictions.npz](predictions.npz) has the logits of {of} of its {networks} networks. What a post-hoc treatment adds is
in them:

```python
import numpy as np

kept = np.load("predictions.npz")
logits, labels = kept["test_logits"], kept["test_labels"]  # (networks, samples, classes), (samples,)
right = logits.argmax(axis=2) == labels
recalls = {{str(name): float(right[:, labels == k].mean()) for k, name in enumerate(kept["classes"])}}
```

`members` are the networks' numbers; sample i is number i of the data set's test split{files}.
"""

HELD_OUT = """
`held_out_logits` and `held_out_labels` are those of held-out samples; `held_out_rows` says which rows of the training
split these are{files}.
"""

NETWORKS = """
## Networks

{members}

```python
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from hardtune.training.models import MODELS  # a model of your own: import the module that registers it, too

folder = Path(".")  # this one
about = json.loads((folder / "model.json").read_text())
member = about["members"][0]
network = MODELS[about["model"]](about["channels"], len(about["classes"]), about["image_size"])
network.load_state_dict(load_file(folder / member["file"]))
network.eval()

mean, std = (torch.tensor(about[name]).view(-1, 1, 1) for name in ("mean", "std"))
with torch.inference_mode():
    logits = network((images / 255 - mean) / std)  # of images of 0 to 255: (B, channels, height, width)
    logits += torch.tensor(member["posthoc"])  # 0 unless the treatment is post hoc; predictions.npz has it in it
names = [about["classes"][k] for k in logits.argmax(1)]
```

[training-set.csv](training-set.csv) has a line for each sample of the data set's training split (what an imbalance
left out has none): how often an epoch shows it to each network, and what it counts. Minimised is the mean of
w (loss − λ s H) over the images shown, w their `weight`, s their `entropy_weight`, λ the treatment's, H the entropy of
the softmax of the logits, and the loss (the treatment's) that of the logits − `class_offsets`.
"""


def make_room(folder: Path, kept: Kept, record: Record) -> None:
    """Make the folder; ``InputError`` if that fails, or if it holds anything but this trial's files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in folder.iterdir()}
        about = json.loads((folder / "model.json").read_text()) if "model.json" in there else {}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write to {folder}: {error}") from error
    if there and (about.get("sweep"), about.get("trial")) != (kept.id, record.trial):
        raise InputError(f"there are other files in {folder}: name a new folder with --out")


def exported(folder: Path) -> list[dict[str, Any]]:
    """What ``model.json`` says of the networks that are in the folder."""
    path = folder / "model.json"
    members: list[dict[str, Any]] = json.loads(path.read_text())["members"] if path.exists() else []
    return [member for member in members if (folder / member["file"]).exists()]


def exported_predictions(folder: Path) -> dict[str, NDArray[Any]]:
    """What is in the folder's ``predictions.npz``; empty without one."""
    path = folder / "predictions.npz"
    if not path.exists():
        return {}
    with np.load(path) as arrays:
        return dict(arrays)


def write_training_set(
    prepared: Prepared,
    recipe: Recipe,
    treatment: Treatment,
    members: int,
    files: Sequence[str] | None,
    path: Path,
) -> None:
    """A line for each sample that is trained on or held out, with three columns per member.

    What an imbalance left out of the data set's training split has no line.

    ``weight``: w of w (loss - λ s H), also for images made from it. ``copies``: how often an epoch shows it.
    ``synthesised``: how many images are made from it, or, from a pool, stand in for it. ``entropy_weight``: s, empty if
    the entropy term is off.

    Args:
        members: how many, from the first.
        files: those of all samples of that split, if any.
    """
    split = prepared.split
    columns: dict[str, Any] = {}
    for member in range(members):
        plan = plan_for(prepared, recipe, treatment, member)
        columns["weight"] = plan.class_weights[split.train.labels]  # the same for each member
        weights = weights_for(prepared, recipe, treatment, member, plan)
        columns[f"copies_{member}"] = np.bincount(plan.indices, minlength=len(split.kept))
        columns[f"synthesised_{member}"] = np.bincount(plan.parents, minlength=len(split.kept))
        columns[f"entropy_weight_{member}"] = [""] * len(split.kept) if weights is None else weights
    with csv_files.opened(path) as file:
        lines = csv.writer(file)
        lines.writerow(["row", *(["file"] if files else []), "class", "part", *columns])
        trained = zip(split.kept.tolist(), split.train.labels.tolist(), *columns.values(), strict=True)
        parts = {row: (label, "training", *of_it) for row, label, *of_it in trained}
        for row, label in zip(split.held.tolist(), split.held_out.labels[: len(split.held)].tolist(), strict=True):
            parts[row] = (label, "held-out", 0, *(0, 0, "") * members)
        for row, (label, *of_it) in sorted(parts.items()):
            lines.writerow([row, *([files[row]] if files else []), split.classes[label], *of_it])


def predictions_of(
    split: Split, networks: Mapping[int, Answers], training_files: Sequence[str], test_files: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The networks' logits with the labels, by name, to be written by ``numpy.savez``; empty without networks.

    ``members`` (M,): the networks' numbers. ``classes`` (K,). ``test_logits`` (M, N, K) and ``test_labels`` (N,).
    ``held_out_logits`` (M, H, K), ``held_out_labels`` (H,) and ``held_out_rows`` (H,), their places in the data set's
    training split; none of them if choices were made on the test split. ``test_files`` (N,) and ``held_out_files``
    (H,), if any.

    Args:
        networks: their answers, by number.
        training_files, test_files: those of all samples of these splits, if any.
    """
    each = list(networks.values())
    if not each:
        return {}
    arrays = {
        "members": np.array(list(networks)),
        "classes": np.array(split.classes),
        "test_logits": np.stack([answers.test for answers in each]),
        "test_labels": split.test.labels,
    }
    if test_files:
        arrays["test_files"] = np.array(test_files)
    if not split.chooses_on_test:
        arrays["held_out_rows"] = split.held
        arrays["held_out_logits"] = np.stack([answers.held_out for answers in each])
        arrays["held_out_labels"] = split.held_out.labels
        if training_files:
            arrays["held_out_files"] = np.array(training_files)[split.held]
    return arrays


def write_weights(network: torch.nn.Module, path: Path) -> None:
    """Write the network's state atomically: contiguous CPU tensors, floats as float32."""
    from safetensors.torch import save

    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    # Copies, since two names may share one tensor; save_file would make it unreadable to others.
    durable.write(path, save({name: v.clone(memory_format=torch.contiguous_format) for name, v in floats.items()}))


def write_about(
    folder: Path,
    kept: Kept,
    record: Record,
    prepared: Prepared,
    recipe: Recipe,
    *,
    predictions: Mapping[str, NDArray[Any]],
    members: Sequence[Mapping[str, Any]],
) -> None:
    """Write ``model.json``, and a ``README.md`` with the same for people, and how to load what is in the folder.

    Args:
        recipe: as the sweep resolved it.
        predictions: what is in ``predictions.npz``.
        members: for each network written so far, its ``file`` and what is known about it.
    """
    split = prepared.split
    height, width, channels = split.train.images.shape[1:]
    about = {
        "sweep": kept.id,
        "trial": record.trial,
        "state": record.state,
        "treatment": dataclasses.asdict(record.treatment),
        "recipe": dataclasses.asdict(recipe),
        "epochs": epochs_of(prepared, recipe, record.treatment),
        "data": split.name,
        "data_fingerprint": split.dataset_fingerprint,
        "model": recipe.model,
        "channels": channels,
        "image_size": min(height, width),
        "image_shape": [height, width, channels],
        "classes": split.classes,
        "mean": split.mean,
        "std": split.std,
        "class_offsets": [row.offset for row in class_plans(prepared, record.treatment)],
        "members": members,
        "figures": record.metrics,
    }
    durable.write(folder / "model.json", json.dumps(about, indent=1))
    trial = "The control" if record.is_control else f"Trial {record.number}"
    text = README.format(
        title=f"{trial} of {kept.id}",
        treatment=f"`{record.treatment}`",
        data=split.name,
        figures=_figures(record, kept),
    )
    if predictions:
        files = ", and `test_files` names its file" if "test_files" in predictions else ""
        text += PREDICTIONS.format(of=len(predictions["members"]), networks=recipe.members, files=files)
        if "held_out_rows" in predictions:
            text += HELD_OUT.format(files=", and `held_out_files` names their files" if files else "")
    if members:
        known = "\n".join(f"- `{member['file']}`: {member['compared']}." for member in members)
        text += NETWORKS.replace("{members}", known)
    durable.write(folder / "README.md", text)


def _figures(record: Record, kept: Kept) -> str:
    """A table of what the sweep measured, or why it did not."""
    ways = {**kept.objectives, **SHOWN}
    names = {
        name.removeprefix("final/"): f"{label(name)} {'↓' if way == 'min' else '↑'}"
        for name, way in ways.items()
        if name.startswith("final/") and name in record.metrics
    }
    if not names:
        reason = f" ({record.reason})" if record.reason else ""
        return f"The sweep has no figures of it: the trial {record.state}{reason}."
    lines = [f"| means over the trial's {kept.recipe.members} networks | {' | '.join(names.values())} |"]
    lines.append("|---" * (len(names) + 1) + "|")
    held_out = ("final", "held-out training data")
    test = (
        "test",
        "the test split" + (", which treatments were chosen on" if kept.selection_note and kept.is_search else ""),
    )
    for group, where in (test,) if kept.selection_note else (held_out, test):
        figures = [f"{record.metrics[f'{group}/{name}']:.4f}" for name in names]
        lines.append(f"| on {where} | {' | '.join(figures)} |")
    return "\n".join(lines)
