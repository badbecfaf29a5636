"""The doctor sees what is wrong, says how to fix it, and finds a healthy machine well."""

import subprocess
import sys
import time

import numpy as np
import pytest

from hardtune import load
from hardtune.sweep.health import Finding, _examine_encoder, examine_nodes
from hardtune.sweep.nodes import Answer


def answer(node="10.0.0.1", *, torch="2.12.1", gpus=(0, 0, 0), late=0.0, trouble=""):
    devices, ray, seen = gpus
    value = {
        "versions": {"python": "3.12.3", "ray": "2.60.0", "torch": torch},
        "gpus": {"devices": devices, "ray": ray, "torch": seen},
        "time": 1000.0 - late,
    }
    return Answer(node, None if trouble else value, trouble, received=1000.0)


def wrong(*answers) -> list[Finding]:
    findings = list(examine_nodes(answers))
    assert all(finding.fix for finding in findings if not finding.ok)
    return [finding for finding in findings if not finding.ok]


def test_equal_nodes_are_well():
    assert wrong(answer(gpus=(4, 4, 4)), answer("10.0.0.2", gpus=(4, 4, 4), late=0.5)) == []


def test_another_version_on_a_node_is_named():
    (finding,) = wrong(answer(), answer("10.0.0.2", torch="2.11.0"))
    assert finding.says == "torch is 2.11.0 on 10.0.0.2 and 2.12.1 on 10.0.0.1"


@pytest.mark.parametrize(
    "gpus",
    [(4, 4, 0), (4, 0, 0), (4, 2, 4), (0, 1, 0)],
    ids=["old driver", "Ray started without", "Ray counts too few", "made up"],
)
def test_gpus_that_cannot_be_used_are_counted(gpus):
    (finding,) = wrong(answer(gpus=gpus))
    devices, ray, seen = gpus
    assert "none: trials run on CPUs" not in [it.says for it in examine_nodes([answer(gpus=gpus)])]
    assert finding.says == f"10.0.0.1 has {devices} GPU devices; Ray counts {ray} and torch sees {seen}"


@pytest.mark.parametrize("late", [-60.0, 60.0])
def test_a_clock_that_is_off_is_named(late):
    (finding,) = wrong(answer(), answer("10.0.0.2", late=late))
    assert "60.0 s" in finding.says
    assert "10.0.0.2" in finding.says


def test_a_node_that_does_not_answer_is_wrong_and_the_others_are_still_examined():
    first, second = wrong(answer(trouble="no answer within 120 s"), answer("10.0.0.2"), answer("10.0.0.3", torch="2"))
    assert first.says == "10.0.0.1: no answer within 120 s"
    assert "10.0.0.3" in second.says


def doctor(tmp_path, *flags):
    command = [sys.executable, "-m", "hardtune", "doctor", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_one_machine_is_examined_and_what_is_wrong_with_it_told(tmp_path):
    (tmp_path / "file").write_text("")
    code, out = doctor(
        tmp_path,
        *("--storage", str(tmp_path / "file" / "results"), "--tracking-uri", "http://127.0.0.1:9"),
        *(
            "--study-storage",
            "postgresql://127.0.0.1:9/none",
            "--data",
            "digits",
            "--encoder",
            "ViT-B-32@/no/weights.pt",
        ),
    )
    assert code == 1
    bad = [line.split()[1] for line in out.splitlines() if line.startswith("BAD")]
    assert bad == ["storage", "tracking", "study", "weights"]
    assert out.count("    fix ") == 4
    assert out.rstrip().endswith("4 to fix")
    assert "digits: 1,258 training images" in out


@pytest.mark.slow
def test_a_healthy_machine_is_well(tmp_path):
    np.save(tmp_path / "features.npy", np.ones((1258, 3), np.float32))
    code, out = doctor(tmp_path, "--data", "digits", "--encoder", f"file:{tmp_path / 'features.npy'}")
    assert code == 0, out
    assert out.rstrip().endswith("all is well")


def test_a_file_of_features_must_fit_all_of_the_data(tmp_path):
    np.save(tmp_path / "features.npy", np.ones((4, 3), np.float32))
    (finding,) = _examine_encoder(f"file:{tmp_path / 'features.npy'}", load("digits"))
    assert "has features of 4 samples, but the whole training split of digits has 1258" in finding.says
    assert "of the whole training split, in its order" in finding.fix


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--address", "http://127.0.0.1:8265"), "doctor joins the cluster, which works on its nodes: ray exec"),
        (("--address", "127.0.0.1:9"), "no Ray cluster answers at '127.0.0.1:9'"),
        (("--encoder", "pixels"), "--encoder needs --data"),
    ],
)
def test_wrong_flags_get_a_sentence(tmp_path, flags, sentence):
    started = time.monotonic()
    code, out = doctor(tmp_path, *flags)
    assert code == 2
    assert sentence in out
    assert out.count("\n") == 1
    assert time.monotonic() - started < 120
