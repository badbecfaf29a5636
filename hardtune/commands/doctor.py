"""What would go wrong on this cluster, and how to fix it.

    python -m hardtune doctor                                                     this machine only
    ray exec cluster.yaml "python -m hardtune doctor --data cifar100"             a launched cluster, from its head
    python -m hardtune doctor --address auto --storage /shared/results            a cluster running on this machine

Checks on every node: same versions, storage that all see, write and lock, MLflow reachable and its database
initialised, GPUs that Ray and torch agree on, data and weights present, enough memory, synchronised clocks, and an
access token. Nothing is trained. Exit codes: 0 all is well, 1 something is wrong, 2 invalid input.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hardtune.command_line import add_database_flags, add_image_size_flag, add_storage_flag, plain_console

if TYPE_CHECKING:
    from hardtune.sweep.health import Finding


def add_flags(flags: argparse.ArgumentParser) -> None:
    """Add flags for where the sweep would run, and on what."""
    address = os.environ.get("RAY_ADDRESS") or ("auto" if os.environ.get("RAY_API_SERVER_ADDRESS") else None)
    flags.add_argument(
        "--address",
        default=address,
        metavar="ADDR",
        help="the running Ray cluster to check (auto, host:6379; also: RAY_ADDRESS; default: Ray started here)",
    )
    add_storage_flag(flags)
    add_database_flags(flags)
    flags.add_argument("--data", metavar="NAME", help="also check for this data set: its name, or a folder's path")
    add_image_size_flag(flags)
    flags.add_argument("--data-dir", type=Path, metavar="DIR", help="where its files are (also: HARDTUNE_DATA)")
    flags.add_argument(
        "--encoder", metavar="NAME", help="with --data: check every node for this encoder's weights (ViT-B-32/openai)"
    )


def run(options: argparse.Namespace) -> int:
    """Print a line per finding; 0 if all are good, else 1."""
    from hardtune.errors import InputError

    if (options.address or "").startswith(("http://", "https://")):
        raise InputError(
            'doctor joins the cluster, which works on its nodes: ray exec cluster.yaml "python -m hardtune doctor"'
        )
    if options.encoder and not options.data:
        raise InputError("--encoder needs --data, since weights are checked against the images they are for")
    console = plain_console()
    bad = 0
    for finding in _findings(options):
        bad += not finding.ok
        mark = "[green]ok [/green]" if finding.ok else "[bold red]BAD[/bold red]"
        console.print(f"{mark} {finding.what:<9} ", end="", markup=True)
        console.print(finding.says, soft_wrap=True)
        if not finding.ok:
            console.print(f"    {'fix':<9} {finding.fix}", soft_wrap=True)
    console.print("all is well" if not bad else f"{bad} to fix")
    return int(bad > 0)


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    import ray

    from hardtune.store import local_folder
    from hardtune.sweep import cluster, health, nodes
    from hardtune.sweep.tracking_uri import default_uri

    storage = local_folder(options.storage)
    with cluster.connected(options.address):
        answers = nodes.ask_every_node(health.describe_node)
        resources = ray.cluster_resources()
        alive = "1 node" if len(answers) == 1 else f"{len(answers)} nodes"
        size = f"{alive}, {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs for trials"
        no_workers = "none is up: `ray status` says why; an autoscaled cluster starts one when a sweep asks"
        yield health.Finding("nodes", size, "" if resources.get("CPU") else no_workers)
        yield from health.examine_nodes(answers)
        yield from health.examine_storage(options.storage)
        yield from health.examine_tracking(options.tracking_uri or default_uri(storage))
        if options.study_storage:
            yield from health.examine_study_storage(options.study_storage)
        if options.data:
            yield from health.examine_data(options.data, options.data_dir, options.encoder, options.image_size)
        if options.address is not None:
            yield from health.examine_token()
