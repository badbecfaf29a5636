"""``cluster.yaml`` on three real hosts: launched, used, robbed of a host, and taken down with the documented commands.

The file is the repository's own, with the lines changed that it says to change for one's own machines, and ``/shared``
a folder that the hosts really share. The part of the file that is AWS's: ``test_aws.py``.
"""

import json
import os
import re
import shutil
import signal
import socket
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hosts import Hosts, install, missing
from launching import Laptop, for_own_machines, wait_until
from PIL import Image

ROOT = Path(__file__).parents[2]

# The tests below are the days of one cluster's life, in order.
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why := missing()), reason=f"needs hosts of its own: {why}")]


def images_like_cifar100(folder: Path) -> None:
    """Noisy patterns in the layout of CIFAR-100 as folders of images."""
    rng = np.random.default_rng(0)
    for split, size in (("train", 24), ("test", 10)):
        for label in range(100):
            pattern = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1)))
            of_class = folder / split / f"class{label:02}"
            of_class.mkdir(parents=True)
            for i in range(size):
                noisy = pattern + rng.normal(0, 40, (32, 32, 3))
                Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(of_class / f"{i}.png")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    images_like_cifar100(folder / "shared" / "data" / "cifar100")
    with Hosts(folder / "hosts", ["ht-head", "ht-worker1", "ht-worker2"]) as hosts:
        laptop = Laptop(folder, hosts)
        head, *workers = [host.ip for host in hosts.hosts.values()]
        text = (ROOT / "cluster.yaml").read_text()
        laptop.config.write_text(for_own_machines(text, head, workers, hosts.key, laptop.shared))
        for host in hosts.hosts.values():
            install(host, ROOT / "requirements.txt")
        out = laptop.run("ray", "up", "-y", str(laptop.config))
        assert "Useful commands" in out
        # The head is ready; workers follow by themselves.
        status = ("ray", "exec", str(laptop.config), "ray status")
        wait_until(lambda: re.search(r"^ 3 local.cluster.node", laptop.run(*status), re.MULTILINE), 300)
        yield laptop
    for state in Path("/tmp/ray").glob("cluster-hardtune.*"):  # of the launcher, here
        state.unlink()


def test_the_doctor_finds_a_launched_cluster_well(laptop):
    command = "python -m hardtune doctor --data cifar100 --encoder pixels"
    report = laptop.run("ray", "exec", str(laptop.config), command)
    assert "all is well" in report
    assert "seen and written by all 3 nodes" in report
    assert "obeys those who have its token" in report


def test_storage_that_only_the_head_sees_is_refused(laptop):
    submit = ("ray", "submit", str(laptop.config), "sweeps/digits.py", "--", "--smoke", "--storage", "/mnt/results")
    out = laptop.run(*submit, code=1)
    assert re.search(r"error: node 198\.18\.77\.1[12] does not share /mnt/results \(.*give --storage a path", out)


def test_nothing_listens_to_the_network_that_has_no_password(laptop):
    head = next(iter(laptop.hosts.hosts.values()))
    for port in (5000, 8265):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((head.ip, port), timeout=2)
    with laptop.tunnel(8265) as jobs, pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{jobs}/api/jobs/", timeout=60)


def test_a_job_runs_what_is_in_the_working_directory(laptop):
    with laptop.tunnel(8265) as jobs:
        sweep = ("python", "sweeps/digits.py", "--smoke", "--concurrent", "1")
        job = ("ray", "job", "submit", "--working-dir", ".", "--", *sweep)
        out = laptop.run(*job, RAY_API_SERVER_ADDRESS=jobs, RAY_AUTH_MODE="token")
        assert "Pareto front of digits-smoke" in out


def test_a_submitted_sweep_outlives_its_terminal_and_a_host(laptop):
    flags = ("--smoke", "--trials", "6", "--recipe", "model=small_cnn")
    terminal = laptop.start("ray", "submit", str(laptop.config), "sweeps/cifar100.py", "--", *flags)
    sweeps = laptop.shared / "results" / "sweeps"
    wait_until(lambda: list(sweeps.glob("cifar100-smoke-*/trials/0*.json")), 300)
    os.killpg(terminal.pid, signal.SIGKILL)
    assert "closing this terminal leaves it running" in terminal.communicate()[0]
    laptop.hosts.hosts["ht-worker2"].kill()

    wait_until(lambda: list(sweeps.glob("cifar100-smoke-*/pareto.json")), 400)
    records = [json.loads(file.read_text()) for file in sweeps.glob("cifar100-smoke-*/trials/*.json")]
    assert [(record["state"], record["reason"]) for record in records] == [("finished", "")] * 7

    from mlflow import MlflowClient

    with laptop.tunnel(5000) as uri:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("cifar100-smoke")
        wait_until(
            lambda: "RUNNING" not in {run.info.status for run in client.search_runs([experiment.experiment_id])}, 120
        )
        runs = client.search_runs([experiment.experiment_id])
        assert [run.info.status for run in runs] == ["FINISHED"] * 8  # the sweep, the control and 6 trials
        recorded = {record["number"]: record["metrics"]["final/accuracy"] for record in records}
        children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        shown = {run.info.run_name: run.data.metrics["final/accuracy"] for run in children}
        assert shown == {"control" if n < 0 else f"trial {n}": accuracy for n, accuracy in recorded.items()}
        (parent,) = (run for run in runs if run not in children)
        assert {"pareto.png", "pareto.json"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_results_are_looked_at_there_and_brought_home(laptop, tmp_path):
    results = "python -m hardtune results cifar100-smoke"
    there = laptop.run("ray", "exec", str(laptop.config), results)
    assert "Pareto front of cifar100-smoke-" in there
    sweeps = laptop.shared / "results" / "sweeps"
    laptop.run("ray", "rsync-down", str(laptop.config), str(sweeps), f"{tmp_path}/results/")
    here = laptop.run(*results.split(), "--storage", str(tmp_path / "results"))
    fronts = [re.findall(r"\d\.\d{3} / \d\.\d{3}", out) for out in (here, there)]
    assert fronts[0] == fronts[1] != []


def test_the_cluster_goes_down_and_its_results_stay(laptop):
    head = next(iter(laptop.hosts.hosts.values()))
    laptop.run("ray", "down", "-y", str(laptop.config))
    with pytest.raises(OSError):  # noqa: PT011  refused, or no answer: either way it is gone
        socket.create_connection((head.ip, 6379), timeout=2)
    assert list((laptop.shared / "results" / "sweeps").glob("*/pareto.json"))
    shutil.rmtree(laptop.shared)
