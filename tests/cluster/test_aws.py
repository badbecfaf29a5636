"""What ``ray up`` makes of ``cluster.yaml`` on AWS: its own code against moto, which keeps AWS's books in memory.

Everything up to the running machines is real: the file, Ray's AWS code, boto3 and its checks. What moto cannot show:
whether AWS has such machines left, what its image boots into, and the commands on it (``test_launcher.py`` runs those
on other hosts).
"""

import copy
import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_LAUNCH_CONFIG, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

TEXT = (Path(__file__).parents[2] / "cluster.yaml").read_text()


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """EC2's client, and the file as Ray completes it; a head and a worker have been launched."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        patch.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))  # Ray leaves a new ssh key there
        import boto3
        from moto import mock_aws
        from ray.autoscaler._private.aws import config as ray_on_aws
        from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

        # It waits for a new role to be known everywhere.
        patch.setattr(ray_on_aws, "time", SimpleNamespace(time=time.time, sleep=lambda seconds: None))
        with mock_aws():
            ec2 = boto3.client("ec2", region_name="us-west-2")
            image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
            config = prepare_config(yaml.safe_load(TEXT.replace("ami-FILL-IN", image)))
            validate_config(config)
            config = ray_on_aws.bootstrap_aws(AWSNodeProvider.fillout_available_node_types_resources(config))
            provider = AWSNodeProvider(config["provider"], config["cluster_name"])
            for kind, node_type in (("head", "head"), ("worker", "gpu")):
                machine = copy.deepcopy(config["available_node_types"][node_type]["node_config"])
                tags = {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: node_type, TAG_RAY_LAUNCH_CONFIG: "as written"}
                provider.create_node(machine, tags, 1)
            yield ec2, config


def launched(ec2):
    """The machines that run, by Ray's name of their type."""
    machines = [machine for group in ec2.describe_instances()["Reservations"] for machine in group["Instances"]]
    return {
        tag["Value"]: machine for machine in machines for tag in machine["Tags"] if tag["Key"] == TAG_RAY_USER_NODE_TYPE
    }


def test_a_lasting_head_and_a_spot_worker_are_launched_with_room_on_their_disks(aws):
    ec2, _ = aws
    machines = launched(ec2)
    assert {name: machine["InstanceType"] for name, machine in machines.items()} == {
        "head": "m7i.2xlarge",
        "gpu": "g6.12xlarge",
    }
    assert {name: machine.get("InstanceLifecycle") for name, machine in machines.items()} == {
        "head": None,
        "gpu": "spot",
    }
    for machine in machines.values():
        (disk,) = machine["BlockDeviceMappings"]
        (volume,) = ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        assert (volume["Size"], volume["VolumeType"]) == (200, "gp3")


def test_trials_find_gpus_on_workers_and_nothing_on_the_head(aws):
    _, config = aws
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert "GPU" not in types["head"]["resources"]
    assert (types["gpu"]["resources"]["CPU"], types["gpu"]["resources"]["GPU"]) == (48, 4)


def test_the_world_reaches_ssh_only_and_the_machines_reach_each_other(aws):
    ec2, _ = aws
    groups = {tuple(group["GroupId"] for group in machine["SecurityGroups"]) for machine in launched(ec2).values()}
    ((group,),) = groups
    (rules,) = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    outside = [rule for rule in rules["IpPermissions"] if rule["IpRanges"] or rule["Ipv6Ranges"]]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in outside] == [("tcp", 22, 22)]
    inside = [rule for rule in rules["IpPermissions"] if rule["UserIdGroupPairs"]]
    assert [(rule["IpProtocol"], rule["UserIdGroupPairs"][0]["GroupId"]) for rule in inside] == [("-1", group)]
