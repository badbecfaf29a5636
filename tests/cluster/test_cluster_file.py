"""``cluster.yaml`` is what Ray's launcher takes, for AWS and for one's own machines, before anybody pays for a node."""

import subprocess
from pathlib import Path

import pytest
import yaml
from launching import for_own_machines
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "cluster.yaml").read_text()
OWN = for_own_machines(TEXT, "10.1.1.1", ["10.1.1.2", "10.1.1.3"], Path("/key"), Path("/nfs"))

COMMANDS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture(params=[TEXT, OWN], ids=["aws", "own machines"])
def config(request):
    return prepare_config(yaml.safe_load(request.param))


def test_the_launcher_takes_the_file(config):
    validate_config(config)


def test_every_command_is_a_whole_shell_command(config):
    for name in COMMANDS:
        for command in config[name]:
            assert "\n" not in command
            subprocess.run(["bash", "-n", "-c", command], check=True)


def test_everything_that_is_copied_to_the_nodes_is_here(config):
    copied = set(config["file_mounts"].values())
    assert copied - {"~/.ray/auth_token"} == {name for name in copied if (ROOT / name).exists()}
    assert {"hardtune", "requirements.txt", "pyproject.toml"} <= copied


def test_the_head_trains_nothing_and_keeps_ports_to_itself(config):
    (start,) = [command for command in config["head_start_ray_commands"] if "ray start" in command]
    assert "--num-cpus=0" in start
    assert "dashboard-host" not in start
    (server,) = [command for command in config["head_start_ray_commands"] if "mlflow server" in command]
    assert "--host 127.0.0.1" in server


def test_aws_workers_are_preemptible_and_the_head_is_not():
    types = prepare_config(yaml.safe_load(TEXT))["available_node_types"]
    assert types["gpu"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["head"]["resources"] == {"CPU": 0}


def test_ones_own_machines_are_those_that_were_written_down():
    config = prepare_config(yaml.safe_load(OWN))
    assert config["provider"] == {"type": "local", "head_ip": "10.1.1.1", "worker_ips": ["10.1.1.2", "10.1.1.3"]}
    assert not config["initialization_commands"]
    assert "/shared" not in OWN
