"""Checks for what can go wrong on clusters, before it does; each yields findings, good and bad."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from hardtune.errors import InputError, first_line
from hardtune.sweep.databases import study_database
from hardtune.sweep.nodes import Answer, ask_every_node, try_to_share
from hardtune.sweep.passwords import scrubbed, without_password
from hardtune.sweep.tracking_uri import check_tracking
from hardtune.sweep.versions import COMPUTING, versions

if TYPE_CHECKING:
    from hardtune.data import Dataset

MAX_SKEW = 2.0
"""Seconds by which clocks may differ; beyond that, MLflow's curves and logs from several nodes do not line up."""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    says: str
    fix: str = ""
    """How to fix it; empty if nothing is wrong."""

    @property
    def ok(self) -> bool:
        return not self.fix


def examine_nodes(answers: Sequence[Answer]) -> Iterator[Finding]:
    """Do nodes have the same versions and time, and see their GPUs? ``answers`` are from :func:`describe_node`."""
    for answer in answers:
        if answer.trouble:
            yield Finding("nodes", f"{answer.node}: {answer.trouble}", "see `ray status` and the raylet's log there")
    well = [answer for answer in answers if not answer.trouble]
    if not well:
        return
    yield from _versions(well)
    yield from _gpus(well)
    yield from _clocks(well)


def examine_storage(storage: Path) -> Iterator[Finding]:
    """Does every node see and write the storage, can it be locked, and is there room?"""
    storage = storage.expanduser()
    fix = "give --storage (or HARDTUNE_STORAGE) an absolute path on a file system that all nodes have mounted"
    if not storage.is_absolute() and len(_alive()) > 1:
        yield Finding("storage", f"{storage} is relative, and means another folder on every node", fix)
        return
    storage = storage.resolve()
    try:
        storage.mkdir(parents=True, exist_ok=True)
        answers = try_to_share(storage)
    except OSError as error:
        yield Finding("storage", f"cannot write to {storage}: {error}", fix)
        return
    bad = [answer for answer in answers if answer.trouble]
    for answer in bad:
        yield Finding("storage", f"{answer.node} does not share {storage}: {answer.trouble}", fix)
    if not bad:
        yield Finding("storage", f"{storage} is seen and written by {_count(answers)}")
    yield _lock(storage)
    free = shutil.disk_usage(storage).free / 1e9
    room = "free the disk or name another: the logits of a sweep can take some GB"
    yield Finding("storage", f"{free:.0f} GB free in {storage}", room if free < 5 else "")


def examine_tracking(uri: str) -> Iterator[Finding]:
    """Does MLflow accept records from here, the only place that writes them? Initialises a fresh database."""
    try:
        check_tracking(uri)
    except InputError as error:
        yield Finding("tracking", str(error), "start it (docs/cluster.md), or name another with --tracking-uri")
        return
    from mlflow import MlflowClient

    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except Exception as error:  # drivers, servers and databases each raise their own
        line = scrubbed(first_line(error), uri)
        yield Finding(
            "tracking", f"{without_password(uri)} does not answer queries: {line}", "see the server's log or database"
        )
    else:
        yield Finding("tracking", f"{without_password(uri)} answers, its database is initialised")


def examine_study_storage(url: str) -> Iterator[Finding]:
    """Can Optuna keep its study there? Initialises a fresh database."""
    try:
        study_database(url, "doctor")
    except InputError as error:
        yield Finding("study", str(error), "see docs/cluster.md on databases")
    else:
        yield Finding("study", f"Optuna can keep its study in {without_password(url)}")


def examine_data(
    name: str, data_dir: Path | None, encoder: str | None, image_size: int | None = None
) -> Iterator[Finding]:
    """Can the driver read the data here; do they fit every node's memory; are the weights on all nodes?"""
    from hardtune.data import load

    try:
        dataset = load(name, data_dir, image_size=image_size)
    except InputError as error:
        fix = "put the files there, or name other data; only the driver's machine reads them"
        yield Finding("data", str(error), fix)
        return
    train = dataset.train
    images = train.images.nbytes + dataset.test.images.nbytes
    yield Finding("data", f"{name}: {len(train):,} training images, {_size(images)} with the test images")
    needed = images + len(train) * 512 * 4  # the images, and features of 512 dimensions
    for node in _alive():
        store = node["Resources"].get("object_store_memory", 0)
        if store < 1.2 * needed:
            yield Finding(
                "memory",
                f"{node['NodeManagerAddress']} has an object store of {_size(store)} for {_size(needed)}",
                f"start Ray there with --object-store-memory={int(2 * needed)}, and /dev/shm no smaller",
            )
            break
    else:
        yield Finding("memory", f"every object store holds the {_size(needed)} that trials share")
    if encoder is not None:
        yield from _examine_encoder(encoder, dataset)


def _examine_encoder(encoder: str, dataset: Dataset) -> Iterator[Finding]:
    """A network is built on every node, for a few images; a feature file must match all images and be on all nodes."""
    from hardtune.hardness.encoders import check_encoder, encoder_identity

    fix = "--recipe encoder=MODEL@/shared/path/weights.safetensors, or put them in each node's hub cache"
    if encoder.startswith("file:"):
        fix = "make them of the whole training split, in its order, and put them where all nodes see them"
        try:
            check_encoder(encoder, dataset)
        except InputError as error:
            yield Finding("weights", str(error), fix)
            return
        answers = ask_every_node(encoder_identity, encoder)
    else:
        answers = ask_every_node(check_encoder, encoder, dataset.subset(classes=2, train=2, test=2, seed=0))
    bad = [answer for answer in answers if answer.trouble]
    for answer in bad:
        yield Finding("weights", f"{answer.node}: {answer.trouble}", fix)
    if not bad:
        yield Finding("weights", f"{encoder} loads on {_count(answers)}")


def examine_token() -> Iterator[Finding]:
    """Who may run code on this cluster?"""
    from ray._raylet import AuthenticationMode, get_authentication_mode  # type: ignore[attr-defined]

    if get_authentication_mode() == AuthenticationMode.TOKEN:
        yield Finding("token", "the cluster obeys those who have its token")
    else:
        fix = "`ray get-auth-token --generate`, copy ~/.ray/auth_token to all nodes, set RAY_AUTH_MODE=token on them"
        yield Finding("token", "whoever reaches Ray's ports can run code on the cluster", fix)


def describe_node() -> dict[str, Any]:
    """This node's versions, GPUs and time."""
    here = ray.get_runtime_context().get_node_id()
    ray_counts = int(next(node["Resources"].get("GPU", 0) for node in ray.nodes() if node["NodeID"] == here))
    devices = len(glob.glob("/dev/nvidia[0-9]*"))
    torch_sees = 0
    if devices or ray_counts:
        visible = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        code = "import torch; print(torch.cuda.device_count())"
        done = subprocess.run([sys.executable, "-c", code], env=visible, capture_output=True, text=True, check=False)
        torch_sees = int(done.stdout) if done.returncode == 0 else 0
    return {
        "versions": versions(COMPUTING),
        "gpus": {"devices": devices, "ray": ray_counts, "torch": torch_sees},
        "time": time.time(),
    }


def _versions(answers: Sequence[Answer]) -> Iterator[Finding]:
    reference = answers[0].value["versions"]
    alike = True
    for answer in answers[1:]:
        for name, version in answer.value["versions"].items():
            if version != reference[name]:
                alike = False
                says = f"{name} is {version} on {answer.node} and {reference[name]} on {answers[0].node}"
                yield Finding("versions", says, "pip install -r requirements.txt there, in the Python that runs Ray")
    if alike:
        named = ", ".join(f"{name} {reference[name]}" for name in ("python", "ray", "torch"))
        yield Finding("versions", f"{_count(answers)} with {named}, and the rest alike")


def _gpus(answers: Sequence[Answer]) -> Iterator[Finding]:
    good, unused = 0, False
    for answer in answers:
        gpus = answer.value["gpus"]
        if gpus["devices"] <= gpus["ray"] == gpus["torch"]:
            good += gpus["ray"]
            continue
        says = (
            f"{answer.node} has {gpus['devices']} GPU devices; Ray counts {gpus['ray']} and torch sees {gpus['torch']}"
        )
        fix = "update the driver to the CUDA version of torch (nvidia-smi, torch.version.cuda), restart Ray there"
        unused = True
        yield Finding("GPUs", says, fix)
    if good or not unused:
        yield Finding("GPUs", f"{good} that Ray counts and torch sees" if good else "none: trials run on CPUs")


def _clocks(answers: Sequence[Answer]) -> Iterator[Finding]:
    skews = {answer.node: answer.value["time"] - answer.received for answer in answers}
    worst = max(skews, key=lambda node: abs(skews[node]))
    fix = "keep time there: timedatectl set-ntp true" if abs(skews[worst]) > MAX_SKEW else ""
    yield Finding("clock", f"clocks are within {abs(skews[worst]):.1f} s of the driver's ({worst})", fix)


def _lock(storage: Path) -> Finding:
    """Whether the file system supports locks, which keep two drivers from running one sweep."""
    probe = storage / f".probe-{uuid.uuid4().hex}.lock"
    try:
        import fcntl  # not filelock, which makes do without locks where there are none

        with probe.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        return Finding("storage", f"{storage} cannot lock files: {error}", "mount it with locks (NFS 4, or flock)")
    finally:
        probe.unlink(missing_ok=True)
    return Finding("storage", "files there can be locked")


def _alive() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _size(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB" if amount >= 1e9 else f"{amount / 1e6:.1f} MB"


def _count(answers: Sequence[Answer]) -> str:
    return "1 node" if len(answers) == 1 else f"all {len(answers)} nodes"
