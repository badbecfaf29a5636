"""Asking every node of a cluster the same question."""

import os
import signal
from pathlib import Path

import pytest

from hardtune import Recipe
from hardtune.errors import InputError
from hardtune.sweep import Sweep, cluster, engine
from hardtune.sweep.nodes import ask_every_node


def test_a_killed_worker_says_nothing_of_its_node_and_another_one_is_asked(tmp_path):
    def question(marker):
        if not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"

    with cluster.connected(None):
        (answer,) = ask_every_node(question, str(tmp_path / "marker"))
    assert (answer.value, answer.trouble) == ("alive", "")


def test_a_trials_share_is_of_the_nodes_that_were_seen_also_where_they_are_lost_by_now():
    assert cluster.share(1, None, [{"CPU": 0.0}, {"CPU": 4.0, "GPU": 2.0}]) == cluster.Share(1, 1.0)
    assert cluster.share(1, None, [{"CPU": 0.0}, {"CPU": 4.0}]) == cluster.Share(1, 0.0)
    with pytest.raises(InputError, match="a trial asks for 8 CPUs and 0 GPUs, and the largest node has 4 and 2"):
        cluster.share(8, 0, [{"CPU": 0.0}, {"CPU": 4.0, "GPU": 2.0}])


def test_rounding_costs_no_slot():
    assert cluster.Share(0.14, 0).slots({"CPU": 7.0}) == 50
    assert cluster.Share(0.15, 0).slots({"CPU": 7.0}) == 46


@pytest.mark.parametrize(
    ("gpus", "sweep", "at_once"),
    [
        (1, {}, 4),
        (2, {}, 4),
        (1, {"compile": True}, 8),
        (1, {"racing": 0.01}, 2),
        (1, {"racing": 0.01, "compile": True}, 2),
        (0.5, {"compile": True}, 1),
        (0, {}, 1),
        (1, {"members_at_once": 3, "racing": 0.01}, 3),
        (0, {"members_at_once": 3}, 3),
    ],
)
def test_a_whole_gpu_trains_some_networks_at_once_unless_one_says_otherwise(gpus, sweep, at_once):
    recipe = Recipe(compile=sweep.pop("compile", False))
    filled = engine._filled(cluster.Share(1, gpus), Sweep("digits", "digits", recipe, {}, **sweep))
    assert filled == cluster.Share(1, gpus, at_once)
